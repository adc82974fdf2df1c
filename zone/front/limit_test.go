package front

import (
	"math/rand/v2"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// newTestLimiter returns a limiter and a function that sets its clock to a second.
func newTestLimiter(rate int, exempt ...netip.Prefix) (*Limiter, func(second int)) {
	clock := new(Clock)
	set := func(second int) { clock.Set(testTime.Add(time.Duration(second) * time.Second)) }
	set(0)
	l := NewLimiter(clock)
	l.Set(rate, exempt)
	return l, set
}

// tally counts what n answers to one account become.
func tally(l *Limiter, n int, client netip.Addr, owner uint64, c Class) (got [3]int) {
	for range n {
		got[l.Check(client, owner, c)]++
	}
	return got
}

func TestLimiter(t *testing.T) {
	l, at := newTestLimiter(200)
	steps := []struct {
		what   string
		second int
		n      int
		want   [3]int // pass, slip, drop
	}{
		{"a second's worth", 0, 200, [3]int{200, 0, 0}},
		{"every second one slips", 0, 101, [3]int{0, 51, 50}},
		{"it goes on with a drop", 0, 1, [3]int{0, 0, 1}},
		{"not before it is as good as new", 1, 50, [3]int{0, 25, 25}},
		{"then it is", 2, 201, [3]int{200, 1, 0}},
		{"a flood", 2, 2000, [3]int{0, 1000, 1000}},
		{"goes on", 3, 201, [3]int{0, 100, 101}},
		{"is paid for", 5, 100, [3]int{0, 50, 50}},
		{"and over", 7, 200, [3]int{200, 0, 0}},
		{"what is saved is one second", 100, 202, [3]int{200, 1, 1}},
		{"just above the rate", 101, 201, [3]int{0, 101, 100}},
		{"just above the rate", 102, 201, [3]int{0, 100, 101}},
	}
	for _, s := range steps {
		at(s.second)
		if got := tally(l, s.n, testClient, 7, ClassPositive); got != s.want {
			t.Errorf("%s: %v, want %v", s.what, got, s.want)
		}
	}
}

// A clock that goes back and forth refills no account.
func TestLimiterClockBack(t *testing.T) {
	l, at := newTestLimiter(200)
	at(20)
	tally(l, 200, testClient, 7, ClassPositive)
	for _, second := range []int{19, 20, 10, 20, 19, 20} {
		at(second)
		if got := tally(l, 100, testClient, 7, ClassPositive); got[Pass] != 0 {
			t.Errorf("%d pass at second %d, want none", got[Pass], second)
		}
	}
	at(24)
	if got := tally(l, 200, testClient, 7, ClassPositive); got[Pass] != 200 {
		t.Errorf("%d pass four seconds later, want all", got[Pass])
	}
	// A clock that is set back for good is a new beginning.
	at(-1000)
	if got := tally(l, 200, testClient, 7, ClassPositive); got[Pass] != 200 {
		t.Errorf("%d pass long before, want all", got[Pass])
	}
}

// What has an account of its own.
func TestLimiterKeys(t *testing.T) {
	addr := netip.MustParseAddr
	tests := map[string]struct {
		client netip.Addr
		owner  uint64
		class  Class
		same   bool // the account of 198.51.100.100, owner 7, positive; or of the same for errors
	}{
		"the same":          {addr("198.51.100.100"), 7, ClassPositive, true},
		"IPv4-mapped":       {addr("::ffff:198.51.100.100"), 7, ClassPositive, true},
		"its /24":           {addr("198.51.100.255"), 7, ClassPositive, true},
		"another /24":       {addr("198.51.101.100"), 7, ClassPositive, false},
		"another owner":     {addr("198.51.100.100"), 8, ClassPositive, false},
		"negative":          {addr("198.51.100.100"), 7, ClassNegative, false},
		"error":             {addr("198.51.100.100"), 7, ClassError, true},
		"error, no owner":   {addr("198.51.100.100"), 9, ClassError, true},
		"loopback":          {addr("127.0.0.1"), 7, ClassPositive, false},
		"loopback, IPv6":    {addr("::1"), 7, ClassPositive, false},
		"loopback, mapped":  {addr("::ffff:127.0.0.1"), 7, ClassPositive, false},
		"IPv6":              {addr("2001:db8:0:1ff::1"), 7, ClassPositive, true},
		"another /56":       {addr("2001:db8:0:200::1"), 7, ClassPositive, false},
		"exempt":            {addr("192.0.2.9"), 7, ClassPositive, false},
		"exempt, mapped":    {addr("::ffff:192.0.2.9"), 7, ClassPositive, false},
		"not quite exempt":  {addr("192.0.2.16"), 7, ClassPositive, true},
		"exempt host, IPv6": {addr("2001:db8:0:100::7"), 7, ClassPositive, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			l, _ := newTestLimiter(1, netip.MustParsePrefix("192.0.2.0/28"), netip.MustParsePrefix("2001:db8:0:100::7/128"))
			for _, c := range []string{"198.51.100.100", "2001:db8:0:100::1", "192.0.2.17"} {
				tally(l, 5, addr(c), 7, ClassPositive)
				tally(l, 5, addr(c), 7, ClassError)
			}
			if got := l.Check(tt.client, tt.owner, tt.class); (got != Pass) != tt.same {
				t.Errorf("%v, want limited: %v", got, tt.same)
			}
		})
	}
}

