package discovery

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// passing is trouble that may pass: the service is asked again.
type passing struct{ err error }

func (e *passing) Error() string { return e.err.Error() }
func (e *passing) Unwrap() error { return e.err }

// Error implements error.
func (e *keyError) Error() string {
	return fmt.Sprintf("%s (%s), error %d", e.Message, e.Cause, e.Code)
}

func (j *Joiner) get(ctx context.Context, key string, query url.Values, within time.Duration) (*answer, int64, error) {
	return j.call(ctx, http.MethodGet, key, query, nil, within)
}

// call makes one request about a key of the token. The answer is nil when the service had nothing to say for so long.
func (j *Joiner) call(ctx context.Context, method, key string, query, form url.Values, within time.Duration) (*answer, int64, error) {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	u := j.base.JoinPath(key)
	u.RawQuery = query.Encode()
	var body io.Reader
	if form != nil {
		body = strings.NewReader(form.Encode())
	}
	req, err := http.NewRequestWithContext(ctx, method, u.String(), body)
	if err != nil {
		return nil, 0, err
	}
	if form != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	resp, err := j.client.Do(req)
	if err != nil {
		return nil, 0, &passing{err}
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return nil, 0, &passing{err}
	}
	return j.read(resp, text)
}

func (j *Joiner) read(resp *http.Response, text []byte) (*answer, int64, error) {
	switch {
	case resp.StatusCode >= 500 || resp.StatusCode == http.StatusTooManyRequests || resp.StatusCode == http.StatusRequestTimeout:
		return nil, 0, &passing{fmt.Errorf("%s says %s: %.200s", j.base.Host, resp.Status, text)}
	case resp.StatusCode == http.StatusOK || resp.StatusCode == http.StatusCreated:
		if len(text) == 0 {
			return nil, 0, nil
		}
		a := new(answer)
		if err := json.Unmarshal(text, a); err != nil {
			return nil, 0, fmt.Errorf("%w: %s answers %.60q", ErrNotAService, j.URL, text)
		}
		index, _ := strconv.ParseInt(resp.Header.Get("X-Etcd-Index"), 10, 64) // without one the list is read again soon
		return a, index, nil
	}
	e := new(keyError)
	if err := json.Unmarshal(text, e); err != nil || e.Code == 0 {
		return nil, 0, fmt.Errorf("%w: %s says %s, %.60q", ErrNotAService, j.URL, resp.Status, text)
	}
	return nil, 0, e
}
