package gateway

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
)

// script is a source whose answers the test changes. It notes when it was asked.
type script struct {
	mu     sync.Mutex
	answer Answer
	err    error
	hang   bool
	asked  []time.Duration
	start  time.Time
}

func (s *script) source(name string) Source {
	s.start = time.Now()
	return Source{Name: name, Hint: "dig SRV " + name, Lookup: func(ctx context.Context) (Answer, error) {
		s.mu.Lock()
		s.asked = append(s.asked, time.Since(s.start))
		answer, err, hang := s.answer, s.err, s.hang
		s.mu.Unlock()
		if hang {
			<-ctx.Done()
			return Answer{}, ctx.Err()
		}
		return answer, err
	}}
}

// says makes it answer with hosts, fails with an error, hangs until it is given up.
func (s *script) says(ttl time.Duration, hosts ...string) {
	s.set(Answer{TTL: ttl, Endpoints: hostsAt(hosts...)}, nil, false)
}
func (s *script) fails(err error) { s.set(Answer{}, err, false) }
func (s *script) hangs()          { s.set(Answer{}, nil, true) }

func (s *script) set(a Answer, err error, hang bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answer, s.err, s.hang = a, err, hang
}

func (s *script) times() []time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.asked)
}

func hostsAt(hosts ...string) (out []Endpoint) {
	for i, h := range hosts {
		out = append(out, Endpoint{Scheme: "https", Host: h, Port: 2379, Addrs: []netip.Addr{netip.AddrFrom4([4]byte{10, 0, 1, byte(10 + i)})}})
	}
	return out
}

// following runs a follower in a bubble of synctest.
func following(t *testing.T, test func(t *testing.T, f *Follower, logs *observer.ObservedLogs), seed []Endpoint, sources ...func() Source) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		core, logs := observer.New(zapcore.InfoLevel)
		var s []Source
		for _, make := range sources {
			s = append(s, make())
		}
		f := NewFollower(zap.New(core), seed, s...)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- f.Run(ctx) }()
		synctest.Wait()
		test(t, f, logs)
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run returned %v", err)
		}
	})
}

