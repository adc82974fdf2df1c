package certs

import (
	"crypto/x509"
	"net"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// mint signs a leaf with a CA of the bundle, as a thief of the bundle would.
func mint(t *testing.T, l leaf, ca issuingCA) *x509.Certificate {
	t.Helper()
	key, err := newKey()
	if err != nil {
		t.Fatal(err)
	}
	tmpl, err := leafTemplate(l, ca, time.Now(), leafLifetime)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := signCert(tmpl, key.Public(), ca)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func verifyLeaf(b *Bundle, c *x509.Certificate, usage x509.ExtKeyUsage) error {
	issuing := x509.NewCertPool()
	issuing.AddCert(b.peerCA.cert)
	issuing.AddCert(b.clientCA.cert)
	_, err := c.Verify(x509.VerifyOptions{Roots: b.pool(), Intermediates: issuing, KeyUsages: []x509.ExtKeyUsage{usage}})
	return err
}

func TestNameConstraints(t *testing.T) {
	b, key := newTestBundle(t)
	root := rootOf(t, b, key)
	server, client := x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth
	tests := []struct {
		name  string
		ca    issuingCA
		dns   []string
		usage x509.ExtKeyUsage
		ok    bool
	}{
		{"peer CA: node and domain", b.peerCA, []string{"infra0." + testDomain, testDomain, "localhost"}, server, true},
		{"peer CA: node as client", b.peerCA, []string{"infra0." + testDomain}, client, true},
		{"peer CA: another domain", b.peerCA, []string{"www.example.org"}, server, false},
		{"peer CA: the parent domain", b.peerCA, []string{"example.com"}, server, false},
		{"peer CA: a sibling", b.peerCA, []string{"xrack1.example.com"}, server, false},
		{"peer CA: one good, one bad", b.peerCA, []string{testDomain, "www.example.org"}, server, false},
		{"client CA: no names", b.clientCA, nil, client, true},
		{"client CA: as server", b.clientCA, nil, server, false},
		{"client CA: the domain", b.clientCA, []string{testDomain}, client, false},
		{"client CA: a node", b.clientCA, []string{"infra0." + testDomain}, client, false},
		{"client CA: another domain", b.clientCA, []string{"www.example.org"}, client, false},
		{"root: another domain", root, []string{"www.example.org"}, server, false},
		{"root: the domain", root, []string{testDomain}, server, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := mint(t, leaf{cn: "x", dns: tt.dns, usages: []x509.ExtKeyUsage{tt.usage}}, tt.ca)
			if err := verifyLeaf(b, c, tt.usage); (err == nil) != tt.ok {
				t.Errorf("verified: %v, want ok %v", err, tt.ok)
			}
		})
	}
	sub := caTemplate(root.cert.Subject, time.Now(), day, testDomain)
	ca, err := signCA(sub, b.peerCA)
	if err != nil {
		t.Fatal(err)
	}
	issuing := x509.NewCertPool()
	issuing.AddCert(b.peerCA.cert)
	issuing.AddCert(ca.cert)
	c := mint(t, leaf{dns: []string{testDomain}, usages: []x509.ExtKeyUsage{server}}, ca)
	if _, err := c.Verify(x509.VerifyOptions{Roots: b.pool(), Intermediates: issuing}); err == nil {
		t.Error("an issuing CA can make further CAs")
	}
}

// TestPublishedCertificates checks names, usages, lifetimes and chains of what a node publishes.
func TestPublishedCertificates(t *testing.T) {
	b, _ := newTestBundle(t)
	r := newRig(t, b, "infra0", t.TempDir())
	r.setAddrs("10.0.1.10", "fd00::10", "10.0.1.10", "::ffff:192.0.2.7", "fe80::1%eth0", "0.0.0.0", "::", "224.0.0.1", "127.0.0.1")
	r.must()
	names := []string{"infra0." + testDomain, testDomain, "localhost"}
	ips := []string{"10.0.1.10", "127.0.0.1", "192.0.2.7", "::1", "fd00::10", "fe80::1"}
	both := []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	tests := []struct {
		slot, path, cn string
		dns, ips, uris []string
		usages         []x509.ExtKeyUsage
	}{
		{peerSlot, r.Files().PeerCert, "", names, ips, []string{"etcd-dns://" + b.ID() + "/infra0"}, both},
		{clientSlot, r.Files().ClientCert, "infra0", nil, nil, nil, both[1:]},
		{serverSlot, r.Files().ServerCert, "", names, ips, nil, both[:1]},
	}
	for _, tt := range tests {
		t.Run(tt.slot, func(t *testing.T) {
			c := r.leaf(tt.path)
			var got []string
			for _, ip := range c.IPAddresses {
				got = append(got, ip.String())
			}
			if c.Subject.CommonName != tt.cn || !slices.Equal(c.DNSNames, tt.dns) || !slices.Equal(got, tt.ips) || !slices.Equal(uris(c), tt.uris) || len(c.EmailAddresses) > 0 {
				t.Errorf("names: CN %q DNS %v IP %v URI %v", c.Subject.CommonName, c.DNSNames, got, uris(c))
			}
			if !slices.Equal(c.ExtKeyUsage, tt.usages) || c.KeyUsage != x509.KeyUsageDigitalSignature || c.IsCA || len(c.UnknownExtKeyUsage) > 0 {
				t.Errorf("usages: %v %v", c.ExtKeyUsage, c.KeyUsage)
			}
			if got, want := c.NotAfter.Sub(b.Created()), 90*24*time.Hour; got != want {
				t.Errorf("lives %s, want %s", got, want)
			}
			if got := b.Created().Sub(c.NotBefore); got != 24*time.Hour {
				t.Errorf("backdated by %s, want 24h", got)
			}
			for _, usage := range both {
				if err := verifyLeaf(b, c, usage); (err == nil) != slices.Contains(tt.usages, usage) {
					t.Errorf("usage %v: %v", usage, err)
				}
			}
			for _, host := range append(slices.Clone(tt.dns), tt.ips...) {
				if err := c.VerifyHostname(host); err != nil {
					t.Error(err)
				}
			}
			for _, host := range []string{"infra1." + testDomain, "x." + testDomain, "10.0.1.11", "example.com"} {
				if c.VerifyHostname(host) == nil {
					t.Errorf("valid for %s", host)
				}
			}
		})
	}
}

func TestCALifetimes(t *testing.T) {
	b, _ := newTestBundle(t)
	for name, tt := range map[string]struct {
		cert *x509.Certificate
		life time.Duration
	}{"root": {b.roots[0], rootLifetime}, "peer": {b.peerCA.cert, issuingLifetime}, "client": {b.clientCA.cert, issuingLifetime}} {
		if got := tt.cert.NotAfter.Sub(b.Created()); got != tt.life {
			t.Errorf("%s CA lives %s, want %s", name, got, tt.life)
		}
		if got := b.Created().Sub(tt.cert.NotBefore); got != 48*time.Hour {
			t.Errorf("%s CA is backdated by %s, want 48h", name, got)
		}
	}
	late := b.peerCA.cert.NotAfter.Add(-time.Hour)
	tmpl, err := leafTemplate(leaf{dns: []string{testDomain}, ips: []net.IP{{127, 0, 0, 1}}}, b.peerCA, late, leafLifetime)
	if err != nil || !tmpl.NotAfter.Equal(b.peerCA.cert.NotAfter) {
		t.Errorf("a leaf outlives its CA: %v", err)
	}
	_, err = leafTemplate(leaf{dns: []string{testDomain}}, b.peerCA, late.Add(time.Hour), leafLifetime)
	if err == nil {
		t.Fatal("an expired CA still issues")
	}
	mustHint(t, err)
}

// TestOpenSSLAccepts has another implementation check the chains, name constraints included.
func TestOpenSSLAccepts(t *testing.T) {
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		t.Skip("openssl is not installed")
	}
	b, _ := newTestBundle(t)
	r := newRig(t, b, "infra0", t.TempDir()).must()
	out := t.TempDir()
	alice, err := b.WriteClient(out, "alice", ClientOptions{})
	if err != nil {
		t.Fatal(err)
	}
	verify := func(cert, purpose string) (string, error) {
		combined, err := exec.CommandContext(t.Context(), openssl, "verify", "-x509_strict", "-purpose", purpose,
			"-CAfile", r.Files().CA, "-untrusted", cert, cert).CombinedOutput()
		return string(combined), err
	}
	for _, tt := range []struct {
		cert, purpose string
		ok            bool
	}{
		{r.Files().PeerCert, "sslserver", true}, {r.Files().PeerCert, "sslclient", true},
		{r.Files().ServerCert, "sslserver", true}, {r.Files().ServerCert, "sslclient", false},
		{r.Files().ClientCert, "sslclient", true}, {r.Files().ClientCert, "sslserver", false},
		{alice.Cert, "sslclient", true}, {alice.Cert, "sslserver", false},
	} {
		if out, err := verify(tt.cert, tt.purpose); (err == nil) != tt.ok {
			t.Errorf("%s as %s: %v\n%s", filepath.Base(tt.cert), tt.purpose, err, strings.TrimSpace(out))
		}
	}
}
