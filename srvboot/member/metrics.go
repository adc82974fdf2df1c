package member

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
)

const (
	// maxMetrics bounds one scrape; etcd exports about 200 KiB.
	maxMetrics = 16 << 20
	// metricsPatience bounds the two sides of a scrape, and the reading of a question.
	metricsPatience = 5 * time.Second
)

// metricsHandler serves the default registry, in which etcd keeps its metrics.
func metricsHandler() http.Handler {
	return promhttp.HandlerFor(prometheus.DefaultGatherer, promhttp.HandlerOpts{})
}

// sameUserListener turns away processes of other users.
type sameUserListener struct{ net.Listener }

func (l sameUserListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if u, ok := c.(*net.UnixConn); ok && sameUser(u) == nil {
			return c, nil
		}
		c.Close()
	}
}

// errNotRunning says that there is nobody to ask.
var errNotRunning = errors.New("no etcd member runs on this node")

// Metrics scrapes the process: etcd's metrics, those of its gRPC server, and go_* and process_* of the child.
func (p *Process) Metrics(ctx context.Context) (out []*dto.MetricFamily, err error) {
	ctx, cancel := context.WithTimeout(ctx, metricsPatience)
	defer cancel()
	err = p.call(ctx, http.MethodGet, "/metrics", nil, func(resp *http.Response) error {
		dec := expfmt.NewDecoder(io.LimitReader(resp.Body, maxMetrics), expfmt.ResponseFormat(resp.Header))
		for {
			mf := &dto.MetricFamily{}
			if err := dec.Decode(mf); errors.Is(err, io.EOF) {
				return nil
			} else if err != nil {
				return fmt.Errorf("decode the member's metrics: %w", err)
			}
			out = append(out, mf)
		}
	})
	return out, err
}

// call asks the child on its control socket, and hands the answer to take, which is done with it when it returns.
func (p *Process) call(ctx context.Context, method, path string, body []byte, take func(*http.Response) error) error {
	if p.ended() {
		return errNotRunning
	}
	client := &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialAbstract(ctx, p.controlSocket)
		},
		DisableKeepAlives: true,
	}}
	req, err := http.NewRequestWithContext(ctx, method, "http://member"+path, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("ask the member: %w", err)
	}
	req.Header.Set("Accept", string(expfmt.NewFormat(expfmt.TypeProtoDelim)))
	resp, err := client.Do(req)
	if err != nil {
		return fmt.Errorf("ask the member: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, maxChange)) // the status says enough without it
		return &statusError{resp.StatusCode, strings.TrimSpace(string(text))}
	}
	return take(resp)
}

// statusError is an answer of the child that is none.
type statusError struct {
	code int
	text string
}

func (e *statusError) Error() string {
	return fmt.Sprintf("the member answers %d %s: %s", e.code, http.StatusText(e.code), e.text)
}
