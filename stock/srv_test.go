package stock

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// serveZone answers the process's own resolver from these records, and NXDOMAIN for all other names.
func serveZone(t *testing.T, zone string) {
	t.Helper()
	records := map[string][]dns.RR{}
	parser := dns.NewZoneParser(strings.NewReader(zone), ".", "")
	parser.SetDefaultTTL(60)
	for rr, ok := parser.Next(); ok; rr, ok = parser.Next() {
		records[rr.Header().Name] = append(records[rr.Header().Name], rr)
	}
	if err := parser.Err(); err != nil {
		t.Fatal(err)
	}
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	started := make(chan struct{})
	server := &dns.Server{PacketConn: pc, NotifyStartedFunc: func() { close(started) }, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg).SetReply(q)
		all := records[q.Question[0].Name]
		if len(all) == 0 {
			m.Rcode = dns.RcodeNameError
		}
		for _, rr := range all {
			if rr.Header().Rrtype == q.Question[0].Qtype {
				m.Answer = append(m.Answer, rr)
			}
		}
		_ = w.WriteMsg(m) // the resolver asks again
	})}
	go func() { _ = server.ActivateAndServe() }() // ends with Shutdown
	<-started
	system := net.DefaultResolver
	net.DefaultResolver = &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp", pc.LocalAddr().String())
	}}
	t.Cleanup(func() {
		net.DefaultResolver = system
		_ = server.Shutdown()
	})
}

