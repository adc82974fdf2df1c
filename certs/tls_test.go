package certs

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"io"
	"log"
	"strings"
	"testing"
	"time"
)

func discardLog() *log.Logger { return log.New(io.Discard, "", 0) }

func TestAdminTLS(t *testing.T) {
	b, _ := newTestBundle(t)
	other, _ := newTestBundle(t)
	n0, n1 := newRig(t, b, "infra0", t.TempDir()).must(), newRig(t, b, "infra1", t.TempDir()).must()
	stranger := newRig(t, other, "infra0", t.TempDir()).must()
	blank := newRig(t, b, "infra2", t.TempDir())
	alice, err := b.WriteClient(t.TempDir(), "alice", ClientOptions{})
	if err != nil {
		t.Fatal(err)
	}
	admin, foreign := serveTLS(t, n0.AdminServerTLS()), serveTLS(t, stranger.AdminServerTLS())
	// with takes over infra1's dialer but presents another certificate.
	with := func(cert, key string) *tls.Config {
		pair, err := tls.LoadX509KeyPair(cert, key)
		if err != nil {
			t.Fatal(err)
		}
		cfg := n1.AdminClientTLS("infra0")
		cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }
		return cfg
	}
	trusting := n1.AdminClientTLS("infra0") // lets the server do the refusing
	trusting.InsecureSkipVerify, trusting.VerifyConnection = true, nil
	answering := func(c *tls.Certificate) string {
		cfg := n0.AdminServerTLS()
		cfg.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c, nil }
		return serveTLS(t, cfg)
	}
	asServer := func(cert, key string) string {
		pair, err := tls.LoadX509KeyPair(cert, key)
		if err != nil {
			t.Fatal(err)
		}
		return answering(&pair)
	}
	// forged signs with the true peer CA, as a thief of the bundle would.
	forged := func(uri, host string) *tls.Certificate {
		key, err := newKey()
		if err != nil {
			t.Fatal(err)
		}
		l := desiredFor(peerSlot, b, "infra0", "infra0", nil).leaf
		l.uri, l.dns = uri, []string{host + "." + testDomain}
		tmpl, err := leafTemplate(l, b.peerCA, b.Created(), leafLifetime)
		if err != nil {
			t.Fatal(err)
		}
		cert, err := signCert(tmpl, key.Public(), b.peerCA)
		if err != nil {
			t.Fatal(err)
		}
		return &tls.Certificate{Certificate: [][]byte{cert.Raw, b.peerCA.cert.Raw}, PrivateKey: key}
	}
	tests := []struct {
		name, addr string
		cfg        *tls.Config
		want       string // part of the error; empty means accepted
	}{
		{"node to node", admin, n1.AdminClientTLS("infra0"), ""},
		{"a node to itself", admin, n0.AdminClientTLS("infra0"), ""},
		{"another node answers", admin, n1.AdminClientTLS("infra2"), "infra2." + testDomain},
		{"another rack's node answers", foreign, n1.AdminClientTLS("infra0"), "unknown authority"},
		{"another rack's node calls", foreign, trusting, "certificate"},
		{"an operator's client certificate", admin, with(alice.Cert, alice.Key), "certificate"},
		{"a node's client certificate", admin, with(n1.Files().ClientCert, n1.Files().ClientKey), "certificate"},
		{"a node's server certificate", admin, with(n1.Files().ServerCert, n1.Files().ServerKey), "certificate"},
		{"a server certificate answers", asServer(n0.Files().ServerCert, n0.Files().ServerKey), n1.AdminClientTLS("infra0"), "lacks clientAuth"},
		{"a client certificate answers", asServer(alice.Cert, alice.Key), n1.AdminClientTLS("infra0"), "certificate"},
		{"the right host name, another identity", answering(forged(identityURI(b.ID(), "infra1"), "infra0")), n1.AdminClientTLS("infra0"), `node "infra1" answered`},
		{"the right identity, another host name", answering(forged(identityURI(b.ID(), "infra0"), "infra1")), n1.AdminClientTLS("infra0"), "not infra0"},
		{"an identity of another bundle", answering(forged(identityURI(other.ID(), "infra0"), "infra0")), n1.AdminClientTLS("infra0"), "belongs to bundle"},
		{"caller has no certificate yet", admin, blank.AdminClientTLS("infra0"), errNotReady.Error()},
		{"server has no certificate yet", serveTLS(t, blank.AdminServerTLS()), n1.AdminClientTLS("infra2"), "internal error"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cs, err := exchange(tt.addr, tt.cfg)
			if tt.want != "" {
				if err == nil || !strings.Contains(err.Error(), tt.want) {
					t.Fatalf("error %v, want %q", err, tt.want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if bundle, node, err := PeerIdentity(&cs); err != nil || bundle != b.ID() || node != "infra0" {
				t.Errorf("identity %s %s %v", bundle, node, err)
			}
		})
	}
}

// TestAdminServerKnowsCaller checks the identity on the server's side of a real connection.
func TestAdminServerKnowsCaller(t *testing.T) {
	b, _ := newTestBundle(t)
	n0, n1 := newRig(t, b, "infra0", t.TempDir()).must(), newRig(t, b, "infra1", t.TempDir()).must()
	type caller struct {
		bundle, node string
		err          error
	}
	got := make(chan caller, 1)
	cfg := n0.AdminServerTLS()
	verify := cfg.VerifyConnection
	cfg.VerifyConnection = func(cs tls.ConnectionState) error {
		bundle, node, err := PeerIdentity(&cs)
		got <- caller{bundle, node, err}
		return verify(cs)
	}
	if _, err := exchange(serveTLS(t, cfg), n1.AdminClientTLS("infra0")); err != nil {
		t.Fatal(err)
	}
	if c := <-got; c.err != nil || c.bundle != b.ID() || c.node != "infra1" {
		t.Errorf("caller %+v", c)
	}
}

// TestAdminServerFollowsRenewal: one configuration, made once, presents each new certificate.
func TestAdminServerFollowsRenewal(t *testing.T) {
	b, _ := newTestBundle(t)
	n0, n1 := newRig(t, b, "infra0", t.TempDir()).must(), newRig(t, b, "infra1", t.TempDir()).must()
	addr, cfg := serveTLS(t, n0.AdminServerTLS()), n1.AdminClientTLS("infra0")
	serial := func() string {
		cs, err := exchange(addr, cfg)
		if err != nil {
			t.Fatal(err)
		}
		return cs.PeerCertificates[0].SerialNumber.String()
	}
	before := serial()
	for _, r := range []*rig{n0, n1} {
		r.advance(400 * day) // all old certificates are expired by then
		r.must()
	}
	if serial() == before {
		t.Error("the old certificate is still presented")
	}
	n1.advance(400 * day)
	if _, err := exchange(addr, cfg); err == nil || !strings.Contains(err.Error(), "expired") {
		t.Errorf("an expired certificate: %v", err)
	}
}

func TestPeerIdentityRefuses(t *testing.T) {
	b, key := newTestBundle(t)
	root := rootOf(t, b, key)
	id := identityURI(b.ID(), "infra0")
	both := []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	peer := func(uri string, usages []x509.ExtKeyUsage, ca issuingCA) *x509.Certificate {
		return mint(t, leaf{cn: "x", uri: uri, usages: usages}, ca)
	}
	two := peer(id, both, b.peerCA)
	two.URIs = append(two.URIs, two.URIs[0])
	good := peer(id, both, b.peerCA)
	tests := []struct {
		name string
		cs   *tls.ConnectionState
		want string // empty means accepted
	}{
		{"good", verified(good, b.peerCA.cert, root.cert), ""},
		{"no connection", nil, "no verified"},
		{"nothing presented", &tls.ConnectionState{}, "no verified"},
		{"presented, not verified", &tls.ConnectionState{PeerCertificates: []*x509.Certificate{good, b.peerCA.cert}}, "no verified"},
		{"client CA", verified(peer(id, both[1:], b.clientCA), b.clientCA.cert, root.cert), "not issued by a peer CA"},
		{"root itself", verified(peer(id, both, root), root.cert), "not issued by a peer CA"},
		{"no issuer", verified(good), "not issued by a peer CA"},
		{"server only", verified(peer(id, both[:1], b.peerCA), b.peerCA.cert, root.cert), "clientAuth"},
		{"no URI", verified(peer("", both, b.peerCA), b.peerCA.cert, root.cert), "0 URIs"},
		{"two URIs", verified(two, b.peerCA.cert, root.cert), "2 URIs"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			bundle, node, err := PeerIdentity(tt.cs)
			if tt.want == "" {
				if err != nil || bundle != b.ID() || node != "infra0" {
					t.Fatalf("%s %s %v", bundle, node, err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), tt.want) || bundle+node != "" {
				t.Fatalf("%s %s, error %v, want %q", bundle, node, err, tt.want)
			}
		})
	}
}

func verified(chain ...*x509.Certificate) *tls.ConnectionState {
	return &tls.ConnectionState{VerifiedChains: [][]*x509.Certificate{chain}}
}

// FuzzPeerIdentity puts any URI into a peer certificate: what is accepted is exactly what an identity looks like.
func FuzzPeerIdentity(f *testing.F) {
	b, _ := newTestBundle(f)
	for _, uri := range []string{
		identityURI(b.ID(), "infra0"), "etcd-dns://" + b.ID() + "/infra0/", "etcd-dns://" + b.ID() + "/", "etcd-dns://" + b.ID() + "/a/../b",
		"etcd-dns://" + b.ID() + "/infra0?x", "etcd-dns://" + b.ID() + "/infra0#x", "etcd-dns://u@" + b.ID() + "/infra0", "etcd-dns://" + b.ID() + ":1/infra0",
		"ETCD-DNS://" + b.ID() + "/infra0", "etcd-dns://" + strings.ToUpper(b.ID()) + "/infra0", "etcd-dns://" + b.ID() + "/Infra0",
		"etcd-dns://" + b.ID() + "/infra%30", "etcd-dns:" + b.ID() + "/infra0", "https://" + b.ID() + "/infra0", "//" + b.ID() + "/infra0", "",
	} {
		f.Add(uri)
	}
	key, err := newKey()
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, uri string) {
		l := leaf{cn: "x", usages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
		tmpl, err := leafTemplate(l, b.peerCA, time.Now(), leafLifetime)
		if err != nil {
			t.Fatal(err)
		}
		tmpl.ExtraExtensions = uriExtension(t, uri)
		cert, err := signCert(tmpl, key.Public(), b.peerCA)
		if err != nil {
			return // crypto/x509 does not parse it
		}
		bundle, node, err := PeerIdentity(verified(cert, b.peerCA.cert, b.roots[0]))
		if err != nil {
			if bundle+node != "" {
				t.Fatalf("an error, but also an identity: %q %q", bundle, node)
			}
			return
		}
		scheme, rest, _ := strings.Cut(uri, ":")
		if !strings.EqualFold(scheme, "etcd-dns") || rest != "//"+bundle+"/"+node || len(bundle) != 32 || !isHostLabel(node) {
			t.Fatalf("%q was taken for node %q of bundle %q", uri, node, bundle)
		}
	})
}

// uriExtension is a subject alternative name extension with one URI of any octets (RFC 5280 §4.2.1.6).
func uriExtension(t *testing.T, uri string) []pkix.Extension {
	t.Helper()
	const uniformResourceIdentifier = 6
	value, err := asn1.Marshal([]asn1.RawValue{{Class: asn1.ClassContextSpecific, Tag: uniformResourceIdentifier, Bytes: []byte(uri)}})
	if err != nil {
		t.Fatal(err)
	}
	return []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 17}, Value: value}}
}