// Whoever asks for many names, or for many kinds of answers, gets allRates times the rate in all; another network its own.
func TestLimiterManyNames(t *testing.T) {
	const rate = 200
	l, at := newTestLimiter(rate)
	passed := func(client netip.Addr) (n int) {
		for i := range 20_000 {
			if l.Check(client, uint64(i%5000), Class(i%2)) == Pass {
				n++
			}
		}
		return n
	}
	for second, want := range []int{allRates * rate, 0, 0} {
		at(second)
		if got := passed(testClient); got != want {
			t.Errorf("%d pass in second %d, want %d", got, second, want)
		}
	}
	if got := passed(testClient6); got != allRates*rate {
		t.Errorf("%d pass to another network, want %d", got, allRates*rate)
	}
	at(10)
	if got := passed(testClient); got != allRates*rate {
		t.Errorf("%d pass after the flood, want %d", got, allRates*rate)
	}
}

func TestClassOf(t *testing.T) {
	for rcode := range 24 {
		for _, answers := range []int{0, 3} {
			want := ClassError
			switch {
			case rcode == dns.RcodeSuccess && answers > 0:
				want = ClassPositive
			case rcode == dns.RcodeSuccess || rcode == dns.RcodeNameError:
				want = ClassNegative
			}
			if got := ClassOf(rcode, answers); got != want {
				t.Errorf("ClassOf(%d, %d) = %d, want %d", rcode, answers, got, want)
			}
		}
	}
}

func TestLimiterOff(t *testing.T) {
	for _, rate := range []int{0, -1} {
		l, _ := newTestLimiter(rate)
		if got := tally(l, 10_000, testClient, 7, ClassPositive); got[Pass] != 10_000 {
			t.Errorf("rate %d: %v", rate, got)
		}
	}
}

// Whatever comes when: no key gets more than its rate and burst, which are alike, in any two seconds that follow each
// other.
func TestLimiterProperty(t *testing.T) {
	for seed := range uint64(10) {
		r := rand.New(rand.NewPCG(seed, 1))
		rate := 1 + r.IntN(50)
		l, at := newTestLimiter(rate)
		last := map[uint64]int{}
		for second, step := 0, 0; step < 60; step++ {
			at(second)
			now := map[uint64]int{}
			for range r.IntN(1000) {
				key := r.Uint64N(8)
				if l.Check(testClient, key, ClassPositive) == Pass {
					now[key]++
				}
			}
			for key, n := range now {
				if n > rate || n+last[key] > 2*rate {
					t.Fatalf("seed %d, second %d: %d and %d passed at a rate of %d", seed, second, last[key], n, rate)
				}
			}
			last = now
			if r.IntN(4) == 0 {
				second += 1 + r.IntN(8)
				last = nil
			} else {
				second++
			}
		}
	}
}

