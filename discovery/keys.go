package discovery

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
)

// node is a key of etcd 2 as its API shows it (client/v2/keys.go of release 3.5). Indices are revisions of the store.
type node struct {
	Key           string  `json:"key"`
	Value         *string `json:"value,omitempty"`
	Dir           bool    `json:"dir,omitempty"`
	Nodes         []*node `json:"nodes,omitempty"`
	ModifiedIndex int64   `json:"modifiedIndex"`
	CreatedIndex  int64   `json:"createdIndex"`
}

// answer is what etcd 2 says of a key.
type answer struct {
	Action string `json:"action"`
	Node   *node  `json:"node"`
}

// keyError is an error of etcd 2. Its clients know the code (server/etcdserver/api/v2error/error.go).
type keyError struct {
	Code    int    `json:"errorCode"`
	Message string `json:"message"`
	Cause   string `json:"cause"`
	Index   int64  `json:"index"`
}

// Codes of etcd 2.
const (
	codeKeyNotFound  = 100
	codeNodeExist    = 105
	codeUnauthorized = 110
	codeInvalidField = 209
	codeRaft         = 300
)

func nodeOf(dir string, e Entry) *node {
	return &node{Key: dir + "/" + e.Name, Value: &e.Value, ModifiedIndex: e.Created, CreatedIndex: e.Created}
}

// subject is what a request is about.
type subject struct {
	// token is the registry's: a prefix is part of it, so that one token below two prefixes is two.
	token, id string
	// dir is the token's key in etcd 2's words.
	dir string
}

// subjectOf reads and checks the path.
func subjectOf(r *http.Request) (s subject, err error) {
	s.token, s.id = r.PathValue("token"), r.PathValue("id")
	s.dir = "/" + s.token
	err = checkToken(s.token)
	if p := r.PathValue("prefix"); p != "" {
		err = errors.Join(err, checkToken(p))
		s.token, s.dir = p+":"+s.token, "/"+p+s.dir
	}
	if s.id != "" {
		err = errors.Join(err, checkID(s.id))
	}
	return s, err
}

// do runs a request about a key and writes its answer; index is for X-Etcd-Index, and 0 for the node's own.
func (h *Handler) do(w http.ResponseWriter, r *http.Request, call func(ctx context.Context, s subject) (status int, a answer, index int64, err error)) {
	ctx, cancel := context.WithTimeout(r.Context(), answerWithin)
	defer cancel()
	s, err := subjectOf(r)
	if err != nil {
		h.fail(w, r, err)
		return
	}
	status, a, index, err := call(ctx, s)
	if err != nil {
		h.fail(w, r, err)
		return
	}
	if index == 0 {
		index = a.Node.CreatedIndex
	}
	writeKeys(w, status, a, index)
}

func writeKeys(w http.ResponseWriter, status int, body any, index int64) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Etcd-Index", strconv.FormatInt(index, 10))
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // the client is gone
}

// fail answers with an error in the words of etcd 2.
func (h *Handler) fail(w http.ResponseWriter, r *http.Request, err error) {
	h.trouble(r, err)
	e := keyError{Code: codeRaft, Message: "Raft Internal Error", Cause: err.Error()}
	status := statusOf(err)
	switch status {
	case http.StatusBadRequest:
		e.Code, e.Message = codeInvalidField, "Invalid field"
	case http.StatusNotFound:
		e.Code, e.Message, e.Cause = codeKeyNotFound, "Key not found", r.URL.Path
	case http.StatusPreconditionFailed:
		e.Code, e.Message, e.Cause = codeNodeExist, "Key already exists", r.URL.Path
	case http.StatusForbidden, http.StatusInsufficientStorage:
		// Clients of etcd 2 retry what is 5xx for ever; a person has to see this.
		status, e.Code, e.Message = http.StatusForbidden, codeUnauthorized, "The request requires user authentication"
	}
	writeKeys(w, status, e, 0)
}

