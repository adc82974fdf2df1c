//go:build linux

package lab

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// authority is a CA, which the guide has cfssl for.
type authority struct {
	t    testing.TB
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	// text is its certificate in PEM.
	text []byte
}

func newAuthority(t testing.TB, name string) *authority {
	t.Helper()
	a := &authority{t: t}
	a.cert, a.key, a.text = a.sign(&x509.Certificate{Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign})
	return a
}

// sign signs a certificate for a new key, the CA's own if it has none yet.
func (a *authority) sign(c *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey, []byte) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	if c.SerialNumber, err = rand.Int(rand.Reader, big.NewInt(1<<62)); err != nil {
		a.t.Fatal(err)
	}
	c.NotBefore, c.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(24*time.Hour)
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = c, key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, key.Public(), signer)
	if err != nil {
		a.t.Fatal(err)
	}
	if c, err = x509.ParseCertificate(der); err != nil {
		a.t.Fatal(err)
	}
	return c, key, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// issue writes PATH.crt and PATH.key, for servers and clients, with these DNS names and addresses.
func (a *authority) issue(path string, names ...string) {
	a.t.Helper()
	c := &x509.Certificate{Subject: pkix.Name{Organization: []string{"guide"}}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	for _, n := range names {
		if ip := net.ParseIP(n); ip != nil {
			c.IPAddresses = append(c.IPAddresses, ip)
		} else {
			c.DNSNames = append(c.DNSNames, n)
		}
	}
	_, key, text := a.sign(c)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	writePEM(a.t, path+".crt", text)
	writePEM(a.t, path+".key", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

func writePEM(t testing.TB, path string, text []byte) {
	t.Helper()
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
}

// trust makes all hosts take this CA for a public one: it is the only one that their systems know.
func (g *guide) trust(a *authority) {
	g.t.Helper()
	for _, h := range g.net.hosts {
		dir := filepath.Join("/etc/netns", h.ns, "ssl", "certs") // see ip-netns(8)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			g.t.Fatal(err)
		}
		writePEM(g.t, filepath.Join(dir, "ca-certificates.crt"), a.text)
	}
}

// members writes what the guide's TLS parts name: the CAs of clients and of peers, a certificate of each for every member,
// for these names and its own address, and what etcdctl needs.
func (g *guide) members(clients, peers *authority, names ...string) {
	g.t.Helper()
	for _, name := range g.Names() {
		dir := g.work(name)
		own := append([]string{name + ".example.com", g.Addr(name), "127.0.0.1"}, names...)
		writePEM(g.t, filepath.Join(dir, "ca-client.crt"), clients.text)
		writePEM(g.t, filepath.Join(dir, "ca-peer.crt"), peers.text)
		clients.issue(filepath.Join(dir, name+"-client"), own...)
		peers.issue(filepath.Join(dir, name+"-peer"), own...)
	}
	dir := g.work(clientHost)
	writePEM(g.t, filepath.Join(dir, "ca.crt"), clients.text)
	clients.issue(filepath.Join(dir, "client"), "client.example.com")
	g.scheme = "https"
	g.flags = []string{"--cacert", filepath.Join(dir, "ca.crt"), "--cert", filepath.Join(dir, "client.crt"), "--key", filepath.Join(dir, "client.key")}
}