// writeCertificate writes a certificate that signs itself, as etcd reads it.
func writeCertificate(t *testing.T, c *x509.Certificate) (path string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c.SerialNumber = big.NewInt(1)
	if c.NotAfter.IsZero() {
		c.NotAfter = time.Now().Add(time.Hour)
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	path = filepath.Join(t.TempDir(), "peer.crt")
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// What a start by --discovery-srv runs into, and what a certificate lacks.
func TestSRVAndCertificates(t *testing.T) {
	zone := "infra0.example.com. A 127.0.0.10\ninfra1.example.com. A 127.0.0.11\ninfra0.example.net. A 127.0.0.10\n"
	for _, service := range []string{"_etcd-server", "_etcd-server-ssl-tls", "_etcd-server-mixed", "_etcd-server-ssl-mixed", "_etcd-server-half"} {
		zone += service + "._tcp.example.com. SRV 0 0 1 infra0.example.com.\n" + service + "._tcp.example.com. SRV 0 0 1 infra1.example.com.\n"
	}
	zone += "_etcd-server-half._tcp.example.com. SRV 0 0 1 infra2.example.com.\n_etcd-server-ssl-away._tcp.example.com. SRV 0 0 1 infra0.example.net.\n"
	serveZone(t, zone)
	both := []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	full := writeCertificate(t, &x509.Certificate{DNSNames: []string{"infra0.example.com", "example.com"}, ExtKeyUsage: both})
	host := writeCertificate(t, &x509.Certificate{DNSNames: []string{"infra0.example.com"}, ExtKeyUsage: both})
	old := writeCertificate(t, &x509.Certificate{DNSNames: []string{"infra0.example.com"}, NotAfter: time.Now().Add(-time.Minute)})
	early := writeCertificate(t, &x509.Certificate{DNSNames: []string{"infra0.example.com"}, NotBefore: time.Now().Add(time.Minute)})
	server := writeCertificate(t, &x509.Certificate{DNSNames: []string{"infra0.example.com"}, ExtKeyUsage: both[:1]})
	base := []string{"--name=infra0", "--discovery-srv=example.com", "--advertise-client-urls=https://infra0.example.com:2379", "--listen-client-urls=https://127.0.0.10:2379"}
	const plain, tls = "--initial-advertise-peer-urls=http://infra0.example.com:1", "--initial-advertise-peer-urls=https://infra0.example.com:1"
	for _, c := range []struct {
		name string
		args []string
		want string // of the error, and its hint
		said string
	}{
		{"names", []string{plain}, "", ""},
		{"addresses", []string{"--initial-advertise-peer-urls=http://127.0.0.10:1"}, "", ""},
		{"no records", []string{plain, "--discovery-srv-name=none"}, "no SRV records at _etcd-server-ssl-none._tcp.example.com, nor at _etcd-server-none._tcp.example.com: " +
			"lookup _etcd-server-none._tcp.example.com", ""},
		{"not among them", []string{"--initial-advertise-peer-urls=http://127.0.0.12:1"}, `cannot find local etcd member "infra0" in SRV records: ` +
			"--initial-advertise-peer-urls is http://127.0.0.12:1, and the records have infra0.example.com:1, infra1.example.com:1 | publish _etcd-server._tcp.example.com. 300 IN SRV 0 0 1 NAME.", ""},
		{"own name does not resolve", []string{"--initial-advertise-peer-urls=http://infra9.example.com:1"}, `cannot find local etcd member "infra0" in SRV records: ` +
			"--initial-advertise-peer-urls is http://infra9.example.com:1, and the records have infra0.example.com:1, infra1.example.com:1: lookup infra9.example.com", ""},
		{"the other scheme", []string{tls}, `cannot find local etcd member "infra0" in SRV records: --initial-advertise-peer-urls is https://infra0.example.com:1, and the records have ` +
			"infra0.example.com:1, infra1.example.com:1, but none is at _etcd-server-ssl._tcp.example.com | publish _etcd-server-ssl._tcp.example.com. 300 IN SRV", ""},
		{"both schemes", []string{plain, "--discovery-srv-name=mixed"}, "", "warning: there are SRV records at _etcd-server-ssl-mixed._tcp.example.com and at _etcd-server-mixed._tcp.example.com"},
		{"half a zone", []string{plain, "--discovery-srv-name=half"}, "", "warning: the SRV target infra2.example.com does not resolve, and etcd takes the cluster for one without it"},
		{"TLS", []string{tls, "--discovery-srv-name=tls", "--peer-cert-file=" + full}, "", ""},
		{"without the domain", []string{tls, "--discovery-srv-name=tls", "--peer-cert-file=" + host}, "", "warning: --peer-cert-file " + host + " is for infra0.example.com, but not for example.com, which the other members look for"},
		{"without the domain, own CA", []string{tls, "--discovery-srv-name=tls", "--peer-cert-file=" + host, "--peer-trusted-ca-file=ca.crt"}, "", ""},
		{"a host outside", []string{"--initial-advertise-peer-urls=https://infra0.example.net:1", "--discovery-srv-name=away", "--peer-cert-file=" + full}, "",
			"warning: the SRV records of example.com name infra0.example.net, outside it: without --peer-trusted-ca-file"},
		{"a host outside, own CA, wrong certificate", []string{"--initial-advertise-peer-urls=https://infra0.example.net:1", "--discovery-srv-name=away", "--peer-cert-file=" + full, "--peer-trusted-ca-file=ca.crt"}, "",
			"warning: --peer-cert-file " + full + " is for infra0.example.com, example.com, but not for infra0.example.net"},
		{"expired", []string{plain, "--cert-file=" + old}, "", "warning: --cert-file " + old + " has expired at "},
		{"not valid yet", []string{plain, "--cert-file=" + early}, "", "warning: --cert-file " + early + " is valid from "},
		{"a client's name", []string{plain, "--cert-file=" + host, "--advertise-client-urls=https://10.0.1.10:2379"}, "", "warning: --cert-file " + host + " is for infra0.example.com, but not for 10.0.1.10, which clients look for"},
		{"for servers only", []string{tls, "--discovery-srv-name=tls", "--peer-trusted-ca-file=ca.crt", "--peer-cert-file=" + server}, "", "warning: --peer-cert-file " + server + " is not for TLS clients"},
		{"for servers only, and another for clients", []string{tls, "--discovery-srv-name=tls", "--peer-trusted-ca-file=ca.crt", "--peer-cert-file=" + server, "--peer-client-cert-file=" + full}, "", ""},
		{"a restart, at a target whose name is not here", []string{"--initial-advertise-peer-urls=https://127.0.0.10:1", "--discovery-srv-name=tls", "--peer-trusted-ca-file=ca.crt", "--peer-cert-file=" + host, "--data-dir=" + initialized(t)}, "", ""},
		{"an address, at a target whose name is there", []string{"--initial-advertise-peer-urls=https://127.0.0.10:1", "--discovery-srv-name=tls", "--peer-trusted-ca-file=ca.crt", "--peer-cert-file=" + host}, "", ""},
		{"no certificate", []string{plain, "--cert-file=/nowhere"}, "", ""},
	} {
		t.Run(c.name, func(t *testing.T) { checked(t, append(base[:4:4], c.args...), c.want, c.said) })
	}
}

// checked runs the checks in front of a start, and compares the problem, and what they say, with the beginnings wanted.
func checked(t *testing.T, args []string, want, said string) {
	t.Helper()
	s, ok, err := read(args, environment())
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	var lines []string
	_, err = prepare(t.Context(), s, func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) })
	got := ""
	var p *Problem
	if errors.As(err, &p) {
		got = p.What + " | " + p.Fix
	} else if err != nil {
		t.Fatalf("%v, want a problem with what mends it", err)
	}
	if (got == "") != (want == "") || !strings.HasPrefix(got, want) || strings.HasSuffix(got, "| ") {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if all := strings.Join(lines, "\n"); (all == "") != (said == "") || !strings.HasPrefix(all, said) {
		t.Errorf("said %q, want %q", all, said)
	}
}
