package srvboot

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// testCA issues certificates into files.
type testCA struct {
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	file string
}

var certNow = time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)

func newCA(t *testing.T, name string) *testCA {
	t.Helper()
	ca := &testCA{dir: t.TempDir()}
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, SerialNumber: big.NewInt(1), IsCA: true, BasicConstraintsValid: true,
		NotBefore: certNow.AddDate(-1, 0, 0), NotAfter: certNow.AddDate(10, 0, 0), KeyUsage: x509.KeyUsageCertSign,
	}
	ca.file, _, ca.cert, ca.key = ca.write(t, template, nil)
	return ca
}

// issue writes a peer certificate of n0.rack.test, after change, and returns its files.
func (ca *testCA) issue(t *testing.T, change func(*x509.Certificate)) CertFiles {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "n0"},
		DNSNames: []string{"n0.rack.test", "rack.test", "localhost"}, IPAddresses: []net.IP{net.IPv4(10, 0, 1, 10), net.IPv4(127, 0, 0, 1)},
		NotBefore: certNow.AddDate(0, -1, 0), NotAfter: certNow.AddDate(0, 6, 0),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	change(template)
	cert, key, _, _ := ca.write(t, template, ca)
	return CertFiles{Use: "peer", Cert: cert, Key: key, CA: ca.file}
}

func (ca *testCA) write(t *testing.T, template *x509.Certificate, parent *testCA) (certFile, keyFile string, _ *x509.Certificate, _ *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	do(t, err)
	signer, signerKey := template, key
	if parent != nil {
		signer, signerKey = parent.cert, parent.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, signer, &key.PublicKey, signerKey)
	do(t, err)
	cert, err := x509.ParseCertificate(der)
	do(t, err)
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	do(t, err)
	dir, err := os.MkdirTemp(ca.dir, "") //nolint:usetesting // below the CA's own directory
	do(t, err)
	certFile, keyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	do(t, os.WriteFile(certFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o644),
		os.WriteFile(keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}), 0o600))
	return certFile, keyFile, cert, key
}