// A full table neither grows nor forgets debts.
func TestLimiterFullTable(t *testing.T) {
	l, at := newTestLimiter(10)
	size := len(l.table)
	tally(l, 100, testClient, 7, ClassPositive)
	for owner := range uint64(3 * tableSets * setWays) {
		l.Check(testClient, 1000+owner, ClassPositive)
	}
	if got := l.Check(testClient, 7, ClassPositive); got == Pass {
		t.Error("an account with a debt was given to another key")
	}
	if len(l.table) != size || size*8 != 1<<20 {
		t.Errorf("%d accounts, then %d", size, len(l.table))
	}
	at(60)
	passed := 0
	for owner := range uint64(1000) {
		if l.Check(netip.AddrFrom4([4]byte{203, byte(owner >> 8), byte(owner), 1}), owner<<40, ClassPositive) == Pass {
			passed++
		}
	}
	if passed != 1000 {
		t.Errorf("%d of 1000 new keys pass a minute later, want all", passed)
	}
}

func TestLimiterConcurrent(t *testing.T) {
	l, _ := newTestLimiter(1000)
	var mu sync.Mutex
	var sum [3]int
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			got := tally(l, 1000, testClient, 7, ClassPositive)
			mu.Lock()
			defer mu.Unlock()
			for i := range sum {
				sum[i] += got[i]
			}
		})
	}
	wg.Wait()
	if sum != [3]int{1000, 1500, 1500} {
		t.Errorf("%v, want 1000 to pass, 1500 to slip and 1500 dropped", sum)
	}
}

func TestAddrSet(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		var prefixes []netip.Prefix
		for range r.IntN(20) {
			a := netip.AddrFrom4([4]byte{10, byte(r.IntN(2)), byte(r.IntN(4)), byte(r.IntN(256))})
			prefixes = append(prefixes, netip.PrefixFrom(a, r.IntN(33)))
			b := netip.AddrFrom16([16]byte{0x20, 0x01, 6: byte(r.IntN(4)), 8: byte(r.IntN(4)), 15: byte(r.IntN(256))})
			prefixes = append(prefixes, netip.PrefixFrom(b, 40+r.IntN(89)))
		}
		s := newAddrSet(append(prefixes, netip.Prefix{}))
		for range 200 {
			a := netip.AddrFrom4([4]byte{10, byte(r.IntN(2)), byte(r.IntN(4)), byte(r.IntN(256))})
			if r.IntN(2) == 0 {
				a = netip.AddrFrom16([16]byte{0x20, 0x01, 6: byte(r.IntN(4)), 8: byte(r.IntN(4)), 15: byte(r.IntN(256))})
			}
			want := false
			for _, p := range prefixes {
				want = want || p.Contains(a)
			}
			if got := s.contains(a); got != want {
				t.Fatalf("%v in %v: %v, want %v", a, prefixes, got, want)
			}
		}
	}
}

// flood sends the same query perSecond times in each second, or in one of so many, and returns what went in and out after
// the first limited answer.
func flood(t *testing.T, e *engine, packet []byte, from netip.Addr, perSecond, seconds, every int) (in, out int) {
	t.Helper()
	buf := make([]byte, MaxUDPSize)
	for s := 0; s < seconds; s += every {
		e.shared.Clock.Set(testTime.Add(time.Duration(s) * time.Second))
		for range perSecond {
			n, _ := e.handle(packet, from, false, buf)
			if e.counters.limited.Load() > 0 {
				in += len(packet)
				out += n
			}
		}
	}
	return in, out
}

