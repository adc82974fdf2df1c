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

// Headers are judged before the rest is read, and refused as dns.Server refuses them.
func TestHeaderChecks(t *testing.T) {
	edit := func(change func(*dns.Msg)) []byte { return query1(t, "example.org.", dns.TypeSOA, change) }
	counts := edit(nil)
	counts[10], counts[11] = 0xff, 0xff
	cut := edit(nil)
	for _, c := range []struct {
		name   string
		packet []byte
		rcode  int // -1 for no answer, -2 for the server's
	}{
		{"good", edit(nil), -2},
		{"an answer", edit(func(m *dns.Msg) { m.Response = true }), -1},
		{"UPDATE", edit(func(m *dns.Msg) { m.Opcode = dns.OpcodeUpdate }), dns.RcodeNotImplemented},
		{"two questions", edit(func(m *dns.Msg) { m.Question = append(m.Question, m.Question[0]) }), dns.RcodeFormatError},
		{"counts", counts, dns.RcodeFormatError},
		{"cut", cut[:len(cut)-3], dns.RcodeFormatError},
		{"short", cut[:11], -1},
	} {
		served := false
		out := deliver(t, serverFunc(func(dns.ResponseWriter, *dns.Msg) { served = true }), slices.Clone(c.packet))
		if served != (c.rcode == -2) || (len(out) == 1) != (c.rcode >= 0) {
			t.Errorf("%s: served %v, %d answers", c.name, served, len(out))
			continue
		}
		if c.rcode < 0 {
			continue
		}
		m := new(dns.Msg)
		if err := m.Unpack(out[0]); err != nil || m.Rcode != c.rcode || m.Id != 0xbeef || !m.Response || m.Authoritative {
			t.Errorf("%s: %v\n%v", c.name, err, m)
		}
		if wantOp := int(c.packet[2] & flagOpcode >> 3); c.rcode == dns.RcodeNotImplemented && m.Opcode != wantOp {
			t.Errorf("%s: opcode %d, want %d", c.name, m.Opcode, wantOp)
		}
	}
}

// More misses than there are slots are shed with a counter, at once and without an answer.
func TestShed(t *testing.T) {
	u := newUpstream(dns.DefaultMsgAcceptFunc)
	release := make(chan struct{})
	u.set(serverFunc(func(dns.ResponseWriter, *dns.Msg) { <-release }), nil)
	done := make(chan struct{}, maxMisses+5)
	q := query1(t, "example.org.", dns.TypeSOA, nil)
	for range maxMisses + 5 {
		u.missed(q, &net.TCPAddr{}, &net.TCPAddr{}, func([]byte) error { return nil }, func() { done <- struct{}{} })
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
