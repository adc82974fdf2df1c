package node

import (
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/coredns/coredns/plugin/pkg/reuseport"
	"github.com/miekg/dns"
)

// CoreDNS sets plugins up for the first key of a block only. Whatever the order: DNS hands out the zone, and DNS over HTTPS,
// which carries one message for an answer, does not.
func TestTransferDoorsOfOneBlock(t *testing.T) {
	keys := []string{"https://rack1.example.org:0", "rack1.example.org:0"}
	for range keys {
		slices.Reverse(keys)
		t.Run(strings.Join(keys, " "), func(t *testing.T) {
			at := startCoreDNS(t, strings.Join(keys, " ")+" {\n bind 127.0.0.1\n transfer {\n to *\n }\n etcdsrv\n}\n")
			testServer.opts.TransferInsecure = true
			got, err := allTransfer("tcp", at["tcp"], withKey(new(dns.Msg).SetAxfr(testDomain)))
			if err != nil || !slices.Equal(got, zoneText(t)) {
				t.Errorf("AXFR over TCP: %v, %q", err, got)
			}
			for qtype, want := range map[uint16]int{dns.TypeSOA: dns.RcodeSuccess, dns.TypeAXFR: dns.RcodeRefused} {
				if m := overHTTPS(t, at["tcp-tls"], new(dns.Msg).SetQuestion(testDomain, qtype)); m.Rcode != want {
					t.Errorf("%s over HTTPS: %s, want %s", dns.TypeToString[qtype], dns.RcodeToString[m.Rcode], dns.RcodeToString[want])
				}
			}
		})
	}
}

// overHTTPS asks by POST (RFC 8484 §4.1).
func overHTTPS(t *testing.T, addr string, q *dns.Msg) *dns.Msg {
	t.Helper()
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}} //nolint:gosec // a test's own server
	defer transport.CloseIdleConnections()
	packet, err := q.Pack()
	if err != nil {
		t.Fatal(err)
	}
	resp, err := (&http.Client{Transport: transport}).Post("https://"+addr+"/dns-query", "application/dns-message", bytes.NewReader(packet))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	m := new(dns.Msg)
	if err == nil {
		err = m.Unpack(body)
	}
	if err != nil {
		t.Fatalf("%s: %v", resp.Status, err)
	}
	return m
}

// A port that another server of the same user has is refused for each key of a block, although SO_REUSEPORT would share it.
func TestEveryDoorsPortIsChecked(t *testing.T) {
	const at = "127.0.95.1" // no connection of another test has a port here
	held, err := reuseport.ListenPacket("udp", at+":0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = held.Close() }()
	_, port, err := net.SplitHostPort(held.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	startCoreDNS(t, "rack1.example.org:0 {\n bind 127.0.0.1\n etcdsrv\n}\n") // sets the server up
	stopCoreDNS(t)
	s := &testServer
	for keys, refused := range map[string]bool{
		"rack1.example.org:0 1.0.10.in-addr.arpa:" + port:     true,
		"rack1.example.org:0 tls://rack1.example.org:" + port: false, // TLS has no use for the UDP port
	} {
		s.text = keys + " {\n bind " + at + "\n etcdsrv\n}\n"
		err := s.start()
		if (err != nil && strings.Contains(err.Error(), port)) != refused {
			t.Errorf("%s: %v, want it refused: %v", keys, err, refused)
		}
		if err == nil {
			stopCoreDNS(t)
		}
	}
}
