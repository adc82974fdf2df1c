package follow

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
	"strings"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/client/pkg/v3/transport"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"

	"github.com/etcd-dns/etcd-dns/roster"
)

// What a member that answers says of itself decides whether it serves.
func TestWhoServes(t *testing.T) {
	one, two := startFake(t, 1), startFake(t, 2)
	all := []*pb.Member{member(1, "old0", one.url), member(2, "old1", two.url)}
	one.tell(5, all...)
	two.tell(5, all...)
	f, _ := begin(t, Options{Endpoints: []string{one.url, two.url}, File: filepath.Join(t.TempDir(), "list")})
	wait(t, "both serve", has(f, 2, "old0 old1"))
	good := &two.status
	for _, c := range []struct {
		name, why string
		ill       func()
	}{
		{"without a leader", "it knows no leader", func() { good.Leader = 0 }},
		{"a learner", "it is a learner", func() { good.IsLearner = true }},
		{"with a corruption alarm", "corruption", func() { good.Errors = []string{"memberID:2 alarm:CORRUPT "} }},
		{"of another cluster", "it does not answer", func() { good.Header = &pb.ResponseHeader{ClusterId: 0xee, MemberId: 2} }},
		{"without a header", "it does not answer", func() { good.Header = nil }},
		{"another member's name", "", func() { good.Header = &pb.ResponseHeader{ClusterId: fakeCluster, MemberId: 1} }},
		{"an alarm for space", "", func() { good.Errors = []string{"memberID:2 alarm:NOSPACE "} }},
	} {
		two.edit(c.ill)
		serving := map[bool]string{true: "old0 old1", false: "old0"}[c.why == ""]
		wait(t, c.name, has(f, 2, serving))
		if s := f.Status().Members["0000000000000002"]; !strings.Contains(s.Error, c.why) || (s.Error == "") != (c.why == "") {
			t.Errorf("%s: the reason is %q, want %q", c.name, s.Error, c.why)
		}
		two.edit(func() {
			good.Leader, good.IsLearner, good.Errors, good.Header = 1, false, nil, &pb.ResponseHeader{ClusterId: fakeCluster, MemberId: 2}
		})
		wait(t, "well again after "+c.name, has(f, 2, "old0 old1"))
	}
}

// Whatever answers in a member's place: the node goes on.
func TestAnswersWithoutSense(t *testing.T) {
	one := startFake(t, 1)
	one.tell(5)
	one.edit(func() { one.status.Header, one.lists[0].Header = nil, nil })
	f, _ := begin(t, Options{Endpoints: []string{one.url}, File: filepath.Join(t.TempDir(), "list")})
	wait(t, "no members", faulty(f, "no members"))
	one.edit(func() { one.lists[0].Members = []*pb.Member{{}, {}} })
	wait(t, "no IDs", faulty(f, "twice"))
	one.edit(func() { one.status.Version = strings.Repeat("x", 1<<20) })
	wait(t, "too large an answer", faulty(f, "larger than max"))
	if _, ok := f.List(); ok {
		t.Error("something was taken")
	}
}

// A list that changes while it is told has no date until it is told twice.
func TestToldTwice(t *testing.T) {
	one := startFake(t, 1)
	at := func(names ...string) *pb.MemberListResponse {
		r := &pb.MemberListResponse{Header: &pb.ResponseHeader{ClusterId: fakeCluster, MemberId: 1}}
		for i, n := range names {
			r.Members = append(r.Members, member(uint64(i+1), n, one.url))
		}
		return r
	}
	c := &conns{o: Options{Timeout: 5 * time.Second}}
	defer c.close()
	c.look(t.Context(), []string{one.url})
	one.edit(func() {
		one.status.RaftAppliedIndex = 7
		one.lists = []*pb.MemberListResponse{at("x"), at("x", "y"), at("x", "y", "z"), at("x", "y", "z")}
	})
	if got, err := c.list(t.Context(), one.url, roster.Followed{}); err != nil || len(got.Members) != 3 || got.Index != 7 {
		t.Errorf("got %+v, %v; want the list of three at index 7", got, err)
	}
	one.edit(func() {
		one.lists = nil
		for range 4 {
			one.lists = append(one.lists, at("x"), at("x", "y"))
		}
	})
	if got, err := c.list(t.Context(), one.url, roster.Followed{}); err == nil || !strings.Contains(err.Error(), "changes all the time") {
		t.Errorf("got %+v, %v", got, err)
	}
}

