package xfr

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"
)

// secondaryStub is what the notifier's messages reach in a bubble: a secondary by its rules.
type secondaryStub struct {
	mu   sync.Mutex
	told []told
	// answer returns the rcode for a NOTIFY, or an error; has is the serial for a SOA query, nil for REFUSED.
	answer func(n int) (int, error)
	has    *uint32
	// slow is how long the answer to a SOA query is on its way.
	slow time.Duration
}

type told struct {
	at     time.Duration
	serial uint32
	from   netip.Addr
	signed bool
}

func (s *secondaryStub) exchange(start time.Time) func(context.Context, *dns.Msg, netip.Addr, netip.AddrPort, time.Duration) (*dns.Msg, error) {
	return func(ctx context.Context, m *dns.Msg, from netip.Addr, _ netip.AddrPort, within time.Duration) (*dns.Msg, error) {
		r := new(dns.Msg).SetReply(m)
		if m.Opcode == dns.OpcodeQuery {
			if s.has == nil {
				r.Rcode = dns.RcodeRefused
			} else {
				r.Answer, r.Authoritative = []dns.RR{soa(*s.has)}, true
			}
			time.Sleep(s.slow)
			return r, nil
		}
		s.mu.Lock()
		s.told = append(s.told, told{time.Since(start).Round(time.Millisecond), m.Answer[0].(*dns.SOA).Serial, from, m.IsTsig() != nil})
		n := len(s.told)
		s.mu.Unlock()
		rcode, err := dns.RcodeSuccess, error(nil)
		if s.answer != nil {
			rcode, err = s.answer(n)
		}
		if err != nil {
			timer := time.NewTimer(within)
			defer timer.Stop()
			select {
			case <-timer.C:
			case <-ctx.Done():
			}
			return nil, err
		}
		r.Rcode = rcode
		if m.IsTsig() != nil {
			r.SetTsig(testKey.Name, testKey.Algorithm, 300, 0)
		}
		return r, nil
	}
}

func (s *secondaryStub) serials() (out []uint32) {
	for _, t := range s.log() {
		out = append(out, t.serial)
	}
	return out
}

// log is all that the secondary was told.
func (s *secondaryStub) log() []told {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.told)
}

var secondaryAt = netip.MustParseAddrPort("192.0.2.53:5300")

// notifying runs a notifier in a bubble, with one secondary.
func notifying(t *testing.T, s *secondaryStub, change func(*Notice), f func(n *Notifier, z *memory)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		z := newZone(10, numbered(3), nil)
		notice := Notice{Zone: z, To: []netip.AddrPort{secondaryAt}, Source: func(netip.Addr) netip.Addr { return netip.MustParseAddr("192.0.2.10") }}
		if change != nil {
			change(&notice)
		}
		n := NewNotifier(NotifierOptions{Key: testKey, Notices: func() []Notice { return []Notice{notice} }})
		n.exchange = s.exchange(time.Now())
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- n.Run(ctx) }()
		synctest.Wait()
		f(n, z)
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

func only(t *testing.T, n *Notifier) SecondaryStatus {
	t.Helper()
	st := n.Status()
	if len(st) != 1 {
		t.Fatalf("%d secondaries, want 1: %+v", len(st), st)
	}
	return st[0]
}

// A secondary that pulls is told once, signed and from the node's address.
func TestNotifyOnce(t *testing.T) {
	s := &secondaryStub{}
	notifying(t, s, nil, func(n *Notifier, _ *memory) {
		n.Pulled(origin, secondaryAt.Addr(), 10)
		time.Sleep(time.Hour)
		if st := only(t, n); len(s.log()) != 1 || s.log()[0] != (told{0, 10, netip.MustParseAddr("192.0.2.10"), true}) || st.Behind || *st.Pulled != 10 || *st.Acked != 10 || st.Error != "" {
			t.Errorf("told %+v, %+v", s.log(), st)
		}
	})
}

