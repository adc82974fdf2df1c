package node

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/etcd-dns/etcd-dns/certs"
	"github.com/etcd-dns/etcd-dns/srvboot"
)

// Limits of the admin port. A state holds 64 nodes' facts at most, far below the body limit; a peer that is slower
// than the timeouts is as good as silent.
const (
	adminBodyLimit   = 1 << 20
	adminReadTimeout = 5 * time.Second
	adminGrace       = 2 * time.Second
)

// booter is what the admin port needs of srvboot.Boot.
type booter interface {
	HandleState(from string, news srvboot.News) srvboot.State
	HandlePrepare(ctx context.Context, from string, req srvboot.Prepare) (srvboot.Reply, error)
	HandleAccept(ctx context.Context, from string, req srvboot.Accept) (srvboot.Reply, error)
	HandleOrder(ctx context.Context, o srvboot.Order) (srvboot.OrderReply, error)
	HandleBirthOrder(ctx context.Context, from string, o srvboot.BirthOrder) (srvboot.Reply, error)
}

// admin is the port at which nodes speak to each other, and the socket at which the operator's commands reach this
// node. The port asks for a certificate of this bundle's peer CA; the socket lies in a directory that only the
// node's user may enter.
type admin struct {
	bundle string
	tls    *tls.Config
	boot   booter
	// hear is told what a node that asks says of its list.
	hear   func(from string, news srvboot.News)
	status func() Status
	// zone returns what this node serves of a zone, by its absolute name; false if it serves no such zone, and then
	// zones names all that it does.
	zone   func(name string) (io.WriterTo, bool)
	zones  func() []string
	dnssec *dnssec
	// lines are those that every node's Corefile should have.
	lines func() []string
	// order sees to an operator's order, wherever the leader is.
	order func(context.Context, srvboot.Order) (srvboot.OrderReply, error)
	// orderBirth sees to one that concerns every node.
	orderBirth func(context.Context, srvboot.BirthOrder) (srvboot.OrderReply, error)
	log        *zap.Logger
}

// peerHandler serves the other nodes.
func (a *admin) peerHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/state", func(w http.ResponseWriter, r *http.Request) {
		if from, ok := a.caller(w, r); ok {
			says := r.URL.Query()
			news, _ := srvboot.ParseNews(says.Get("list")) // older nodes say nothing of it
			a.hear(from, news)
			s := a.boot.HandleState(from, news)
			if theirs := says.Get("corefile"); theirs != "" && theirs != s.Corefile {
				s.Lines = a.lines()
			}
			reply(w, s)
		}
	})
	mux.HandleFunc("GET /v1/dnssec", func(w http.ResponseWriter, r *http.Request) {
		if _, ok := a.caller(w, r); ok {
			reply(w, a.dnssec.answer())
		}
	})
	mux.HandleFunc("POST /v1/prepare", handle(a, a.boot.HandlePrepare))
	mux.HandleFunc("POST /v1/accept", handle(a, a.boot.HandleAccept))
	mux.HandleFunc("POST /v1/birth", handle(a, a.boot.HandleBirthOrder))
	mux.HandleFunc("POST /v1/order", handle(a, func(ctx context.Context, _ string, o srvboot.Order) (srvboot.OrderReply, error) {
		return a.boot.HandleOrder(ctx, o)
	}))
	return mux
}

// handle decodes a request of type T from an authenticated node and answers it.
func handle[T, R any](a *admin, do func(context.Context, string, T) (R, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		from, ok := a.caller(w, r)
		if !ok {
			return
		}
		var req T
		if err := json.NewDecoder(io.LimitReader(r.Body, adminBodyLimit)).Decode(&req); err != nil {
			http.Error(w, "the body is not the JSON of this request: "+err.Error(), http.StatusBadRequest)
			return
		}
		out, err := do(r.Context(), from, req)
		if err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		reply(w, out)
	}
}

// caller returns the node named by the client's certificate, of this bundle only.
func (a *admin) caller(w http.ResponseWriter, r *http.Request) (node string, ok bool) {
	bundle, node, err := certs.PeerIdentity(r.TLS)
	if err == nil && bundle != a.bundle {
		err = fmt.Errorf("the certificate is of bundle %s, this node's is %s", bundle, a.bundle)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusForbidden)
		return "", false
	}
	return node, true
}