func TestCertificateChecks(t *testing.T) {
	ca, otherCA := newCA(t, "ours"), newCA(t, "theirs")
	same := func(*x509.Certificate) {}
	target := func(files ...CertFiles) Target {
		return Target{
			Domain: "rack.test", Node: "n0", Certificates: files, Now: func() time.Time { return certNow },
			LocalAddrs: []netip.Addr{netip.MustParseAddr("10.0.1.10"), netip.MustParseAddr("127.0.0.1")},
		}
	}
	issue := func(change func(*x509.Certificate)) Target { return target(ca.issue(t, change)) }
	good, another := ca.issue(t, same), ca.issue(t, same)
	use := func(f CertFiles, use string) CertFiles { f.Use = use; return f }
	swapped := good
	swapped.Key = another.Key
	foreign := good
	foreign.CA = otherCA.file
	missing := CertFiles{Use: "server", Cert: "/nonexistent/cert.pem"}
	garbage := CertFiles{Use: "server", Cert: good.Key}
	openKey := ca.issue(t, same)
	do(t, os.Chmod(openKey.Key, 0o640))
	alone := CertFiles{Use: "peer", Cert: good.Cert}

	runCases(t, []checkCase{
		{"match", "certificate-key", target(good, another), LevelOK, []string{"2 certificates"}},
		{"of another key", "certificate-key", target(swapped), LevelFail, []string{"does not match", swapped.Key}},
		{"missing", "certificate-key", target(missing), LevelFail, []string{"/nonexistent/cert.pem", "server"}},
		{"not a certificate", "certificate-key", target(garbage), LevelFail, []string{"no certificate in PEM"}},
		{"no key", "certificate-key", target(alone), LevelSkip, nil},
		{"nothing", "certificate-key", target(), LevelSkip, nil},

		{"signed", "certificate-chain", target(good), LevelOK, nil},
		{"by another CA", "certificate-chain", target(foreign), LevelFail, []string{"CN=ours", otherCA.file, "openssl verify"}},
		{"expired is another matter", "certificate-chain", issue(func(c *x509.Certificate) { c.NotAfter = certNow.AddDate(0, 0, -1) }), LevelOK, nil},
		{"CA missing", "certificate-chain", target(CertFiles{Use: "peer", Cert: good.Cert, CA: "/nonexistent/ca"}), LevelFail, []string{"/nonexistent/ca"}},
		{"no CA", "certificate-chain", target(alone), LevelSkip, nil},
		{"unreadable is reported once", "certificate-chain", target(missing), LevelSkip, []string{"certificate-key"}},

		{"months", "certificate-expiry", target(good), LevelOK, []string{"2026-12-01"}},
		{"ended", "certificate-expiry", issue(func(c *x509.Certificate) { c.NotAfter = certNow.Add(-time.Hour) }), LevelFail, []string{"2026-05-31T23:00:00Z", "2026-06-01T00:00:00Z"}},
		{"not begun", "certificate-expiry", issue(func(c *x509.Certificate) { c.NotBefore = certNow.Add(time.Hour) }), LevelFail, []string{"2026-06-01T01:00:00Z", "clock"}},
		{"days", "certificate-expiry", issue(func(c *x509.Certificate) { c.NotAfter = certNow.AddDate(0, 0, 5) }), LevelWarn, []string{"120h"}},
		{"a short life, well begun", "certificate-expiry", issue(func(c *x509.Certificate) {
			c.NotBefore, c.NotAfter = certNow.AddDate(0, 0, -1), certNow.AddDate(0, 0, 5)
		}), LevelOK, nil},

		{"both", "certificate-usage", target(good), LevelOK, nil},
		{"peer without client", "certificate-usage", issue(func(c *x509.Certificate) { c.ExtKeyUsage = c.ExtKeyUsage[:1] }), LevelFail, []string{"lacks clientAuth", "serverAuth,clientAuth"}},
		{"server without client", "certificate-usage", target(use(ca.issue(t, func(c *x509.Certificate) { c.ExtKeyUsage = c.ExtKeyUsage[:1] }), "server")), LevelOK, nil},
		{"client without client", "certificate-usage", target(use(ca.issue(t, func(c *x509.Certificate) { c.ExtKeyUsage = c.ExtKeyUsage[:1] }), "client")), LevelFail, nil},
		{"no restriction", "certificate-usage", issue(func(c *x509.Certificate) { c.ExtKeyUsage = nil }), LevelOK, nil},
		{"any", "certificate-usage", issue(func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageAny} }), LevelOK, nil},

		{"all", "certificate-names", target(good), LevelOK, []string{"all 4"}},
		{"without the domain", "certificate-names", issue(func(c *x509.Certificate) { c.DNSNames = []string{"n0.rack.test"} }), LevelFail, []string{"DNS:rack.test", "n0.rack.test"}},
		{"without the host", "certificate-names", issue(func(c *x509.Certificate) { c.DNSNames = []string{"rack.test"} }), LevelFail, []string{"not for n0.rack.test"}},
		{"a wildcard holds the host", "certificate-names", issue(func(c *x509.Certificate) { c.DNSNames = []string{"*.rack.test", "rack.test"} }), LevelOK, nil},
		{"only a common name", "certificate-names", issue(func(c *x509.Certificate) { c.DNSNames, c.IPAddresses = nil, nil }), LevelFail, []string{"no name"}},
		{"without an address", "certificate-names", issue(func(c *x509.Certificate) { c.IPAddresses = c.IPAddresses[1:] }), LevelWarn, []string{"IP:10.0.1.10"}},
		{"a client's", "certificate-names", target(use(ca.issue(t, func(c *x509.Certificate) { c.DNSNames = nil }), "client")), LevelSkip, nil},
		{"a server's, whose peers have another name for it", "certificate-names", target(use(good, "server")).with(func(t *Target) {
			t.PeerURLs, t.ClientURLs = []string{"https://n0-peer.rack.test:2380"}, []string{"https://n0.rack.test:2379"}
		}), LevelOK, []string{"all 4"}},
		{"advertised to clients under another name", "certificate-names", target(use(good, "server")).with(func(t *Target) { t.ClientURLs = []string{"https://n9.rack.test:2379"} }), LevelFail, []string{"n9.rack.test"}},
		{"advertised under another name", "certificate-names", target(good).with(func(t *Target) { t.PeerURLs = []string{"https://n0-peer.rack.test:2380"} }), LevelFail, []string{"n0-peer.rack.test"}},

		{"private", "certificate-files", target(good), LevelOK, nil},
		{"open", "certificate-files", target(openKey), LevelWarn, []string{"0640", "0600", "chmod 600"}},
		{"no key", "certificate-files", target(alone), LevelSkip, nil},
	})
}