// One that acknowledges and has the serial from elsewhere is not told again: it says so when it is asked.
func TestNotifyProbe(t *testing.T) {
	ten := uint32(10)
	s := &secondaryStub{has: &ten}
	notifying(t, s, nil, func(n *Notifier, _ *memory) {
		time.Sleep(2 * time.Second)
		if st := only(t, n); len(s.log()) != 1 || st.Behind || *st.Pulled != 10 || st.Lag(time.Now()) != 0 {
			t.Errorf("told %+v, %+v", s.log(), st)
		}
	})
}

// One that is silent is told on, ever more slowly, and as soon as it is back it is known.
func TestNotifyBackoff(t *testing.T) {
	s := &secondaryStub{answer: func(n int) (int, error) {
		if n < 14 {
			return 0, errors.New("silence")
		}
		return dns.RcodeSuccess, nil
	}}
	notifying(t, s, nil, func(n *Notifier, _ *memory) {
		time.Sleep(3 * time.Second)
		if len(s.log()) < 2 || s.log()[1].at > 1100*time.Millisecond {
			t.Errorf("the second try comes late: %+v", s.log())
		}
		if st := only(t, n); !st.Behind || !strings.Contains(st.Error, "silence") || st.Acked != nil || st.Lag(time.Now()) != 3*time.Second {
			t.Errorf("%+v", st)
		}
		time.Sleep(time.Hour)
		last := time.Duration(0)
		for i := 2; i < min(14, len(s.log())); i++ {
			gap := s.log()[i].at - s.log()[i-1].at
			if gap < last || gap > lastRetry+lastAnswer {
				t.Errorf("gap %d is %v after %v", i, gap, last)
			}
			last = gap
		}
		if st := only(t, n); st.Acked == nil || len(s.log()) < 14 || st.Tries != len(s.log()) {
			t.Errorf("told %d times, %+v", len(s.log()), st)
		}
	})
}

// One that acknowledges and never says what it has is left alone after some tries; one that shows an old serial is told on.
func TestNotifyAcknowledgedOnly(t *testing.T) {
	nine := uint32(9)
	for name, c := range map[string]struct {
		has  *uint32
		most int
		err  error
	}{"silent": {nil, acknowledged + 1, errSilent}, "behind": {&nine, 100, errNotPulled}} {
		s := &secondaryStub{has: c.has}
		notifying(t, s, nil, func(n *Notifier, _ *memory) {
			time.Sleep(2 * time.Hour)
			st := only(t, n)
			if len(s.log()) > c.most || len(s.log()) < acknowledged || st.Error != c.err.Error() || !st.Behind {
				t.Errorf("%s: told %d times, %+v", name, len(s.log()), st)
			}
			if more := len(s.log()) > acknowledged+10; more != (c.has != nil) {
				t.Errorf("%s: told %d times", name, len(s.log()))
			}
		})
	}
}

// Serials that follow each other within a second are told of as one, the first at once and the last at the end of it.
func TestNotifyCoalesces(t *testing.T) {
	s := &secondaryStub{}
	notifying(t, s, nil, func(n *Notifier, z *memory) {
		for serial := uint32(11); serial <= 20; serial++ {
			time.Sleep(50 * time.Millisecond)
			z.v.Store(newZone(serial, nil, nil).v.Load())
			n.Changed()
		}
		time.Sleep(time.Minute)
		if got := s.serials(); !slices.Equal(slices.Compact(got), []uint32{10, 20}) {
			t.Errorf("told %v, want 10 and 20", got)
		}
		if at := s.log()[slices.IndexFunc(s.log(), func(x told) bool { return x.serial == 20 })].at; at != coalesce {
			t.Errorf("20 was told after %v, want %v", at, coalesce)
		}
	})
}

