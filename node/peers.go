package node

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/etcd-dns/etcd-dns/srvboot"
)

// askTimeout bounds one question to another node. It is short, because silence only ever makes a node wait, and is
// asked about again a moment later.
const askTimeout = 2 * time.Second

// peers asks the other nodes at their admin ports. It implements srvboot.Peers. Nodes are reached by their
// addresses, so that no DNS stands between them.
type peers struct {
	bundle string
	port   uint16
	addrs  func(node string) []netip.Addr
	// corefile is the digest of this node's Corefile, so that who has another one says what is in it; nil does not ask for that.
	corefile func() string
	// news dates this node's member list, so that who has an older one asks back; nil says nothing of it.
	news func() srvboot.News
	tls  func(node string) *tls.Config

	mu      sync.Mutex
	clients map[string]*http.Client // by node, guarded by mu
	unmet   map[string]error        // by node, guarded by mu: why the last attempt to connect failed, if it has not answered since
}

func (p *peers) State(ctx context.Context, node string) (s srvboot.State, err error) {
	says := url.Values{}
	if p.corefile != nil {
		says.Set("corefile", p.corefile())
	}
	if p.news != nil {
		says.Set("list", p.news().String())
	}
	err = p.call(ctx, call{node: node, method: http.MethodGet, path: "/v1/state?" + says.Encode(), answer: &s})
	return s, checkState(s, node, p.bundle, err)
}

func (p *peers) Prepare(ctx context.Context, node string, req srvboot.Prepare) (r srvboot.Reply, err error) {
	err = p.call(ctx, call{node: node, method: http.MethodPost, path: "/v1/prepare", body: req, answer: &r})
	return r, checkState(r.State, node, p.bundle, err)
}

func (p *peers) Accept(ctx context.Context, node string, req srvboot.Accept) (r srvboot.Reply, err error) {
	err = p.call(ctx, call{node: node, method: http.MethodPost, path: "/v1/accept", body: req, answer: &r})
	return r, checkState(r.State, node, p.bundle, err)
}

// DNSSEC returns how a node signs the zone. One that could not be connected to the last time is left to State, which
// is asked anyway.
func (p *peers) DNSSEC(ctx context.Context, node string) (a dnssecAnswer, err error) {
	p.mu.Lock()
	err = p.unmet[node]
	p.mu.Unlock()
	if err != nil {
		return dnssecAnswer{}, err
	}
	if err := p.call(ctx, call{node: node, method: http.MethodGet, path: "/v1/dnssec", answer: &a}); err != nil {
		return dnssecAnswer{}, err
	}
	return a, checkDNSSEC(a, node, p.bundle)
}

// checkState makes sure that the body names the node whose certificate was verified.
func checkState(s srvboot.State, node, bundle string, err error) error {
	switch {
	case err != nil:
		return err
	case s.Node != node || s.Bundle != bundle:
		return fmt.Errorf("%s answered as %s of bundle %s, expected %s of bundle %s", node, s.Node, s.Bundle, node, bundle)
	case s.Format > srvboot.Format:
		return fmt.Errorf("%s speaks format %d of the admin messages, this node up to %d: upgrade this node", node, s.Format, srvboot.Format)
	}
	return nil
}

// call is one request: body is sent as JSON when it is not nil, and the answer decoded.
type call struct {
	node, method, path string
	body, answer       any
	timeout            time.Duration // askTimeout unless set
}

func (p *peers) call(ctx context.Context, c call) error {
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(c.timeout, askTimeout))
	defer cancel()
	var body io.Reader
	if c.body != nil {
		text, err := json.Marshal(c.body)
		if err != nil {
			return fmt.Errorf("encode %s for %s: %w", c.path, c.node, err)
		}
		body = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(ctx, c.method, "https://"+c.node+c.path, body)
	if err != nil {
		return fmt.Errorf("ask %s: %w", c.node, err)
	}
	resp, err := p.client(c.node).Do(req)
	if err != nil {
		var web *url.Error
		if errors.As(err, &web) {
			err = web.Err // its URL is of our making
		}
		return fmt.Errorf("ask %s: %w", c.node, err)
	}
	p.met(c.node, nil) // of two attempts at once, the one that failed may have ended last
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, adminBodyLimit))
	if err != nil {
		return fmt.Errorf("read the answer of %s: %w", c.node, err)
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answered %s: %s", c.node, resp.Status, strings.TrimSpace(string(text)))
	}
	if err := json.Unmarshal(text, c.answer); err != nil {
		return fmt.Errorf("decode the answer of %s: %w", c.node, err)
	}
	return nil
}

// strangerError says that another machine answers where a node was looked for. It is a srvboot Stranger.
type strangerError struct {
	who   string
	cause error
}

func (e *strangerError) Error() string  { return e.who }
func (e *strangerError) Unwrap() error  { return e.cause }
func (e *strangerError) Stranger() bool { return true }

// whoAnswered makes an error of a handshake say who answered, if somebody did who is not the node asked.
func whoAnswered(err error) error {
	var name x509.HostnameError
	var authority x509.UnknownAuthorityError
	switch {
	case errors.As(err, &name) && len(name.Certificate.DNSNames) > 0:
		return &strangerError{who: name.Certificate.DNSNames[0] + " answers at its address", cause: err}
	case errors.As(err, &authority):
		return &strangerError{who: "who answers at its address has the certificate of another bundle; all nodes have the cluster.bundle of one etcd-dns init", cause: err}
	}
	return err
}

// client returns the keep-alive client of a node.
func (p *peers) client(node string) *http.Client {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c, ok := p.clients[node]; ok {
		return c
	}
	c := &http.Client{Transport: &http.Transport{
		Proxy:               nil, // a proxy of the environment must not stand between two nodes of one rack
		DialTLSContext:      func(ctx context.Context, network, _ string) (net.Conn, error) { return p.dial(ctx, network, node) },
		MaxIdleConnsPerHost: 2,
		IdleConnTimeout:     time.Minute,
	}}
	if p.clients == nil {
		p.clients = map[string]*http.Client{}
	}
	p.clients[node] = c
	return c
}

// dial tries the addresses at which the node may be, in their order, until it shows its certificate at one: somebody else
// may be there by now.
func (p *peers) dial(ctx context.Context, network, node string) (net.Conn, error) {
	addrs := p.addrs(node)
	if len(addrs) == 0 {
		return nil, fmt.Errorf("no address of %s is known: its node line gives none, and nobody has met it yet", node)
	}
	var errs []error
	for _, a := range addrs {
		conn, err := p.dialAt(ctx, network, node, a, askTimeout/time.Duration(len(addrs)))
		if err == nil {
			return conn, nil
		}
		errs = append(errs, err)
	}
	err := errors.Join(errs...)
	p.met(node, err)
	return nil, err
}

// met notes that a node answered, or why an attempt to connect to it failed.
func (p *peers) met(node string, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.unmet == nil {
		p.unmet = map[string]error{}
	}
	p.unmet[node] = err
}

func (p *peers) dialAt(ctx context.Context, network, node string, at netip.Addr, within time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	d := tls.Dialer{Config: p.tls(node)}
	conn, err := d.DialContext(ctx, network, netip.AddrPortFrom(at, p.port).String())
	if err != nil {
		return nil, fmt.Errorf("at %s: %w", at, whoAnswered(err))
	}
	return conn, nil
}

// forget ends the idle connections to a node, which may lead to where it was; the empty name stands for all nodes.
func (p *peers) forget(node string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for name, c := range p.clients {
		if name == node || node == "" {
			c.CloseIdleConnections()
		}
	}
}
