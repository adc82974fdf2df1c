package gateway

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// A server of TLS that lives is greeted without a word in its log, which is for errors other than EOF; others are told apart.
func TestGreet(t *testing.T) {
	cert, pool := certificate(t, "good.example.com")
	for name, c := range map[string]struct {
		server *tls.Config // nil: without TLS
		plain  string      // what it says then; empty: nothing
		hangs  bool
		roots  *x509.CertPool
		host   string
		want   string // a part of the error
	}{
		"TLS 1.3":                         {server: &tls.Config{MinVersion: tls.VersionTLS13}},
		"TLS 1.2":                         {server: &tls.Config{MaxVersion: tls.VersionTLS12}},
		"it wants a certificate":          {server: &tls.Config{ClientAuth: tls.RequireAnyClientCert}},
		"it wants one in TLS 1.2":         {server: &tls.Config{ClientAuth: tls.RequireAnyClientCert, MaxVersion: tls.VersionTLS12}},
		"it asks for another key share":   {server: &tls.Config{CurvePreferences: []tls.CurveID{tls.CurveP384}}},
		"signed by the CA":                {server: &tls.Config{}, roots: pool, host: "good.example.com"},
		"another host's":                  {server: &tls.Config{}, roots: pool, host: "evil.example.com", want: "not evil.example.com"},
		"another host's in TLS 1.2":       {server: &tls.Config{MaxVersion: tls.VersionTLS12}, roots: pool, host: "evil.example.com", want: "not evil.example.com"},
		"another host's, and nobody asks": {server: &tls.Config{}, host: "evil.example.com"},
		"no TLS":                          {plain: "HTTP/1.0 400 Bad Request\r\n\r\n", want: "does not look like a TLS handshake"},
		"it hangs up":                     {want: "EOF"},
		"it hangs":                        {hangs: true, want: "deadline exceeded"},
	} {
		t.Run(name, func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = l.Close() }()
			heard := make(chan error, 1)
			if !c.hangs {
				go func() {
					conn, err := l.Accept()
					if err != nil {
						heard <- err
						return
					}
					defer func() { _ = conn.Close() }()
					if c.server == nil {
						_, _ = conn.Read(make([]byte, 1<<16)) // the whole ClientHello: the rest would make the close a reset
						_, err = io.WriteString(conn, c.plain)
						heard <- err
						return
					}
					c.server.Certificates = []tls.Certificate{cert}
					heard <- tls.Server(conn, c.server).HandshakeContext(t.Context())
				}()
			}
			conn, err := net.Dial("tcp", l.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = conn.Close() }()
			limit := patience
			if c.hangs {
				limit = 50 * time.Millisecond
			}
			ctx, cancel := context.WithTimeout(t.Context(), limit)
			defer cancel()
			err = greet(ctx, conn, c.roots, c.host)
			if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
			_ = conn.Close()
			if c.server != nil {
				if err := <-heard; !errors.Is(err, io.EOF) {
					t.Errorf("the server heard %v, want EOF", err)
				}
			}
		})
	}
}

// A process that hangs has the kernel take its connections. It is found, and gets no more of them.
func TestProxyHangs(t *testing.T) {
	_, set := three(t)
	l, err := net.Listen("tcp", "127.0.0.1:0") // nobody accepts
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	hung := (&member{Listener: l, name: "hung"}).endpoint()
	hung.Scheme = "https"
	b := run(t, append(set, hung), func(p *Proxy) { p.checkEvery, p.greetTimeout = 20*time.Millisecond, 50*time.Millisecond })
	eventually(t, "the member is down", func() bool { return b.value("etcd_dns_gateway_endpoint_up", hung) == 0 })
	for range 12 {
		if c := b.must(); c.name == "" {
			t.Error("a member that hangs got a connection")
		}
	}
}

// An endpoint whose certificate has not been seen yet gets no connections, and is not up.
func TestProxyUnverifiedIsNotUp(t *testing.T) {
	_, pool := certificate(t, "a.example.com")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	e := (&member{Listener: l, name: "a"}).endpoint()
	e.Scheme = "https"
	b := run(t, []Endpoint{e}, func(p *Proxy) { p.Roots, p.greetTimeout = pool, time.Minute })
	conn, err := l.Accept() // it is being greeted, and says nothing
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if up := b.value("etcd_dns_gateway_endpoint_up", e); up != 0 {
		t.Errorf("up is %v before the certificate was seen, want 0", up)
	}
}

// A certificate that goes bad is found although no address changes.
func TestProxyVerifyAgain(t *testing.T) {
	good, pool := certificate(t, "a.example.com")
	bad, _ := certificate(t, "a.example.com")
	var shown atomic.Pointer[tls.Certificate]
	shown.Store(&good)
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return shown.Load(), nil }})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_ = c.(*tls.Conn).HandshakeContext(t.Context())
			_ = c.Close()
		}
	})
	t.Cleanup(func() { _ = l.Close(); wg.Wait() })
	e := (&member{Listener: l, name: "a"}).endpoint()
	e.Scheme = "https"
	b := run(t, []Endpoint{e}, func(p *Proxy) { p.Roots, p.checkEvery = pool, 20*time.Millisecond })
	for _, up := range []float64{1, 0, 1} {
		if up == 1 {
			shown.Store(&good)
		} else {
			shown.Store(&bad)
		}
		eventually(t, fmt.Sprintf("up is %v", up), func() bool { return b.value("etcd_dns_gateway_endpoint_up", e) == up && b.usable() == (up == 1) })
	}
}

// With CAs, an endpoint whose certificate is not for its host gets no connections, whether or not it wants one of its clients.
func TestProxyVerify(t *testing.T) {
	for _, auth := range []tls.ClientAuthType{tls.NoClientCert, tls.RequireAnyClientCert} {
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			cert, pool := certificate(t, "good.example.com")
			serve := func(name string) Endpoint {
				l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{cert}, ClientAuth: auth, MinVersion: version, MaxVersion: version})
				if err != nil {
					t.Fatal(err)
				}
				var wg sync.WaitGroup
				wg.Go(func() {
					for {
						c, err := l.Accept()
						if err != nil {
							return
						}
						wg.Go(func() {
							defer func() { _ = c.Close() }()
							_ = c.(*tls.Conn).HandshakeContext(t.Context())
						})
					}
				})
				t.Cleanup(func() { _ = l.Close(); wg.Wait() })
				e := (&member{Listener: l, name: name}).endpoint()
				e.Scheme = "https"
				return e
			}
			good, evil := serve("good"), serve("evil")
			b := run(t, []Endpoint{good, evil}, func(p *Proxy) { p.Roots = pool })
			for range 6 {
				eventually(t, "a connection is taken", func() bool {
					conn, err := net.Dial("tcp", b.at)
					if err != nil {
						return false
					}
					defer func() { _ = conn.Close() }()
					verified := false
					c := tls.Client(conn, &tls.Config{RootCAs: pool, ServerName: "good.example.com", VerifyConnection: func(tls.ConnectionState) error { verified = true; return nil }})
					_ = c.Handshake()
					return verified
				})
			}
			if got := b.value("etcd_dns_gateway_connections_total", evil); got != 0 {
				t.Errorf("auth %v, TLS %x: an endpoint with another host's certificate got %v connections", auth, version, got)
			}
			if got := b.value("etcd_dns_gateway_connections_total", good); got < 6 {
				t.Errorf("auth %v, TLS %x: the good endpoint got %v connections, want 6", auth, version, got)
			}
		}
	}
}

// certificate makes one for a host, and the pool that trusts it.
func certificate(t *testing.T, host string) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{host}, NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	if c, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(c)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}
