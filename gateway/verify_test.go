package gateway

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"net"
	"sync"
	"testing"
	"time"
)

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
				return (&member{Listener: l, name: name}).endpoint()
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
