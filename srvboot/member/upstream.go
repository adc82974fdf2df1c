package member

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"slices"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"

	"github.com/etcd-dns/etcd-dns/internal/ask"
)

const (
	// serverPatience is what one name server gets, and allPatience what all of them get together.
	serverPatience = time.Second
	allPatience    = 3 * time.Second
	// deafFor is how long nobody is asked after no name server answered at all. Go repeats a question for each server
	// of resolv.conf and each attempt, six times in all; RFC 9520 §3.2 wants a failure remembered for a second or more.
	deafFor = 2 * time.Second
	// resolvConf is where the system keeps its name servers.
	resolvConf = "/etc/resolv.conf"
)

// upstream asks the system's name servers about names that are none of ours.
type upstream struct {
	servers func() []netip.AddrPort
	own     func() []netip.Addr
	// deafUntil is nil until no name server answered, see deafFor.
	deafUntil atomic.Pointer[time.Time]
}

var errDeaf = errors.New("no name server answered a moment ago")

// forward asks one server after the other and returns the first answer.
func (u *upstream) forward(ctx context.Context, req *dns.Msg) (*dns.Msg, error) {
	if until := u.deafUntil.Load(); until != nil && time.Now().Before(*until) {
		return nil, errDeaf
	}
	ctx, cancel := context.WithTimeout(ctx, allPatience)
	defer cancel()
	own := u.own()
	var failed []error
	for _, s := range u.servers() {
		if slices.Contains(own, s.Addr().Unmap()) {
			continue
		}
		m, err := askOne(ctx, req, s)
		if err == nil {
			return m, nil
		}
		failed = append(failed, fmt.Errorf("%s: %w", s, err))
	}
	if len(failed) == 0 {
		return nil, errors.New("there is no name server to ask but ourselves")
	}
	if ctx.Err() == nil || errors.Is(ctx.Err(), context.DeadlineExceeded) {
		until := time.Now().Add(deafFor)
		u.deafUntil.Store(&until)
	}
	return nil, errors.Join(failed...)
}

// askOne puts the question to one server.
func askOne(ctx context.Context, req *dns.Msg, server netip.AddrPort) (*dns.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, serverPatience)
	defer cancel()
	out := req.Copy()
	m, err := ask.Server{At: server.String(), Timeout: serverPatience}.Ask(ctx, out)
	if err != nil {
		return nil, err
	}
	m.Id = req.Id
	return m, nil
}

// systemNameServers reads /etc/resolv.conf. A missing or broken file means no server, not 127.0.0.1 as in glibc:
// that may be ourselves.
func systemNameServers() []netip.AddrPort { return nameServersOf(resolvConf) }

func nameServersOf(path string) []netip.AddrPort {
	f, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer f.Close()
	return nameServersIn(f)
}

func nameServersIn(text io.Reader) []netip.AddrPort {
	conf, err := dns.ClientConfigFromReader(text)
	if err != nil {
		return nil
	}
	const dnsPort = 53
	var out []netip.AddrPort
	for _, s := range conf.Servers {
		if a, err := netip.ParseAddr(s); err == nil {
			out = append(out, netip.AddrPortFrom(a, dnsPort))
		}
	}
	return out
}