// authority issues certificates for a test.
type authority struct {
	t    *testing.T
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	a := &authority{t: t, dir: t.TempDir()}
	a.cert, a.key = a.issue("ca", "CA")
	return a
}

func (a *authority) path(name string) string { return filepath.Join(a.dir, name) }

// issue writes NAME.pem and NAME.key; the first one signs itself and the others.
func (a *authority) issue(name, commonName string) (*x509.Certificate, *ecdsa.PrivateKey) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: commonName}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, BasicConstraintsValid: true, IsCA: a.cert == nil,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = c, key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, &key.PublicKey, signer)
	if err != nil {
		a.t.Fatal(err)
	}
	raw, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{name + ".pem": {Type: "CERTIFICATE", Bytes: der}, name + ".key": {Type: "EC PRIVATE KEY", Bytes: raw}} {
		if err := os.WriteFile(a.path(file), pem.EncodeToMemory(block), 0o600); err != nil {
			a.t.Fatal(err)
		}
	}
	out, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return out, key
}

// enableAuth turns etcd's authentication on, with the user root alone.
func enableAuth(t *testing.T, c *clientv3.Client) {
	t.Helper()
	if _, err := c.UserAddWithOptions(t.Context(), "root", "", &clientv3.UserAddOptions{NoPassword: true}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.RoleAdd(t.Context(), "root"); err != nil {
		t.Fatal(err)
	}
	if _, err := c.UserGrantRole(t.Context(), "root", "root"); err != nil {
		t.Fatal(err)
	}
	if _, err := c.AuthEnable(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// A follower that is no user of an etcd with authentication still sees who serves, and says what it needs for the list.
func TestAuthWithoutUser(t *testing.T) {
	at := freeAddr(t)
	stop := serve(t, at, nil)
	f, _ := begin(t, Options{Endpoints: []string{"http://" + at}, File: filepath.Join(t.TempDir(), "list")})
	wait(t, "the one member", has(f, 1, "old0"))
	wait(t, "no fault", faulty(f, ""))
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{at}, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	enableAuth(t, c)
	wait(t, "the remedy", faulty(f, "client certificate whose common name is one of its users"))
	if why := has(f, 1, "old0")(); why != "" {
		t.Errorf("it serves no more: %s", why)
	}
	if l, _ := f.List(); !l.Contact {
		t.Error("its word on who serves does not count")
	}
	stop()
	wait(t, "it serves no longer", has(f, 1, ""))
}

// A cluster that wants client certificates, and then users: the one that the block names is shown, and read anew.
func TestClientCertificate(t *testing.T) {
	at, a := freeAddr(t), newAuthority(t)
	a.issue("server", "etcd")
	serve(t, at, func(c *embed.Config) {
		c.ClientTLSInfo = transport.TLSInfo{CertFile: a.path("server.pem"), KeyFile: a.path("server.key"), TrustedCAFile: a.path("ca.pem"), ClientCertAuth: true}
	})
	o := Options{Endpoints: []string{"https://" + at}, CA: a.path("ca.pem"), File: filepath.Join(t.TempDir(), "list")}
	bare, end := begin(t, o)
	wait(t, "no certificate, no answer", faulty(bare, at))
	if l, ok := bare.List(); ok {
		t.Errorf("without a certificate it has %+v", l)
	}
	end()

	a.issue("client", "anybody")
	o.Cert, o.Key = a.path("client.pem"), a.path("client.key")
	f, _ := begin(t, o)
	wait(t, "the one member", has(f, 1, "old0"))
	info := transport.TLSInfo{CertFile: a.path("root.pem"), KeyFile: a.path("root.key"), TrustedCAFile: a.path("ca.pem")}
	a.issue("root", "root")
	config, err := info.ClientConfig()
	if err != nil {
		t.Fatal(err)
	}
	c, err := clientv3.New(clientv3.Config{Endpoints: o.Endpoints, TLS: config, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	enableAuth(t, c)
	if _, err := c.MemberAddAsLearner(t.Context(), []string{"http://192.0.2.7:2380"}); err != nil {
		t.Fatal(err)
	}
	wait(t, "a change, with authentication on", has(f, 2, "old0"))
	wait(t, "no fault", faulty(f, ""))
}