// A forged source gets at most three octets for each that was sent in its name, once it is limited.
func TestAmplification(t *testing.T) {
	const srv = "_etcd-server._tcp.example.org."
	nsid := &dns.EDNS0_NSID{Code: dns.EDNS0NSID}
	for name, packet := range map[string][]byte{
		"SRV":          query1(t, srv, dns.TypeSRV, nil),
		"ANY":          query1(t, srv, dns.TypeANY, withOPT(4096, true)),
		"NSID, COOKIE": query1(t, srv, dns.TypeANY, withOPT(4096, true, nsid, cookieOption(testClientCookie))),
		"NXDOMAIN":     query1(t, "no.example.org.", dns.TypeA, withOPT(4096, true)),
		"bad cookie":   query1(t, srv, dns.TypeSRV, withOPT(4096, true, cookieOption(""))),
	} {
		for _, c := range []struct{ perSecond, every int }{
			{210, 1}, {300, 1}, {1000, 1}, {5_000, 1},
			// Floods that pause, and would get less than the rate if they came evenly only below these.
			{410, 2}, {1000, 2}, {5000, 2}, {810, 4}, {5000, 5},
		} {
			for _, from := range []netip.Addr{testClient, testClient6} {
				e := newTestEngine(t)
				e.shared.SetSettings(Settings{RatePerSecond: 200, NSID: make([]byte, MaxNSID)})
				in, out := flood(t, e, packet, from, c.perSecond, 20, c.every)
				if in == 0 || out == 0 || out > 3*in {
					t.Errorf("%s, %d in one of %d seconds from %v: %d octets for %d, want 3 for 1 at most", name, c.perSecond, c.every, from, out, in)
				}
			}
		}
	}
}

// What a limited client gets, and who is not limited.
func TestEngineLimited(t *testing.T) {
	const srv = "_etcd-server._tcp.example.org."
	e := newTestEngine(t)
	e.shared.SetSettings(Settings{RatePerSecond: 1, NSID: []byte("infra0")})
	packet := query1(t, srv, dns.TypeSRV, withOPT(1232, true, cookieOption(testClientCookie), &dns.EDNS0_NSID{Code: dns.EDNS0NSID}))
	first, _ := ask(t, e, packet, testClient, false)
	if len(first.Answer) != 3 || first.Truncated {
		t.Fatalf("%v", first)
	}
	slip, raw := ask(t, e, packet, testClient, false)
	opt := slip.IsEdns0()
	if !slip.Truncated || slip.Authoritative || slip.Rcode != 0 || len(slip.Answer)+len(slip.Ns) != 0 || len(slip.Extra) != 1 ||
		opt == nil || !opt.Do() || len(opt.Option) != 1 || slip.Question[0].Name != srv || slip.Id != 0xbeef {
		t.Errorf("slip: %v", slip)
	}
	if len(raw) > len(packet)+16 {
		t.Errorf("a slip of %d octets for a query of %d", len(raw), len(packet))
	}
	if n, v := e.handle(packet, testClient, false, make([]byte, 1232)); n != 0 || v != dropped {
		t.Errorf("%d, %d, want it dropped", n, v)
	}
	if s := e.shared.snapshot(); s.Limited != 2 || s.Slipped != 1 || s.Dropped != 0 {
		t.Errorf("%d limited, %d slipped, %d dropped, want 2, 1, 0", s.Limited, s.Slipped, s.Dropped)
	}

	learned := slip.IsEdns0().Option[0].(*dns.EDNS0_COOKIE).Cookie
	withCookie := query1(t, srv, dns.TypeSRV, withOPT(1232, true, cookieOption(learned)))
	for range 10 {
		if m, _ := ask(t, e, withCookie, testClient, false); m.Truncated {
			t.Fatal("a valid cookie is limited")
		}
		if m, _ := ask(t, e, packet, testClient, true); m.Truncated {
			t.Fatal("TCP is limited")
		}
		if m, _ := ask(t, e, packet, netip.MustParseAddr("127.0.0.1"), false); m.Truncated {
			t.Fatal("loopback is limited")
		}
	}
	e.shared.SetSettings(Settings{RatePerSecond: 1, Exempt: []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")}})
	if m, _ := ask(t, e, packet, testClient, false); m.Truncated {
		t.Error("an exempt network is limited")
	}
}
