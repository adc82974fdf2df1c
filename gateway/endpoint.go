// Package gateway carries TCP connections to the members of an etcd cluster, whose SRV records it follows as they change.
package gateway

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// dialTimeout bounds an attempt to connect to an endpoint, over all its addresses. Within a rack a connection takes less than a
// millisecond; the next endpoint is a better use of the time than a second SYN, which TCP sends after 1 s (RFC 6298 §2).
const dialTimeout = time.Second

// Endpoint is where a member serves clients.
type Endpoint struct {
	// Scheme is https or http; empty for an endpoint that was given as HOST:PORT.
	Scheme string
	// Host is the SRV target in lower case without the final dot, or what the operator wrote; Port is its port.
	Host string
	Port uint16
	// Priority and Weight are those of the SRV record (RFC 2782), 0 for an endpoint that was given.
	Priority, Weight uint16
	// Addrs are the host's addresses, in the order in which they are tried; empty while none is known.
	Addrs []netip.Addr
}

// Name is HOST:PORT, which tells endpoints apart.
func (e Endpoint) Name() string { return net.JoinHostPort(e.Host, strconv.Itoa(int(e.Port))) }

// URL is the endpoint as clients of etcd write it.
func (e Endpoint) URL() string { return cmp.Or(e.Scheme, "http") + "://" + e.Name() }

// Known reports whether there is an address to connect to.
func (e Endpoint) Known() bool { return len(e.Addrs) > 0 }

// Dial connects to the first address that takes the connection, within one second.
func (e Endpoint) Dial(ctx context.Context) (net.Conn, error) {
	if !e.Known() {
		return nil, fmt.Errorf("dial %s: no address of the host is known", e.Name())
	}
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	var failed []error
	for i, a := range e.Addrs {
		// Those that come later get their share of the time.
		end, _ := ctx.Deadline()
		d := net.Dialer{Timeout: time.Until(end) / time.Duration(len(e.Addrs)-i), KeepAliveConfig: keepAlive, Control: userTimeout}
		conn, err := d.DialContext(ctx, "tcp", netip.AddrPortFrom(a, e.Port).String())
		if err == nil {
			return conn, nil
		}
		failed = append(failed, err)
	}
	return nil, fmt.Errorf("dial %s: %w", e.Name(), errors.Join(failed...))
}

// same reports whether two endpoints are equal in every field.
func same(a, b Endpoint) bool {
	addrs := slices.Equal(a.Addrs, b.Addrs)
	return addrs && a.Scheme == b.Scheme && a.Name() == b.Name() && a.Priority == b.Priority && a.Weight == b.Weight
}

// EndpointError is an endpoint that an operator wrote wrong.
type EndpointError struct{ text string }

func (e *EndpointError) Error() string {
	return fmt.Sprintf("endpoint %q: want HOST:PORT, http://HOST:PORT or https://HOST:PORT", e.text)
}

// Hint is an endpoint that would do.
func (e *EndpointError) Hint() string {
	return "--endpoints infra0.rack1.example.com:2379,10.0.1.11:2379"
}

// ParseEndpoint reads HOST:PORT, http://HOST:PORT or https://HOST:PORT; an error is an *EndpointError.
func ParseEndpoint(text string) (Endpoint, error) {
	var e Endpoint
	rest := text
	if u, err := url.Parse(text); err == nil && strings.Contains(text, "://") {
		if u.Scheme != "http" && u.Scheme != "https" || strings.Trim(u.Path, "/") != "" {
			return e, &EndpointError{text}
		}
		e.Scheme, rest = u.Scheme, u.Host
	}
	host, port, err := net.SplitHostPort(rest)
	if err != nil || host == "" {
		return e, &EndpointError{text}
	}
	p, err := strconv.ParseUint(port, 10, 16)
	if err != nil || p == 0 {
		return e, &EndpointError{text}
	}
	e.Host, e.Port = host, uint16(p)
	return e, nil
}
