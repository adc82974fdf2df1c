package member

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	logtest "go.uber.org/zap/zaptest/observer"

	"github.com/etcd-dns/etcd-dns/roster"
	"github.com/etcd-dns/etcd-dns/srvboot"
)

const testDomain = "rack1.example.com"

// patience bounds every wait of these tests; the machine may be busy.
const patience = 30 * time.Second

// testNode is one node of a rack on loopback.
type testNode struct {
	name     string
	addr     netip.Addr
	peer     string
	client   string
	dir      string
	tls      *TLSFiles
	resolver *Resolver
	logs     *logtest.ObservedLogs
	log      *zap.Logger
}

// rack is a set of nodes with a genesis, each with its own resolver.
type rack struct {
	t       testing.TB
	nodes   []*testNode
	genesis srvboot.Genesis
	ids     map[string]string
	ca      *testCA
}

type rackOptions struct {
	nodes int
	plain bool
}

func newRack(t testing.TB, o rackOptions) *rack {
	t.Helper()
	r := &rack{t: t, genesis: srvboot.Genesis{ID: "6f1c9a52-0d7f-4c1e-9a55-" + fmt.Sprintf("%012x", time.Now().UnixNano()&0xffffffffffff), Generation: 1}}
	scheme := "https"
	if o.plain {
		scheme = "http"
	} else {
		r.ca = newTestCA(t)
	}
	for i := range o.nodes {
		n := &testNode{name: fmt.Sprintf("infra%d", i), addr: netip.AddrFrom4([4]byte{127, 0, 1, byte(10 + i)}), dir: filepath.Join(t.TempDir(), "etcd")}
		host := n.name + "." + testDomain
		n.peer = fmt.Sprintf("%s://%s:%d", scheme, host, freePort(t, n.addr))
		n.client = fmt.Sprintf("%s://%s:%d", scheme, host, freePort(t, n.addr))
		if !o.plain {
			n.tls = r.ca.files(t, host, n.addr)
		}
		core, logs := logtest.New(zap.InfoLevel)
		n.logs, n.log = logs, zap.New(core)
		t.Cleanup(func() { dumpIfFailed(t, n) })
		r.nodes = append(r.nodes, n)
		r.genesis.Members = append(r.genesis.Members, srvboot.GenesisMember{Name: n.name, PeerURL: n.peer})
	}
	var err error
	if r.genesis.ClusterID, r.ids, err = srvboot.IDs(r.genesis.Members, r.genesis.ID); err != nil {
		t.Fatal(err)
	}
	for _, n := range r.nodes {
		n.resolver = runResolver(t, ResolverOptions{Log: n.log})
	}
	return r
}

// dumpIfFailed prints the end of a node's log.
func dumpIfFailed(t testing.TB, n *testNode) {
	if !t.Failed() {
		return
	}
	all := n.logs.All()
	for _, e := range all[max(0, len(all)-40):] {
		t.Logf("%s: %s %s %v", n.name, e.Level, e.Message, e.ContextMap())
	}
}

// runResolver runs a resolver until the test ends.
func runResolver(t testing.TB, o ResolverOptions) *Resolver {
	t.Helper()
	res := NewResolver(o)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- res.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("resolver: %v", err)
		}
	})
	if err := res.ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	return res
}

func (r *rack) roster() roster.Roster {
	out := roster.Roster{Domain: testDomain + "."}
	for i, n := range r.nodes {
		out.Nodes = append(out.Nodes, roster.Node{Name: n.name, Addrs: []netip.Addr{n.addr}, Slot: i})
	}
	return out
}

// spec is what a node would put into Options.Base.
func (r *rack) spec(n *testNode) Spec {
	listen := func(raw string) []string {
		_, rest, _ := cutURL(raw)
		return []string{fmt.Sprintf("%s://%s:%s", rest.scheme, n.addr, rest.port)}
	}
	return Spec{
		Name: n.name, DataDir: n.dir, Domain: testDomain,
		AdvertisePeer: []string{n.peer}, AdvertiseClient: []string{n.client},
		ListenPeer: listen(n.peer), ListenClient: listen(n.client),
		TLS: n.tls, HeartbeatMs: 100, ElectionMs: 500,
	}
}

// launcher starts members of one node with the full view.
func (r *rack) launcher(n *testNode, change ...func(*Options)) *Launcher {
	o := Options{
		Base:     func() Spec { return r.spec(n) },
		View:     func(l srvboot.Launch) (View, error) { return ViewOf(l.Members, r.roster(), "") },
		Resolver: n.resolver,
		Log:      n.log,
	}
	for _, f := range change {
		f(&o)
	}
	return NewLauncher(o)
}

// launch is the launch of a member that starts as new.
func (r *rack) launch(n *testNode) srvboot.Launch {
	return srvboot.Launch{
		New: true, Token: r.genesis.ID, Members: r.genesis.Members,
		ClusterID: r.genesis.ClusterID, MemberID: r.ids[n.name],
	}
}

// start runs a member until the test ends.
func (r *rack) start(l *Launcher, launch srvboot.Launch) *Process {
	r.t.Helper()
	m, err := l.Start(r.t.Context(), launch)
	if err != nil {
		r.t.Fatal(err)
	}
	p := m.(*Process)
	r.t.Cleanup(func() { stopNow(r.t, p) })
	return p
}

func stopNow(t testing.TB, p *Process) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := p.Stop(ctx); err != nil {
		t.Errorf("stop: %v", err)
	}
}

