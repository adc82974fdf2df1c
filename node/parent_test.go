package node

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"
	"go.uber.org/zap"

	"github.com/etcd-dns/etcd-dns/parent"
)

// The watcher asks at once, every five minutes give or take a tenth, after a minute when nobody answered, and when
// prompted; and its verdict follows the parent.
func TestParentWatch(t *testing.T) {
	o := mustParse(t, goodCorefile)
	synctest.Test(t, func(t *testing.T) {
		good := parent.View{Domain: o.Domain, Zone: "example.com.", Servers: []parent.Server{{Name: "ns.example.com.", Addr: netip.MustParseAddr("10.0.0.53")}}}
		for _, rr := range o.Delegation() {
			if ns, ok := rr.(*dns.NS); ok {
				good.Servers[0].NS = append(good.Servers[0].NS, ns)
			} else {
				good.Servers[0].Glue = append(good.Servers[0].Glue, rr)
			}
		}
		wrong := good
		wrong.Servers = []parent.Server{good.Servers[0]}
		wrong.Servers[0].Glue = good.Servers[0].Glue[1:]
		type answer struct {
			view parent.View
			err  error
		}
		asked, answers := make(chan time.Time), make(chan answer)
		watch := &parentWatch{log: zap.NewNop(), prompts: newPrompt(),
			want: func() (parent.Want, bool) { return o.Wanted(nil, true), true },
			ask: func(context.Context, string) (parent.View, error) {
				asked <- time.Now()
				a := <-answers
				return a.view, a.err
			}}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- watch.run(ctx) }()
		last := time.Now()
		next := func(least, most time.Duration, a answer, word string) {
			t.Helper()
			at := <-asked
			if after := at.Sub(last); after < least || after > most {
				t.Errorf("asked after %v, want %v to %v", after, least, most)
			}
			last = at
			answers <- a
			synctest.Wait()
			if s := watch.last.Load(); s == nil || s.Verdict != word {
				t.Errorf("status %+v, want %s", s, word)
			}
		}
		next(0, 0, answer{view: wrong}, "differs")
		if text := watch.last.Load().warning(); !strings.Contains(text, "publish infra0.rack1.example.com. 3600 IN A 10.0.1.10 at ns.example.com. (10.0.0.53)") {
			t.Errorf("the warning is %q", text)
		}
		next(parentInterval*9/10, parentInterval*11/10, answer{view: good}, "agrees")
		if text := watch.last.Load().warning(); text != "" {
			t.Errorf("the warning is %q", text)
		}
		next(parentInterval*9/10, parentInterval*11/10, answer{err: errors.New("no resolver")}, "unknown")
		next(parentRetry*9/10, parentRetry*11/10, answer{view: good}, "agrees")
		watch.prompts.send()
		next(0, 0, answer{view: wrong}, "differs")
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// A rack on loopback addresses has no parent to ask, nor has one that says so.
func TestHasParent(t *testing.T) {
	loop := strings.NewReplacer("10.0.1.", "127.0.1.", "fd00::11", "::1").Replace(goodCorefile)
	outside := strings.Replace(loop, "    }", "    ns ns1.example.net\n    }", 1)
	none := strings.Replace(goodCorefile, "    }", "    parent none\n    }", 1)
	for text, want := range map[string]bool{goodCorefile: true, loop: false, outside: true, none: false} {
		if got := mustParse(t, text).hasParent(); got != want {
			t.Errorf("%v, want %v for\n%s", got, want, text)
		}
	}
	if _, err := ParseCorefile("Corefile", []byte(strings.Replace(none, "parent none", "parent example.com", 1))); err == nil || !strings.Contains(err.Error(), "expected parent none") {
		t.Errorf("got %v", err)
	}
}

// DS follows CDS; a zone with keys alone has not been signed for long enough.
func TestWantedDS(t *testing.T) {
	o := mustParse(t, goodCorefile)
	rr := func(text string) dns.RR {
		out, err := dns.NewRR(text)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	ksk := rr("rack1.example.com. 3600 IN DNSKEY 257 3 13 mdsswUyr3DPW132mOi8V9xESWE8jTo0dxCjjnopKl+GqJxpVXckHAeF+KkxLbxILfDLUT0rAK9iUzy1L53eKGQ==")
	zsk := rr("rack1.example.com. 3600 IN DNSKEY 256 3 13 mdsswUyr3DPW132mOi8V9xESWE8jTo0dxCjjnopKl+GqJxpVXckHAeF+KkxLbxILfDLUT0rAK9iUzy1L53eKGQ==")
	cds := rr("rack1.example.com. 3600 IN CDS 12345 13 2 " + strings.Repeat("AB", 32))
	remove := rr("rack1.example.com. 3600 IN CDS 0 0 0 00")
	for _, c := range []struct {
		apex []dns.RR
		want string
	}{
		{nil, ""}, {[]dns.RR{zsk}, ""}, {[]dns.RR{zsk, ksk}, ""},
		{[]dns.RR{ksk, cds}, strings.Replace(cds.String(), "CDS", "DS", 1)}, {[]dns.RR{ksk, remove}, ""},
	} {
		w := o.Wanted(c.apex, true)
		got := ""
		for _, ds := range w.DS {
			got += ds.String()
		}
		if got != c.want {
			t.Errorf("%v: got %q, want %q", c.apex, got, c.want)
		}
	}
	if cds.(*dns.CDS).Hdr.Rrtype != dns.TypeCDS {
		t.Error("the zone's own record was changed")
	}
}
