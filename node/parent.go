package node

import (
	"context"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"
	"go.uber.org/zap"

	"github.com/etcd-dns/etcd-dns/parent"
)

const (
	// parentInterval is how often the parent is asked. A delegation changes by a person's hand, and a few queries in
	// five minutes are nothing to its servers.
	parentInterval = 5 * time.Minute
	// parentRetry is how soon after nobody could be asked, as when the network is not up yet.
	parentRetry = time.Minute
	// parentJitter is the part of an interval that is left to chance, so that nodes do not ask in step.
	parentJitter = 0.2
)

// ParentStatus is what the parent's own servers said of the delegation.
type ParentStatus struct {
	// Zone is the parent zone; empty if it was not found.
	Zone string `json:"zone"`
	// Verdict is agrees, differs or unknown.
	Verdict string    `json:"verdict"`
	Asked   time.Time `json:"asked"`
	// Differences are lines like "publish RECORD at SERVER"; Silent the servers that did not answer, and why.
	Differences []string `json:"differences"`
	Silent      []string `json:"silent"`
	// Error says why the verdict is unknown.
	Error string `json:"error,omitempty"`
}

// warning is for people; empty unless the parent differs.
func (s *ParentStatus) warning() string {
	if s == nil || s.Verdict != string(parent.Differs) {
		return ""
	}
	return "the parent zone " + s.Zone + " does not delegate as it should: " + strings.Join(s.Differences, "; ") +
		"; see: etcd-dns delegation"
}

func parentStatus(v parent.Verdict, asked time.Time) *ParentStatus {
	s := &ParentStatus{Zone: v.Zone, Verdict: string(v.Word), Asked: asked, Differences: []string{}, Silent: []string{}, Error: v.Err}
	for _, d := range v.Differences {
		s.Differences = append(s.Differences, d.String())
	}
	for _, server := range v.Servers {
		if server.Err != nil {
			s.Silent = append(s.Silent, server.String()+": "+server.Err.Error())
		}
	}
	return s
}

// parentWatch asks the parent from time to time whether it delegates as it should.
type parentWatch struct {
	// want is what the parent should hold; ok is false while there is nothing to ask for.
	want func() (w parent.Want, ok bool)
	ask  func(ctx context.Context, domain string) (parent.View, error)
	log  *zap.Logger
	// prompts have it ask now.
	prompts prompt
	last    atomic.Pointer[ParentStatus]
}

func newParentWatch(n *Node) *parentWatch {
	return &parentWatch{log: n.log.Named("parent"), prompts: newPrompt(),
		want: func() (parent.Want, bool) {
			o := n.options()
			if !o.hasParent() {
				return parent.Want{}, false
			}
			return o.Wanted(n.apexKeys(), true), true
		},
		ask: n.askParent}
}

func (n *Node) askParent(ctx context.Context, domain string) (parent.View, error) {
	a, err := n.options().Asker()
	if err != nil {
		return parent.View{}, err
	}
	return a.Ask(ctx, domain)
}

// hasParent reports whether some parent zone is to delegate to us: not on loopback addresses, which no other machine
// reaches.
func (o *Options) hasParent() bool {
	records := o.Delegation()
	if o.NoParent || len(records) == 0 {
		return false
	}
	var addrs []netip.Addr
	for _, rr := range records {
		switch rr := rr.(type) {
		case *dns.A:
			addrs = append(addrs, netip.AddrFrom4([4]byte(rr.A.To4())))
		case *dns.AAAA:
			addrs = append(addrs, netip.AddrFrom16([16]byte(rr.AAAA)))
		}
	}
	return len(addrs) == 0 || slices.ContainsFunc(addrs, func(a netip.Addr) bool { return !a.IsLoopback() })
}

// apexKeys are the CDS and DNSKEY records that this node serves; none while the zone is not signed.
func (n *Node) apexKeys() (out []dns.RR) {
	s := n.store.Load()
	if s == nil {
		return nil
	}
	for _, t := range []uint16{dns.TypeCDS, dns.TypeDNSKEY} {
		out = append(out, s.Lookup(n.options().Domain, t, false).Answer...)
	}
	return out
}

// run asks until ctx ends, first at once.
func (p *parentWatch) run(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-p.prompts:
		case <-timer.C:
		}
		timer.Reset(jittered(p.once(ctx)))
	}
}

func jittered(d time.Duration) time.Duration {
	return time.Duration(float64(d) * (1 - parentJitter/2 + parentJitter*rand.Float64()))
}

// once asks, and returns when to ask again. Only a change of the verdict is logged.
func (p *parentWatch) once(ctx context.Context) time.Duration {
	w, ok := p.want()
	if !ok {
		p.last.Store(nil)
		return parentInterval
	}
	v := p.judge(ctx, w)
	if ctx.Err() != nil {
		return parentInterval // what was cut short says nothing
	}
	was, now := p.last.Load(), parentStatus(v, time.Now().UTC())
	p.last.Store(now)
	if was == nil || was.Verdict != now.Verdict || !slices.Equal(was.Differences, now.Differences) {
		p.tell(v, now)
	}
	if v.Word == parent.Unknown {
		return parentRetry
	}
	return parentInterval
}

func (p *parentWatch) judge(ctx context.Context, w parent.Want) parent.Verdict {
	view, err := p.ask(ctx, w.Domain)
	if err != nil {
		return parent.Failed(err)
	}
	return view.Judge(w)
}

func (p *parentWatch) tell(v parent.Verdict, s *ParentStatus) {
	if text := s.warning(); text != "" {
		p.log.Warn(text)
		return
	}
	p.log.Info(v.Summary())
}