// await waits until the member's state is as wanted.
func (r *rack) await(p *Process, what string, ok func(srvboot.MemberState) bool) srvboot.MemberState {
	r.t.Helper()
	late := time.After(patience)
	for {
		s, known := p.State()
		if known && ok(s) {
			return s
		}
		select {
		case <-p.Changed():
		case <-p.Done():
			r.t.Fatalf("waiting until %s: the member ended: %v", what, p.Err())
		case <-late:
			r.t.Fatalf("not %s within %v; last state %+v", what, patience, s)
		}
	}
}

// healthy: serves, and every member has published itself.
func (r *rack) healthy(s srvboot.MemberState) bool {
	if !s.Serving || len(s.Members) != len(r.nodes) {
		return false
	}
	for _, m := range s.Members {
		if m.Name == "" || len(m.ClientURLs) == 0 {
			return false
		}
	}
	return true
}

// awaitDeath waits for the end and returns its reason.
func (r *rack) awaitDeath(p *Process) *ExitError {
	r.t.Helper()
	select {
	case <-p.Done():
	case <-time.After(patience):
		r.t.Fatalf("the member still runs after %v", patience)
	}
	var e *ExitError
	if !errors.As(p.Err(), &e) {
		r.t.Fatalf("Err() = %v, want an *ExitError", p.Err())
	}
	return e
}

// client speaks to one node with an ordinary client certificate.
func (r *rack) client(n *testNode) *clientv3.Client {
	r.t.Helper()
	_, u, _ := cutURL(n.client)
	cfg := clientv3.Config{Endpoints: []string{fmt.Sprintf("%s://%s:%s", u.scheme, n.addr, u.port)}, DialTimeout: patience, Logger: zap.NewNop()}
	if n.tls != nil {
		pair, err := tls.LoadX509KeyPair(n.tls.ClientCert, n.tls.ClientKey)
		if err != nil {
			r.t.Fatal(err)
		}
		cfg.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, RootCAs: r.ca.pool}
	}
	c, err := clientv3.New(cfg)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { c.Close() })
	return c
}

func (r *rack) put(c *clientv3.Client, key, value string) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), patience)
	defer cancel()
	for {
		_, err := c.Put(ctx, key, value)
		if err == nil {
			return
		}
		if ctx.Err() != nil { // an election under way times a put out, which is not what these tests are about
			r.t.Fatalf("put %s: %v", key, err)
		}
	}
}

func (r *rack) get(c *clientv3.Client, key string) string {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), patience)
	defer cancel()
	resp, err := c.Get(ctx, key)
	if err != nil {
		r.t.Fatalf("get %s: %v", key, err)
	}
	if len(resp.Kvs) == 0 {
		return ""
	}
	return string(resp.Kvs[0].Value)
}

func freePort(t testing.TB, a netip.Addr) int {
	t.Helper()
	l, err := net.Listen("tcp", netip.AddrPortFrom(a, 0).String())
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

type urlParts struct{ scheme, port string }

func cutURL(raw string) (host string, p urlParts, err error) {
	var rest string
	for _, s := range []string{"https", "http"} {
		if n := len(s) + 3; len(raw) > n && raw[:n] == s+"://" {
			p.scheme, rest = s, raw[n:]
			break
		}
	}
	host, p.port, err = net.SplitHostPort(rest)
	return host, p, err
}

// testCA issues what certs would.
type testCA struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pool *x509.CertPool
	file string
}

func newTestCA(t testing.TB) *testCA {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test CA"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	ca := &testCA{key: key, pool: x509.NewCertPool(), file: filepath.Join(t.TempDir(), "ca.crt")}
	ca.cert, _ = x509.ParseCertificate(der)
	ca.pool.AddCert(ca.cert)
	writePEM(t, ca.file, "CERTIFICATE", der)
	return ca
}

// files issues a node's three certificates: peer with both usages, server with serverAuth alone, client.
func (ca *testCA) files(t testing.TB, host string, a netip.Addr) *TLSFiles {
	t.Helper()
	dir := t.TempDir()
	both := []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	f := &TLSFiles{PeerCA: ca.file, ClientCA: ca.file}
	f.PeerCert, f.PeerKey = ca.issue(t, filepath.Join(dir, "peer"), leaf{host, a, both})
	f.ServerCert, f.ServerKey = ca.issue(t, filepath.Join(dir, "server"), leaf{host, a, both[:1]})
	f.ClientCert, f.ClientKey = ca.issue(t, filepath.Join(dir, "client"), leaf{"client", a, both[1:]})
	return f
}

// issueWithout issues a certificate that lacks one of the usual DNS names.
func (ca *testCA) issueWithout(t testing.TB, name string, l leaf) (cert, key string) {
	t.Helper()
	return ca.sign(t, filepath.Join(t.TempDir(), "odd"), l, slices.DeleteFunc(usualNames(l), func(n string) bool { return n == name }))
}

func usualNames(l leaf) []string { return []string{l.host, testDomain, "localhost"} }

type leaf struct {
	host   string
	addr   netip.Addr
	usages []x509.ExtKeyUsage
}

func (ca *testCA) issue(t testing.TB, path string, l leaf) (cert, key string) {
	t.Helper()
	return ca.sign(t, path, l, usualNames(l))
}

func (ca *testCA) sign(t testing.TB, path string, l leaf, names []string) (cert, key string) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		DNSNames: names, IPAddresses: []net.IP{l.addr.AsSlice(), net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: l.usages, KeyUsage: x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, ca.cert, &k.PublicKey, ca.key)
	if err != nil {
		t.Fatal(err)
	}
	kder, err := x509.MarshalECPrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	writePEM(t, path+".crt", "CERTIFICATE", der)
	writePEM(t, path+".key", "EC PRIVATE KEY", kder)
	return path + ".crt", path + ".key"
}

func writePEM(t testing.TB, path, kind string, der []byte) {
	t.Helper()
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
}