// after lets a time pass, and whatever it sets off happen.
func after(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

func wantSet(t *testing.T, f *Follower, hosts ...string) {
	t.Helper()
	set, _ := f.Set()
	var got []string
	for _, e := range set {
		got = append(got, e.Host)
	}
	if !slices.Equal(got, hosts) {
		t.Errorf("the set is %v, want %v", got, hosts)
	}
}

// The follower asks again when the TTL is over, and sees what is added and what is removed.
func TestFollowerFollows(t *testing.T) {
	var s script
	s.says(5*time.Second, "a", "b", "c")
	following(t, func(t *testing.T, f *Follower, _ *observer.ObservedLogs) {
		wantSet(t, f, "a", "b", "c")
		_, changed := f.Set()
		s.says(5*time.Second, "d", "b", "c")
		after(4999 * time.Millisecond)
		wantSet(t, f, "a", "b", "c")
		select {
		case <-changed:
			t.Error("a change was told of, and there was none")
		default:
		}
		after(time.Millisecond)
		wantSet(t, f, "b", "c", "d")
		select {
		case <-changed:
		default:
			t.Error("the change was not told of")
		}
		_, changed = f.Set()
		after(time.Minute)
		select {
		case <-changed:
			t.Error("an equal answer is no change")
		default:
		}
	}, nil, func() Source { return s.source("srv") })
}

// TTLs are bounded: a resolver may give 0, a person a day.
func TestFollowerTTL(t *testing.T) {
	for _, c := range []struct{ ttl, every time.Duration }{{0, time.Second}, {5 * time.Second, 5 * time.Second}, {24 * time.Hour, 30 * time.Second}} {
		t.Run(c.ttl.String(), func(t *testing.T) {
			var s script
			s.says(c.ttl, "a")
			following(t, func(t *testing.T, _ *Follower, _ *observer.ObservedLogs) {
				after(5 * c.every)
				if want := []time.Duration{0, c.every, 2 * c.every, 3 * c.every, 4 * c.every, 5 * c.every}; !slices.Equal(s.times(), want) {
					t.Errorf("asked at %v, want %v", s.times(), want)
				}
			}, nil, func() Source { return s.source("srv") })
		})
	}
}

// Nothing that DNS does empties the set. It is said once, and once more when it is over.
func TestFollowerKeeps(t *testing.T) {
	for _, c := range []struct {
		name string
		now  func(s *script)
		says string
	}{
		{"SERVFAIL", func(s *script) { s.fails(errors.New("at 10.0.0.2:53: SERVFAIL")) }, "SERVFAIL"},
		{"an empty answer", func(s *script) { s.says(5 * time.Second) }, "no endpoint at srv"},
		{"silence", func(s *script) { s.hangs() }, "deadline exceeded"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var s script
			s.says(5*time.Second, "a", "b", "c")
			following(t, func(t *testing.T, f *Follower, logs *observer.ObservedLogs) {
				c.now(&s)
				after(10 * time.Minute)
				wantSet(t, f, "a", "b", "c")
				warned := logs.FilterLevelExact(zapcore.WarnLevel).All()
				if len(warned) != 1 || !strings.Contains(fmt.Sprint(warned[0].ContextMap()["error"]), c.says) {
					t.Errorf("%d warnings, want one with %q: %v", len(warned), c.says, warned)
				}
				if n := len(s.times()); n < 10*60/13 || n > 10*60/8+5 {
					t.Errorf("asked %d times in ten minutes, want every 8 s after a while", n)
				}
				if f.fails.Load() == 0 {
					t.Error("failures are not counted")
				}
				s.says(5*time.Second, "b", "c", "d")
				after(15 * time.Second)
				wantSet(t, f, "b", "c", "d")
				if n := logs.FilterMessage("the lookup is good again").Len(); n != 1 {
					t.Errorf("said %d times that it is good again", n)
				}
			}, nil, func() Source { return s.source("srv") })
		})
	}
}

// A failed dial makes it ask at once, but a storm of them not more than once a second.
func TestFollowerPrompt(t *testing.T) {
	var s script
	s.says(30*time.Second, "a")
	following(t, func(t *testing.T, f *Follower, _ *observer.ObservedLogs) {
		after(10 * time.Second)
		s.says(30*time.Second, "b")
		f.Prompt()
		synctest.Wait()
		wantSet(t, f, "b")
		for range 1000 {
			f.Prompt()
			after(10 * time.Millisecond)
		}
		if n := len(s.times()); n < 11 || n > 13 {
			t.Errorf("asked %d times, want twice and then once a second for ten seconds: %v", n, s.times())
		}
	}, nil, func() Source { return s.source("srv") })
}

// A cluster may publish both services, and one of the lookups may fail.
func TestFollowerSources(t *testing.T) {
	var tls, plain script
	tls.says(5*time.Second, "a", "b")
	plain.says(5*time.Second, "b", "c")
	following(t, func(t *testing.T, f *Follower, _ *observer.ObservedLogs) {
		set, _ := f.Set()
		if len(set) != 3 || set[1].Scheme != "https" {
			t.Errorf("%v, want b once, with TLS", set)
		}
		plain.fails(errors.New("SERVFAIL"))
		tls.says(5*time.Second, "a")
		after(6 * time.Second)
		wantSet(t, f, "a", "b", "c") // the plain service keeps its last answer
		plain.says(5 * time.Second)
		after(10 * time.Second)
		wantSet(t, f, "a")
		tls.says(5 * time.Second)
		after(10 * time.Second)
		wantSet(t, f, "a")
	}, nil, func() Source { return tls.source("tls") }, func() Source { return plain.source("plain") })
}