func reply(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	// The peer is gone if this fails, and it will ask again.
	_ = json.NewEncoder(w).Encode(v)
}

// socketHandler serves this machine's operator.
func (a *admin) socketHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/status", func(w http.ResponseWriter, _ *http.Request) { reply(w, a.status()) })
	mux.HandleFunc("GET /v1/zone", a.serveZone)
	mux.HandleFunc("POST /v1/order", a.serveOrder)
	mux.HandleFunc("POST /v1/birth", a.serveBirthOrder)
	a.dnssecHandlers(mux)
	return mux
}

// refusal is how the socket answers a command that is refused.
type refusal struct {
	Error string `json:"error"`
	Hint  string `json:"hint,omitempty"`
}

func refuseWith(w http.ResponseWriter, why, hint string) {
	w.WriteHeader(http.StatusConflict)
	reply(w, refusal{Error: why, Hint: hint})
}

// serveZone answers with a zone in master format.
func (a *admin) serveZone(w http.ResponseWriter, r *http.Request) {
	name := r.URL.Query().Get("name")
	z, ok := a.zone(name)
	if !ok {
		http.Error(w, fmt.Sprintf("it serves no zone %q but %s", name, strings.Join(a.zones(), ", ")), http.StatusNotFound)
		return
	}
	w.Header().Set("Content-Type", "text/dns") // RFC 4027
	_, _ = z.WriteTo(w)                        // the asker is gone if this fails
}

// serve runs the admin port at each address, and the socket, until ctx ends.
func (a *admin) serve(ctx context.Context, addrs []netip.Addr, port uint16) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, l := range listenAll(addrs, port) {
		ln, err := l()
		if err != nil {
			return err
		}
		group.Go(func() error { return a.serveHTTP(ctx, tls.NewListener(&lobby{Listener: ln}, a.tls), a.peerHandler()) })
	}
	return group.Wait()
}

// listenAll returns one listen per address, and one on all addresses when none is configured.
func listenAll(addrs []netip.Addr, port uint16) (out []func() (net.Listener, error)) {
	if len(addrs) == 0 {
		addrs = []netip.Addr{netip.IPv4Unspecified()} // of both families, also where the kernel has no IPv6 (net.Listen)
	}
	for _, addr := range addrs {
		at := netip.AddrPortFrom(addr, port)
		out = append(out, func() (net.Listener, error) {
			l, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(at))
			if err != nil {
				return nil, portError("tcp", at, err)
			}
			return l, nil
		})
	}
	return out
}

// serveHTTP serves until ctx ends, then lets requests in flight finish for adminGrace.
func (a *admin) serveHTTP(ctx context.Context, l net.Listener, h http.Handler) error {
	srv := &http.Server{Handler: h, ReadTimeout: adminReadTimeout, WriteTimeout: adminReadTimeout, IdleTimeout: time.Minute,
		ConnState: leaveLobby, ErrorLog: log.New(&adminLog{log: a.log, sparing: sparing{most: adminLines}}, "", 0)}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("serve the admin port %s: %w", l.Addr(), err)
		}
		return nil
	})
	group.Go(func() error {
		<-ctx.Done()
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), adminGrace)
		defer cancel()
		if err := srv.Shutdown(grace); err != nil {
			return srv.Close()
		}
		return nil
	})
	return group.Wait()
}

// leaveLobby welcomes who sends a request: the handshake before it has shown that it is a node.
func leaveLobby(c net.Conn, s http.ConnState) {
	if t, ok := c.(*tls.Conn); ok && s == http.StateActive {
		if v, ok := t.NetConn().(*visitor); ok {
			v.welcome()
		}
	}
}

// adminLog takes what the HTTP server has to say, such as that a handler panicked. Handshakes that fail are strangers'.
type adminLog struct {
	log *zap.Logger
	sparing
}

// adminLines is how many lines a minute.
const adminLines = 10

func (l *adminLog) Write(line []byte) (int, error) {
	if !bytes.HasPrefix(line, []byte("http: TLS handshake error")) {
		if left, ok := l.next(); ok {
			l.log.Warn("the admin port", zap.ByteString("says", bytes.TrimSpace(line)), leftOut(left))
		}
	}
	return len(line), nil
}
