package certs

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/transport"
)

// startPeer serves one 200 after another on etcd's own peer listener, configured as the member will be.
func startPeer(t *testing.T, f Files) (url string) {
	t.Helper()
	info := transport.TLSInfo{CertFile: f.PeerCert, KeyFile: f.PeerKey, TrustedCAFile: f.CA, ClientCertAuth: true, AllowedHostnames: []string{testDomain}}
	l, err := transport.NewListener("127.0.0.1:0", "https", &info)
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}), ReadHeaderTimeout: 5 * time.Second, ErrorLog: discardLog()}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(l) }()
	t.Cleanup(func() {
		if err := srv.Close(); err != nil {
			t.Error(err)
		}
		<-done
	})
	return "https://" + l.Addr().String()
}

// call makes one request as the peer of that TLSInfo, from the loopback address.
func call(t *testing.T, url string, info transport.TLSInfo, from string) error {
	t.Helper()
	cfg, err := info.ClientConfig()
	if err != nil {
		t.Fatal(err)
	}
	tr := &http.Transport{TLSClientConfig: cfg, DialContext: (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}).DialContext}
	defer tr.CloseIdleConnections()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := (&http.Client{Transport: tr, Timeout: 10 * time.Second}).Do(req)
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

// noDNS keeps etcd's check of a peer's address from asking the machine's name servers.
func noDNS(t *testing.T) {
	old := net.DefaultResolver
	net.DefaultResolver = &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
		return nil, errors.New("no DNS in this test")
	}}
	t.Cleanup(func() { net.DefaultResolver = old })
}

// TestEtcdPeers asks etcd's own listener and dialer who may be a peer.
func TestEtcdPeers(t *testing.T) {
	noDNS(t)
	b, _ := newTestBundle(t)
	other, _ := newTestBundle(t)
	n0, n1 := newRig(t, b, "infra0", t.TempDir()).must(), newRig(t, b, "infra1", t.TempDir()).must()
	stranger := newRig(t, other, "infra1", t.TempDir()).must()
	alice, err := b.WriteClient(t.TempDir(), "alice", ClientOptions{})
	if err != nil {
		t.Fatal(err)
	}
	url := startPeer(t, n0.Files())
	f := n1.Files()
	as := func(cert, key string) transport.TLSInfo {
		return transport.TLSInfo{CertFile: cert, KeyFile: key, TrustedCAFile: f.CA, AllowedHostnames: []string{testDomain}}
	}
	named := as(f.PeerCert, f.PeerKey)
	named.ServerName = testDomain // what etcd sets with --discovery-srv and no peer CA file (embed/config.go)
	wrong := named
	wrong.ServerName = "infra2." + testDomain
	tests := []struct {
		name, from string
		info       transport.TLSInfo
		want       string // part of the error; empty means accepted
	}{
		{"peer, by its address", "127.0.0.1", as(f.PeerCert, f.PeerKey), ""},
		{"peer, server named by the domain", "127.0.0.1", named, ""},
		{"peer, server named as another node", "127.0.0.1", wrong, "not infra2"},
		{"peer from an address that is not its own", "127.0.0.2", as(f.PeerCert, f.PeerKey), "EOF|reset|bad certificate|broken pipe"},
		{"client of an operator", "127.0.0.1", as(alice.Cert, alice.Key), "EOF|bad certificate|certificate"},
		{"the node's own client certificate", "127.0.0.1", as(f.ClientCert, f.ClientKey), "certificate"},
		{"the node's server certificate", "127.0.0.1", as(f.ServerCert, f.ServerKey), "certificate"},
		{"peer of another rack", "127.0.0.1", as(stranger.Files().PeerCert, stranger.Files().PeerKey), "certificate"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := call(t, url, tt.info, tt.from)
			if tt.want == "" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			if err == nil || !containsAny(err.Error(), strings.Split(tt.want, "|")) {
				t.Fatalf("error %v, want %s", err, tt.want)
			}
		})
	}
	// The address becomes the node's: the next handshake reads the new files, nothing is restarted.
	n1.setAddrs("10.0.1.11", "127.0.0.2")
	n1.must()
	if err := call(t, url, as(f.PeerCert, f.PeerKey), "127.0.0.2"); err != nil {
		t.Errorf("after the address was added: %v", err)
	}
	// A dialing peer refuses a server that is no peer: AllowedHostnames works in both directions.
	if err := call(t, startPeer(t, stranger.Files()), as(f.PeerCert, f.PeerKey), "127.0.0.1"); err == nil {
		t.Error("a peer connected to another rack's peer")
	}
}

func containsAny(s string, parts []string) bool {
	for _, p := range parts {
		if strings.Contains(s, p) {
			return true
		}
	}
	return false
}

// TestEtcdClientPort asks etcd's client listener, and verifies as etcdctl --discovery-srv does: by the domain.
func TestEtcdClientPort(t *testing.T) {
	b, _ := newTestBundle(t)
	r := newRig(t, b, "infra0", t.TempDir()).must()
	out := t.TempDir()
	alice, err := b.WriteClient(out, "alice", ClientOptions{})
	if err != nil {
		t.Fatal(err)
	}
	f := r.Files()
	info := transport.TLSInfo{CertFile: f.ServerCert, KeyFile: f.ServerKey, ClientCertFile: f.ClientCert, ClientKeyFile: f.ClientKey, TrustedCAFile: f.CA, ClientCertAuth: true}
	cfg, err := info.ServerConfig()
	if err != nil {
		t.Fatal(err)
	}
	addr := serveTLS(t, cfg)
	dial := func(info transport.TLSInfo) error {
		cfg, err := info.ClientConfig()
		if err != nil {
			t.Fatal(err)
		}
		_, err = exchange(addr, cfg)
		return err
	}
	for _, server := range []string{"", testDomain, "infra0." + testDomain, "localhost"} {
		if err := dial(transport.TLSInfo{CertFile: alice.Cert, KeyFile: alice.Key, TrustedCAFile: filepath.Join(out, "ca.crt"), ServerName: server}); err != nil {
			t.Errorf("client, server name %q: %v", server, err)
		}
	}
	if err := dial(transport.TLSInfo{CertFile: f.ClientCert, KeyFile: f.ClientKey, TrustedCAFile: f.CA}); err != nil {
		t.Errorf("etcd's call to itself: %v", err)
	}
	if err := dial(transport.TLSInfo{TrustedCAFile: f.CA}); err == nil {
		t.Error("a client without a certificate was let in")
	}
	if err := dial(transport.TLSInfo{CertFile: alice.Cert, KeyFile: alice.Key, TrustedCAFile: f.CA, ServerName: "infra1." + testDomain}); err == nil {
		t.Error("the server passed for another node")
	}
}

// serveTLS accepts connections until the test ends; each handshake that succeeds is answered by one octet.
func serveTLS(t *testing.T, cfg *tls.Config) (addr string) {
	t.Helper()
	l, err := tls.Listen("tcp", "127.0.0.1:0", cfg)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, err = c.Write([]byte{1}) // handshakes first
			_ = errors.Join(err, c.Close())
		}
	}()
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		<-done
	})
	return l.Addr().String()
}

// exchange connects and waits for the server's octet: with TLS 1.3 a refused client learns of it only by reading.
func exchange(addr string, cfg *tls.Config) (tls.ConnectionState, error) {
	c, err := tls.DialWithDialer(&net.Dialer{Timeout: 10 * time.Second}, "tcp", addr, cfg)
	if err != nil {
		return tls.ConnectionState{}, err
	}
	_, err = c.Read(make([]byte, 1))
	return c.ConnectionState(), errors.Join(err, c.Close())
}