func (h *Handler) getSize(w http.ResponseWriter, r *http.Request) {
	h.do(w, r, func(ctx context.Context, s subject) (int, answer, int64, error) {
		e, err := h.registry.Size(ctx, s.token)
		return http.StatusOK, answer{"get", nodeOf(s.dir+"/_config", e)}, 0, err
	})
}

// putSize makes a token of one's own. A second time it may only say the same.
func (h *Handler) putSize(w http.ResponseWriter, r *http.Request) {
	h.do(w, r, func(ctx context.Context, s subject) (int, answer, int64, error) {
		size, err := parseSize(r.FormValue("value"))
		if err != nil {
			return 0, answer{}, 0, err
		}
		status := http.StatusCreated
		e, err := h.registry.Create(ctx, s.token, size)
		if errors.Is(err, ErrExists) && e.Value == strconv.Itoa(size) {
			status, err = http.StatusOK, nil
		} else if err == nil {
			h.metrics.created.Inc()
		}
		return status, answer{"set", nodeOf(s.dir+"/_config", e)}, 0, err
	})
}

// getToken lists a token's members, or waits for one.
func (h *Handler) getToken(w http.ResponseWriter, r *http.Request) {
	if waits(r) {
		h.wait(w, r)
		return
	}
	h.do(w, r, func(ctx context.Context, s subject) (int, answer, int64, error) {
		members, at, err := h.registry.Members(ctx, s.token)
		dir := &node{Key: s.dir, Dir: true}
		for _, m := range members {
			dir.Nodes = append(dir.Nodes, nodeOf(s.dir, m))
		}
		return http.StatusOK, answer{"get", dir}, at, err
	})
}

func (h *Handler) getMember(w http.ResponseWriter, r *http.Request) {
	if waits(r) {
		h.wait(w, r)
		return
	}
	h.do(w, r, func(ctx context.Context, s subject) (int, answer, int64, error) {
		e, err := h.registry.Member(ctx, s.token, s.id)
		return http.StatusOK, answer{"get", nodeOf(s.dir, e)}, 0, err
	})
}

// putMember registers a member, once, whatever prevExist says: what has been handed out must not change.
func (h *Handler) putMember(w http.ResponseWriter, r *http.Request) {
	h.do(w, r, func(ctx context.Context, s subject) (int, answer, int64, error) {
		value := r.FormValue("value")
		if err := checkRegistration(value); err != nil {
			return 0, answer{}, 0, err
		}
		e, err := h.registry.Register(ctx, s.token, s.id, value)
		if err == nil {
			h.metrics.registered.Inc()
		}
		return http.StatusCreated, answer{"create", nodeOf(s.dir, e)}, 0, err
	})
}

func waits(r *http.Request) bool { return r.URL.Query().Get("wait") == "true" }

// wait answers with the first registration from waitIndex on; with nothing after a minute, and then clients ask again.
func (h *Handler) wait(w http.ResponseWriter, r *http.Request) {
	s, err := subjectOf(r)
	from, bad := strconv.ParseInt(r.URL.Query().Get("waitIndex"), 10, 64)
	if err == nil && (bad != nil || from < 0) {
		err = &badValue{"waitIndex", r.URL.Query().Get("waitIndex"), "a revision"}
	}
	if err != nil {
		h.fail(w, r, err)
		return
	}
	select {
	case h.waiting <- struct{}{}:
		defer func() { <-h.waiting }()
	default:
		w.Header().Set("Retry-After", "5")
		h.fail(w, r, errors.New("too many members wait"))
		return
	}
	h.metrics.waiting.Inc()
	defer h.metrics.waiting.Dec()
	ctx, cancel := context.WithTimeout(r.Context(), h.poll)
	defer cancel()
	e, at, err := h.registry.Next(ctx, s.token, s.id, from)
	switch {
	case err == nil:
		writeKeys(w, http.StatusOK, answer{"create", nodeOf(s.dir, e)}, at)
	case ctx.Err() != nil:
		w.Header().Set("X-Etcd-Index", strconv.FormatInt(from, 10))
		w.WriteHeader(http.StatusOK)
	default:
		h.fail(w, r, err)
	}
}
