//go:build linux

package lab

import (
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// adminPort is where nodes speak to each other; metricsPort, healthPort and readyPort are CoreDNS's.
const (
	adminPort                          = 2378
	metricsPort, healthPort, readyPort = 9153, 8080, 8181
)

// strangers come to the admin port: who says nothing, begins a handshake, or speaks HTTP without TLS, and clients with a good
// handshake and no certificate. All the while another node gets its answers.
func (h *hostile) strangers(t *testing.T) {
	asked := 0
	peer := h.peer(t, "infra1")
	ask := func() {
		t.Helper()
		if err := peer(); err != nil {
			t.Errorf("infra1 asks %s: %v", h.target, err)
		}
		asked++
	}
	junk := make([]byte, 300)
	_, _ = rand.Read(junk) // it never fails
	hello := append([]byte{22, 3, 1, 0x40, 0, 1, 0, 0x3f, 0xfc, 3, 3}, junk...)
	m := h.mob(adminPort)
	defer m.leave()
	for range 20 {
		m.connect(t, 150, crowd(100), func(i, fd int) {
			switch i % 4 {
			case 1:
				say(fd, junk)
			case 2:
				say(fd, hello) // most of a ClientHello: the handshake waits for the rest
			case 3:
				say(fd, []byte("GET /v1/state HTTP/1.1\r\nHost: infra0\r\n\r\n"))
			}
		})
		h.withoutCertificate(t, 5)
		ask()
	}
	t.Logf("%d connections to the admin port, %d not made; a node asked %d times meanwhile", m.made, m.failed, asked)
	for _, port := range []int{metricsPort, healthPort, readyPort} {
		if err := inNetns(h.host(attackerHost).ns, func() error {
			c, err := net.DialTimeout("tcp", fmt.Sprintf("%s:%d", h.Addr(h.target), port), queryLimit)
			if err == nil {
				_ = c.Close()
			}
			return err
		}); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("port %d: %v, want it refused from outside", port, err)
		}
	}
}

// withoutCertificate makes so many handshakes that end when the node asks for a certificate.
func (h *hostile) withoutCertificate(t *testing.T, count int) {
	t.Helper()
	for range count {
		err := inNetns(h.host(attackerHost).ns, func() error {
			c, err := net.DialTimeout("tcp", fmt.Sprintf("%s:%d", h.Addr(h.target), adminPort), queryLimit)
			if err != nil {
				return err
			}
			defer func() { _ = c.Close() }()
			if err := c.SetDeadline(time.Now().Add(queryLimit)); err != nil {
				return err
			}
			s := tls.Client(c, &tls.Config{InsecureSkipVerify: true}) //nolint:gosec // the attacker does not care whom he attacks
			if _, err := s.Write([]byte("GET /v1/state HTTP/1.1\r\nHost: infra0\r\n\r\n")); err != nil {
				return nil //nolint:nilerr // it is not taken
			}
			b := make([]byte, 100)
			if n, err := s.Read(b); err == nil {
				return fmt.Errorf("answered %q", b[:n])
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	}
}

// peer returns a function that asks the target for its state as a node does, on a new connection.
func (h *hostile) peer(t *testing.T, name string) func() error {
	t.Helper()
	file := func(f string) string { return filepath.Join(h.node(name).data(), "certs", f) }
	cert, err := tls.LoadX509KeyPair(file("peer.crt"), file("peer.key"))
	if err != nil {
		t.Fatal(err)
	}
	ca, err := os.ReadFile(file("ca.crt"))
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	return func() error {
		var conn net.Conn
		err := inNetns(h.host(name).ns, func() (err error) {
			conn, err = net.DialTimeout("tcp", fmt.Sprintf("%s:%d", h.Addr(h.target), adminPort), queryLimit)
			return err
		})
		if err != nil {
			return err
		}
		c := &http.Client{Timeout: 2 * queryLimit, Transport: &http.Transport{
			DialTLS: func(string, string) (net.Conn, error) {
				return tls.Client(conn, &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{cert}, ServerName: h.target + "." + h.Domain}), nil
			},
			DisableKeepAlives: true,
		}}
		r, err := c.Get("https://" + h.target + "/v1/state")
		if err != nil {
			return err
		}
		defer func() { _ = r.Body.Close() }()
		if r.StatusCode != http.StatusOK {
			return errors.New(r.Status)
		}
		return nil
	}
}
