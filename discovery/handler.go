package discovery

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"
)

const (
	// pollFor is how long a member waits for another one before it gets an empty answer, after which it asks again for the same
	// index: proxies on the way may end requests that take longer.
	pollFor = time.Minute
	// answerWithin bounds every other request.
	answerWithin = 5 * time.Second
	// maxBody is for form data: the longest registration with every octet escaped.
	maxBody = 4 * maxValue
	// maxWaiting is how many requests may wait for a member at a time.
	maxWaiting = 20_000
)

// Options configure a Handler.
type Options struct {
	// URL is how members reach this service, such as https://discovery.example.com; without it /new answers with the host
	// that it was asked by. Its path may be empty only.
	URL string
	// Conns is how many connections there may be at a time at a listener; 0 for maxWaiting. Others wait to be taken.
	Conns int
	// Rates per address; zero for DefaultRates.
	Rates Rates
	Log   *zap.Logger
}

// Handler serves discovery.etcd.io's paths and those of protocol 2. Whoever shuts the HTTP server down cancels the base
// context first, since members wait for minutes.
type Handler struct {
	registry *Registry
	o        Options
	visitors *visitors
	waiting  chan struct{}
	poll     time.Duration // pollFor
	metrics  *metrics
	mux      *http.ServeMux
}

// NewHandler returns a handler on a registry.
func NewHandler(r *Registry, o Options) *Handler {
	if o.Log == nil {
		o.Log = zap.NewNop()
	}
	h := &Handler{registry: r, o: o, visitors: newVisitors(o.Rates), waiting: make(chan struct{}, maxWaiting), poll: pollFor, metrics: newMetrics(), mux: http.NewServeMux()}
	for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodPut} {
		h.mux.HandleFunc(method+" /new", h.new)
	}
	h.mux.HandleFunc("GET /health", h.health)
	h.mux.Handle("GET /metrics", h.metrics.handler())
	for _, at := range []string{"", "/v2/keys/{prefix}"} {
		h.mux.HandleFunc("GET "+at+"/{token}/_config/size", h.getSize)
		h.mux.HandleFunc("PUT "+at+"/{token}/_config/size", h.putSize)
		h.mux.HandleFunc("GET "+at+"/{token}", h.getToken)
		h.mux.HandleFunc("GET "+at+"/{token}/{id}", h.getMember)
		h.mux.HandleFunc("PUT "+at+"/{token}/{id}", h.putMember)
	}
	return h
}

// ServeHTTP implements http.Handler.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if len(r.URL.Path) > 1 {
		r.URL.Path = strings.TrimSuffix(r.URL.Path, "/") // discovery.etcd.io takes a token with one
	}
	if !h.visitors.admit(r, time.Now()) {
		h.tooMany(w, r)
		return
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	h.mux.ServeHTTP(w, r)
}

// tooMany refuses a request by the rate of its address (RFC 6585 §4). Clients of etcd 2 to 3.6 take what is neither JSON nor 5xx for
// an answer that ends their start, and ask again after an error of the server's.
func (h *Handler) tooMany(w http.ResponseWriter, r *http.Request) {
	const why = "too many requests from this address"
	h.metrics.refused.WithLabelValues("rate").Inc()
	w.Header().Set("Retry-After", "1")
	if _, pattern := h.mux.Handler(r); !strings.Contains(pattern, "{token}") {
		http.Error(w, why, http.StatusTooManyRequests)
		return
	}
	writeKeys(w, http.StatusServiceUnavailable, keyError{Code: codeRaft, Message: "Raft Internal Error", Cause: why}, 0)
}

// new makes a token for ?size=N and answers with its URL, as discovery.etcd.io does.
func (h *Handler) new(w http.ResponseWriter, r *http.Request) {
	size := DefaultSize
	if s := r.FormValue("size"); s != "" {
		var err error
		if size, err = parseSize(s); err != nil {
			h.trouble(r, err)
			http.Error(w, err.Error(), statusOf(err))
			return
		}
	}
	ctx, cancel := context.WithTimeout(r.Context(), answerWithin)
	defer cancel()
	token := NewToken()
	if _, err := h.registry.Create(ctx, token, size); err != nil {
		h.trouble(r, err)
		http.Error(w, err.Error(), statusOf(err))
		return
	}
	h.metrics.created.Inc()
	_, _ = fmt.Fprint(w, h.base(r)+"/"+token)
}

// base is the service's URL, without a slash at its end.
func (h *Handler) base(r *http.Request) string {
	if h.o.URL != "" {
		return strings.TrimSuffix(h.o.URL, "/")
	}
	scheme := "http"
	if r.TLS != nil {
		scheme = "https"
	}
	return scheme + "://" + r.Host
}

// health is 200 OK while the store answers, by a quorum.
func (h *Handler) health(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), answerWithin)
	defer cancel()
	if _, err := h.registry.etcd.Get(ctx, prefix); err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	_, _ = fmt.Fprint(w, "OK")
}

// statusOf is the HTTP status for an error of the registry.
func statusOf(err error) int {
	var bad *badValue
	switch {
	case errors.As(err, &bad):
		return http.StatusBadRequest
	case errors.Is(err, ErrNoToken), errors.Is(err, ErrNoMember):
		return http.StatusNotFound
	case errors.Is(err, ErrExists):
		return http.StatusPreconditionFailed
	case errors.Is(err, ErrFull):
		return http.StatusForbidden
	case errors.Is(err, ErrNoRoom):
		return http.StatusInsufficientStorage
	}
	return http.StatusServiceUnavailable
}

// trouble logs what is the service's own: not what a request brought about, nor that a client left.
func (h *Handler) trouble(r *http.Request, err error) {
	status := statusOf(err)
	h.metrics.refused.WithLabelValues(strconv.Itoa(status)).Inc()
	if status >= http.StatusInternalServerError && r.Context().Err() == nil {
		h.o.Log.Warn("discovery: a request failed", zap.String("path", r.URL.Path), zap.Error(err))
	}
}

// clientOf is the address of a request's client.
func clientOf(r *http.Request) netip.Addr {
	a, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	return a.Addr().Unmap().WithZone("")
}
