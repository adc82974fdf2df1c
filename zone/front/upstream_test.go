package front

import (
	"context"
	"errors"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/miekg/dns"
)

const (
	testKey       = "transfer.example.org."
	testKeySecret = "c2VjcmV0IG9mIHRoZSB0ZXN0"
)

type serverFunc func(dns.ResponseWriter, *dns.Msg)

func (f serverFunc) ServeDNS(_ context.Context, w dns.ResponseWriter, r *dns.Msg) { f(w, r) }

// signed returns a packed query with a TSIG record by a key.
func signed(t *testing.T, key, secret string, sent time.Time) []byte {
	t.Helper()
	m := new(dns.Msg).SetQuestion("example.org.", dns.TypeAXFR)
	m.SetTsig(key, dns.HmacSHA256, 300, sent.Unix())
	b, _, err := dns.TsigGenerate(m, secret, "", false)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// deliver hands a packet to the full server and returns what was written once it is done.
func deliver(t *testing.T, s Server, packet []byte) (out [][]byte) {
	t.Helper()
	u := newUpstream(dns.DefaultMsgAcceptFunc)
	u.set(s, map[string]string{testKey: testKeySecret})
	done := make(chan struct{})
	u.missed(packet, &net.TCPAddr{}, &net.TCPAddr{}, func(b []byte) error { out = append(out, slices.Clone(b)); return nil }, func() { close(done) })
	<-done
	return out
}

// The status of a signature is the real one: nil for a good one alone.
func TestTSIGStatus(t *testing.T) {
	now := time.Now()
	bad := signed(t, testKey, testKeySecret, now)
	bad[len(bad)-20] ^= 1 // in the MAC
	for _, c := range []struct {
		name   string
		packet []byte
		want   error
	}{
		{"none", query1(t, "example.org.", dns.TypeSOA, nil), nil},
		{"good", signed(t, testKey, testKeySecret, now), nil},
		{"good, in another letter case", signed(t, "TRANSFER.example.org.", testKeySecret, now), nil},
		{"another secret", signed(t, testKey, "b3RoZXI=", now), dns.ErrSig},
		{"a broken MAC", bad, dns.ErrSig},
		{"an unknown key", signed(t, "other.example.org.", testKeySecret, now), dns.ErrSecret},
		{"an old one", signed(t, testKey, testKeySecret, now.Add(-time.Hour)), dns.ErrTime},
	} {
		called := false
		deliver(t, serverFunc(func(w dns.ResponseWriter, _ *dns.Msg) {
			called = true
			if got := w.TsigStatus(); !errors.Is(got, c.want) || (got == nil) != (c.want == nil) {
				t.Errorf("%s: %v, want %v", c.name, got, c.want)
			}
		}), c.packet)
		if !called {
			t.Errorf("%s: the server was not asked", c.name)
		}
	}
}

// The messages of a transfer are signed, each MAC over the one before.
func TestTSIGChain(t *testing.T) {
	q := signed(t, testKey, testKeySecret, time.Now())
	out := deliver(t, serverFunc(func(w dns.ResponseWriter, r *dns.Msg) {
		for i := range 3 {
			m := new(dns.Msg).SetReply(r)
			m.SetTsig(testKey, dns.HmacSHA256, 300, time.Now().Unix())
			w.TsigTimersOnly(i > 0)
			if err := w.WriteMsg(m); err != nil {
				t.Error(err)
			}
		}
	}), slices.Clone(q))
	if len(out) != 3 {
		t.Fatalf("%d messages, want 3", len(out))
	}
	m := new(dns.Msg)
	if err := m.Unpack(q); err != nil {
		t.Fatal(err)
	}
	mac := m.IsTsig().MAC
	for i, b := range out {
		if err := dns.TsigVerify(slices.Clone(b), testKeySecret, mac, i > 0); err != nil {
			t.Errorf("message %d: %v", i, err)
		}
		if err := dns.TsigVerify(slices.Clone(b), testKeySecret, "", i > 0); err == nil {
			t.Errorf("message %d verifies without the MAC before it", i)
		}
		if err := m.Unpack(b); err != nil {
			t.Fatal(err)
		}
		mac = m.IsTsig().MAC
	}
}

// What the full server is not asked about is refused with the query's ID, opcode and RD, and with OPT if it had one.
func TestHeaderChecks(t *testing.T) {
	const asked = -1 // the full server is
	const silent = -2
	edit := func(change func(*dns.Msg)) []byte { return query1(t, "example.org.", dns.TypeSOA, change) }
	allBits := func(b []byte) []byte {
		b[2], b[3] = b[2]|0x07, b[3]|0xf0 // AA, TC and RD; RA, Z, AD and CD
		return b
	}
	counts := edit(nil)
	counts[10], counts[11] = 0xff, 0xff
	cut := edit(nil)
	version1 := func(do bool) func(*dns.Msg) {
		return func(m *dns.Msg) { m.SetEdns0(4096, do).IsEdns0().SetVersion(1) }
	}
	behind := func(m *dns.Msg) { // OPT is not the first record
		m.Extra = append(m.Extra, &dns.TXT{Hdr: dns.RR_Header{Name: "example.org.", Rrtype: dns.TypeTXT, Class: dns.ClassINET}, Txt: []string{"x"}})
		version1(true)(m)
	}
	brokenOption := edit(withOPT(4096, true, &dns.EDNS0_SUBNET{Code: dns.EDNS0SUBNET, Family: 1, Address: net.IPv4zero}))
	brokenOption[len(brokenOption)-3] = 9 // family
	const noOPT, opt, optDO = "", "OPT", "OPT DO"
	for _, c := range []struct {
		name   string
		packet []byte
		rcode  int
		edns   string
	}{
		{"good", edit(nil), asked, noOPT},
		{"an answer", edit(func(m *dns.Msg) { m.Response = true }), silent, noOPT},
		{"UPDATE", edit(func(m *dns.Msg) { m.Opcode = dns.OpcodeUpdate }), dns.RcodeNotImplemented, noOPT},
		{"opcode 15, all bits set", allBits(edit(func(m *dns.Msg) { m.Opcode = 15 })), dns.RcodeNotImplemented, noOPT},
		{"opcode 15 with EDNS", edit(func(m *dns.Msg) { m.Opcode = 15; m.SetEdns0(4096, true) }), dns.RcodeNotImplemented, noOPT},
		{"two questions", edit(func(m *dns.Msg) { m.Question = append(m.Question, m.Question[0]) }), dns.RcodeFormatError, noOPT},
		{"NOTIFY without question, all bits set", allBits(edit(func(m *dns.Msg) { m.Opcode = dns.OpcodeNotify; m.Question = nil })), dns.RcodeFormatError, noOPT},
		{"counts", counts, dns.RcodeFormatError, noOPT},
		{"cut", cut[:len(cut)-3], dns.RcodeFormatError, noOPT},
		{"a header alone that counts a question", edit(nil)[:headerLen], dns.RcodeFormatError, noOPT},
		{"short", cut[:11], silent, noOPT},
		{"EDNS version 1", edit(version1(false)), dns.RcodeBadVers, opt},
		{"EDNS version 1 with DO", allBits(edit(version1(true))), dns.RcodeBadVers, optDO},
		{"EDNS version 1 behind a record", edit(behind), dns.RcodeBadVers, optDO},
		{"a malformed option", allBits(brokenOption), dns.RcodeFormatError, optDO},
	} {
		t.Run(c.name, func(t *testing.T) {
			served := false
			out := deliver(t, serverFunc(func(dns.ResponseWriter, *dns.Msg) { served = true }), slices.Clone(c.packet))
			if served != (c.rcode == asked) || (len(out) == 1) != (c.rcode >= 0) {
				t.Fatalf("served %v, %d answers", served, len(out))
			}
			if c.rcode < 0 {
				return
			}
			m := new(dns.Msg)
			if err := m.Unpack(out[0]); err != nil {
				t.Fatal(err)
			}
			want := dns.MsgHdr{Id: 0xbeef, Response: true, Opcode: int(c.packet[2] & flagOpcode >> 3), RecursionDesired: c.packet[2]&flagRD != 0, Rcode: c.rcode}
			if m.MsgHdr != want {
				t.Errorf("header %+v, want %+v", m.MsgHdr, want)
			}
			edns := noOPT
			if o := m.IsEdns0(); o != nil {
				if edns = opt; o.Do() {
					edns = optDO
				}
				if o.Version() != 0 || o.UDPSize() != MaxUDPSize || len(o.Option) > 0 {
					t.Errorf("OPT %v", o)
				}
			}
			if edns != c.edns || len(m.Answer)+len(m.Ns) > 0 {
				t.Errorf("%q, want %q:\n%v", edns, c.edns, m)
			}
		})
	}
}

// More misses than there are slots are shed with a counter, at once; over TCP they are answered SERVFAIL.
func TestShed(t *testing.T) {
	u := newUpstream(dns.DefaultMsgAcceptFunc)
	release := make(chan struct{})
	u.set(serverFunc(func(dns.ResponseWriter, *dns.Msg) { <-release }), nil)
	done := make(chan struct{}, maxMisses+5)
	q := query1(t, "example.org.", dns.TypeSOA, nil)
	refused := 0
	for range maxMisses + 5 {
		u.missed(q, &net.TCPAddr{}, &net.TCPAddr{}, func(b []byte) error {
			m := new(dns.Msg)
			if err := m.Unpack(b); err != nil || m.Rcode != dns.RcodeServerFailure || len(m.Question) != 1 || !m.Response {
				t.Errorf("%v: %v", err, m)
			}
			refused++
			return nil
		}, func() { done <- struct{}{} })
	}
	if refused != 5 {
		t.Errorf("%d are told so, want 5", refused)
	}
	if got := u.tcp.shed.Load(); got != 5 {
		t.Errorf("%d shed, want 5", got)
	}
	if !u.udp.acquire() {
		t.Error("TCP's misses take UDP's slots")
	}
	u.udp.release()
	close(release)
	for range maxMisses + 5 {
		<-done
	}
	u.tcp.busy.Wait()
}