// A secondary that fetched a serial before this node's turn to announce it is not told of it.
func TestNotifyPulledBefore(t *testing.T) {
	s := &secondaryStub{}
	notifying(t, s, nil, func(n *Notifier, z *memory) {
		n.Pulled(origin, secondaryAt.Addr(), 10)
		z.v.Store(newZone(11, nil, nil).v.Load())
		n.Changed()
		n.Pulled(origin, netip.MustParseAddr("::ffff:192.0.2.53"), 11)
		time.Sleep(time.Minute)
		if st := only(t, n); !slices.Equal(s.serials(), []uint32{10}) || st.Behind || st.Serial != 11 {
			t.Errorf("told %v, %+v", s.serials(), st)
		}
	})
}

// A secondary that says late that it has the serial of before says nothing of the new one: it is told on.
func TestNotifyLateAnswer(t *testing.T) {
	ten := uint32(10)
	s := &secondaryStub{has: &ten, slow: pullTime / 2}
	notifying(t, s, nil, func(n *Notifier, z *memory) {
		time.Sleep(pullTime + pullTime/4) // it was told of 10, and is being asked for it
		z.v.Store(newZone(11, nil, nil).v.Load())
		n.Changed()
		time.Sleep(time.Minute)
		if st := only(t, n); len(s.log()) < 4 || !st.Behind || st.Error != "" && st.Error != errNotPulled.Error() {
			t.Errorf("told %v, %+v", s.serials(), st)
		}
	})
}

// What secondaries answer, and what becomes of it.
func TestNotifyAnswers(t *testing.T) {
	for _, c := range []struct {
		name     string
		rcode    int
		unsigned bool
		once     bool
		err      string
	}{
		{"NOTAUTH", dns.RcodeNotAuth, false, false, "NOTAUTH"},
		{"REFUSED", dns.RcodeRefused, false, false, "REFUSED"},
		{"NOTIMP", dns.RcodeNotImplemented, false, true, "NOTIMP"},
		{"insecure", dns.RcodeSuccess, true, false, ""},
	} {
		s := &secondaryStub{answer: func(int) (int, error) { return c.rcode, nil }}
		notifying(t, s, func(n *Notice) { n.Unsigned = c.unsigned }, func(n *Notifier, _ *memory) {
			time.Sleep(2 * time.Second)
			st := only(t, n)
			if (len(s.log()) == 1) != c.once || s.log()[0].signed == c.unsigned || !strings.Contains(st.Error, c.err) || (st.Acked != nil) != (c.rcode == dns.RcodeSuccess) {
				t.Errorf("%s: told %+v, %+v", c.name, s.log(), st)
			}
		})
	}
}

// A zone without a version is not announced; a secondary that is struck off is forgotten.
func TestNotifyWhom(t *testing.T) {
	s := &secondaryStub{}
	notifying(t, s, func(n *Notice) { n.Zone = &memory{} }, func(n *Notifier, _ *memory) {
		time.Sleep(time.Minute)
		if len(s.serials()) != 0 || len(n.Status()) != 0 {
			t.Errorf("told %v of a zone that is not ready, %+v", s.serials(), n.Status())
		}
	})
	synctest.Test(t, func(t *testing.T) {
		z := newZone(10, nil, nil)
		list := []Notice{{Zone: z, To: []netip.AddrPort{secondaryAt, secondaryAt, netip.MustParseAddrPort("[::ffff:192.0.2.53]:5300")}}}
		n := NewNotifier(NotifierOptions{Key: testKey, Notices: func() []Notice { return list }})
		n.exchange = s.exchange(time.Now())
		n.look(time.Now())
		if st := only(t, n); st.Address != secondaryAt.String() {
			t.Errorf("%+v", st)
		}
		list[0].To = nil
		n.look(time.Now())
		if st := n.Status(); len(st) != 0 {
			t.Errorf("still %+v", st)
		}
		list = nil
		n.look(time.Now())
		if len(n.zones) != 0 {
			t.Error("the zone is remembered")
		}
	})
}