// An endpoint whose addresses cannot be looked up keeps those that it had; new ones replace them.
func TestFollowerAddresses(t *testing.T) {
	var s script
	s.says(5*time.Second, "a", "b")
	following(t, func(t *testing.T, f *Follower, _ *observer.ObservedLogs) {
		s.set(Answer{TTL: 5 * time.Second, Endpoints: []Endpoint{{Scheme: "https", Host: "a", Port: 2379},
			{Scheme: "https", Host: "b", Port: 2379, Addrs: []netip.Addr{netip.MustParseAddr("10.0.1.99")}}}}, nil, false)
		after(6 * time.Second)
		set, _ := f.Set()
		if got := fmt.Sprint(set[0].Addrs, set[1].Addrs); got != "[10.0.1.10] [10.0.1.99]" {
			t.Errorf("the addresses are %s", got)
		}
		two := []netip.Addr{netip.MustParseAddr("10.0.1.1"), netip.MustParseAddr("10.0.1.2")}
		s.set(Answer{TTL: 5 * time.Second, Endpoints: []Endpoint{{Host: "a", Port: 2379, Addrs: two}}}, nil, false)
		after(6 * time.Second)
		_, changed := f.Set()
		s.set(Answer{TTL: 5 * time.Second, Endpoints: []Endpoint{{Host: "a", Port: 2379, Addrs: []netip.Addr{two[1], two[0]}}}}, nil, false)
		after(6 * time.Second)
		select {
		case <-changed:
			t.Error("another order of the addresses is no change")
		default:
		}
	}, nil, func() Source { return s.source("srv") })
}

// An endpoint without an address is a failure that is told with what to do, and is looked up again soon; the others are followed.
func TestFollowerNoAddress(t *testing.T) {
	var s script
	s.set(Answer{TTL: 30 * time.Second, Endpoints: []Endpoint{{Scheme: "https", Host: "a", Port: 2379}}}, nil, false)
	following(t, func(t *testing.T, f *Follower, logs *observer.ObservedLogs) {
		said := logs.FilterMessage("no endpoint is known yet; connections wait").All()
		if len(said) != 1 || said[0].ContextMap()["error"] != "no address is known of a" || said[0].ContextMap()["hint"] != "dig a" {
			t.Errorf("%v, want one message that names a, and how to look", said)
		}
		s.set(Answer{TTL: 30 * time.Second, Endpoints: append(hostsAt("a"), Endpoint{Scheme: "https", Host: "b", Port: 2379})}, nil, false)
		after(time.Second)
		wantSet(t, f, "a", "b")
		if set, _ := f.Set(); len(set) != 2 || !set[0].Known() || f.fails.Load() != 2 {
			t.Errorf("%v after %d failures, want an address of a after two", set, f.fails.Load())
		}
		s.says(30*time.Second, "a", "b")
		after(10 * time.Second)
		if set, _ := f.Set(); len(set) != 2 || !set[1].Known() || logs.FilterMessage("the lookup is good again").Len() != 1 {
			t.Errorf("%v, want an address of b, and that it is said", set)
		}
	}, nil, func() Source { return s.source("srv") })
}

// Before there is a set it is said now and then what is waited for; what the operator gave is the set until DNS answers.
func TestFollowerStart(t *testing.T) {
	var s script
	s.fails(errors.New("SERVFAIL"))
	following(t, func(t *testing.T, f *Follower, logs *observer.ObservedLogs) {
		after(100 * time.Second)
		wantSet(t, f)
		if n := logs.FilterMessage("no endpoint is known yet; connections wait").Len(); n < 3 || n > 4 {
			t.Errorf("said %d times in 100 s, want every half minute", n)
		}
	}, nil, func() Source { return s.source("srv") })
	following(t, func(t *testing.T, f *Follower, _ *observer.ObservedLogs) {
		wantSet(t, f, "given")
		s.says(5*time.Second, "a")
		after(10 * time.Second)
		wantSet(t, f, "a")
	}, hostsAt("given"), func() Source { return s.source("srv") })
}
