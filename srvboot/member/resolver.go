package member

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/miekg/dns"
	"go.uber.org/zap"
)

const (
	// clientIdle is how long a connection may be silent; Go's resolver opens one per question.
	clientIdle = 10 * time.Second
	// maxClients bounds the connections at once; a member of seven has some twenty lookups in flight at worst.
	maxClients = 256
)

// ResolverOptions are read-only once given.
type ResolverOptions struct {
	// Own lists the addresses at which this node itself answers DNS. They are skipped among the system's name servers,
	// since a question for another domain would come back to us as REFUSED. Nil means none.
	Own func() []netip.Addr
	// NameServers lists the system's name servers; nil means those of /etc/resolv.conf, read anew when it changes.
	NameServers func() []netip.AddrPort
	// Log receives what goes wrong; nil means nowhere.
	Log *zap.Logger
}

// Resolver answers the DNS questions of member processes: names at or below the domain from the view alone, all
// others from the system's name servers.
type Resolver struct {
	opts   ResolverOptions
	socket string
	view   atomic.Pointer[compiledView]
	up     *upstream
	// listening is closed by Run once questions are accepted.
	listening chan struct{}
	// slots bounds the connections.
	slots chan struct{}
}

// NewResolver makes a resolver with an empty view, which starts nothing.
func NewResolver(o ResolverOptions) *Resolver {
	if o.Log == nil {
		o.Log = zap.NewNop()
	}
	if o.NameServers == nil {
		o.NameServers = systemNameServers
	}
	if o.Own == nil {
		o.Own = func() []netip.Addr { return nil }
	}
	r := &Resolver{
		opts:      o,
		socket:    "etcd-dns-resolver-" + uuid.NewString(),
		up:        &upstream{servers: o.NameServers, own: o.Own},
		listening: make(chan struct{}),
		slots:     make(chan struct{}, maxClients),
	}
	r.SetView(View{})
	return r
}

// SetView replaces the view for all questions from now on.
func (r *Resolver) SetView(v View) { r.view.Store(compileView(v)) }

// targets returns the addresses of the SRV targets of the present view.
func (r *Resolver) targets() map[string][]netip.Addr { return r.view.Load().targets }

// Run serves until ctx ends, and returns once all its goroutines have. It may be called once; it must outlive the
// member processes that use it.
func (r *Resolver) Run(ctx context.Context) error {
	l, err := net.ListenUnix("unix", abstract(r.socket))
	if err != nil {
		return fmt.Errorf("listen for the member's DNS questions: %w", err)
	}
	var conns sync.WaitGroup
	// Shutdown: 1. no new connections; 2. open ones see ctx and end; 3. wait for them.
	defer conns.Wait()
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
	defer l.Close()
	close(r.listening)
	for {
		c, err := l.AcceptUnix()
		if ctx.Err() != nil {
			if err == nil {
				c.Close()
			}
			return nil
		}
		if err != nil {
			return fmt.Errorf("accept the member's DNS questions: %w", err)
		}
		select {
		case r.slots <- struct{}{}:
		default:
			c.Close()
			continue
		}
		conns.Go(func() {
			defer func() { <-r.slots }()
			r.serve(ctx, c)
		})
	}
}

// ready waits until Run accepts questions.
func (r *Resolver) ready(ctx context.Context) error {
	select {
	case <-r.listening:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("the member's resolver does not run: %w", ctx.Err())
	}
}

// serve answers the questions of one connection, one after the other.
func (r *Resolver) serve(ctx context.Context, c *net.UnixConn) {
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { c.Close() })
	defer stop()
	if err := sameUser(c); err != nil {
		r.opts.Log.Warn("turned away a DNS question on the member's socket", zap.Error(err))
		return
	}
	for {
		_ = c.SetDeadline(time.Now().Add(clientIdle))
		query, err := readMessage(c)
		if err != nil {
			return
		}
		if err := writeMessage(c, r.answer(ctx, query)); err != nil {
			return
		}
	}
}

// answer returns the reply to one wire-format question.
func (r *Resolver) answer(ctx context.Context, query []byte) []byte {
	req := new(dns.Msg)
	if err := req.Unpack(query); err != nil || req.Response || len(req.Question) != 1 {
		return pack(formErr(query))
	}
	v := r.view.Load()
	if m := v.answer(req); m != nil {
		return pack(m)
	}
	m, err := r.up.forward(ctx, req)
	if err != nil {
		if ctx.Err() == nil {
			r.opts.Log.Debug("a name outside the domain was not resolved", zap.String("name", req.Question[0].Name), zap.Error(err))
		}
		m = new(dns.Msg).SetRcode(req, dns.RcodeServerFailure)
	}
	return pack(m)
}

// formErr answers a message that cannot be read, as far as its ID can be.
func formErr(query []byte) *dns.Msg {
	m := new(dns.Msg)
	m.Response, m.Rcode = true, dns.RcodeFormatError
	if len(query) >= 2 {
		m.Id = binary.BigEndian.Uint16(query)
	}
	return m
}

// pack never fails for what answer builds; should it, SERVFAIL is what a resolver may always say.
func pack(m *dns.Msg) []byte {
	m.Compress = true
	b, err := m.Pack()
	if err == nil && len(b) <= dns.MaxMsgSize {
		return b
	}
	m.Answer, m.Ns, m.Extra = nil, nil, nil
	m.Rcode = dns.RcodeServerFailure
	b, _ = m.Pack()
	return b
}

var errEmptyMessage = errors.New("a DNS message of length zero")

// readMessage reads one message with its two-octet length (RFC 1035 §4.2.2).
func readMessage(r io.Reader) ([]byte, error) {
	var n [2]byte
	if _, err := io.ReadFull(r, n[:]); err != nil {
		return nil, err
	}
	b := make([]byte, binary.BigEndian.Uint16(n[:]))
	if len(b) == 0 {
		return nil, errEmptyMessage
	}
	_, err := io.ReadFull(r, b)
	return b, err
}

func writeMessage(w io.Writer, b []byte) error {
	_, err := w.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(b))), b...))
	return err
}
