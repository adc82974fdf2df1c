package srvboot

import (
	"encoding/json"
	"net/netip"
	"testing"

	"github.com/miekg/dns"

	"github.com/etcd-dns/etcd-dns/roster"
)

// FuzzAnswers feeds what another node may say of itself: there is always a decision with a reason, and no word of others
// makes a node start as new that has not accepted a genesis.
func FuzzAnswers(f *testing.F) {
	for _, change := range []func(*State){func(*State) {}, phase(Accepted), phase(Born), serving(nil), serving(without0), serving(learner0), successor} {
		facts := caseFacts()
		theirs("n1", change)(&facts)
		text, err := json.Marshal(facts.Peers["n1"].State)
		if err != nil {
			f.Fatal(err)
		}
		for _, d := range []byte{0, 1, 2} {
			f.Add(text, d, d > 0)
		}
	}
	f.Add([]byte(`{"node":"n1","bundle":"b1","phase":"born","accepted":{},"member":{"members":[{"peer_urls":null}]}}`), byte(1), true)
	f.Add([]byte(`{"node":"n1","phase":"x","promised":{"n":18446744073709551615},"ask":["n9",""],"seen":{"life":9}}`), byte(2), false)
	f.Fuzz(func(t *testing.T, text []byte, own byte, other bool) {
		var s State
		if json.Unmarshal(text, &s) != nil {
			return
		}
		s.Node, s.Bundle = "n1", "b1" // checked where it arrives
		facts := caseFacts()
		[...]mod{func(*Facts) {}, own0(HasMember, Running), own0(Stamped, Born), own0(Broken, Running), own0(None, Running)}[own%5](&facts)
		a := facts.Peers["n1"]
		a.State = s
		facts.Peers["n1"] = a
		if !other {
			silent("n2", "timeout")(&facts)
		}
		p := Decide(facts)
		if p.Action == "" || p.Reason == "" {
			t.Fatalf("no decision: %+v", p)
		}
		if own%5 == 0 && p.Action == New {
			t.Errorf("a node that accepted nothing starts as new: %+v\n%s", p, text)
		}
	})
}

// own0 is a disk with data and a marker.
func own0(d Data, p Phase) mod {
	return func(f *Facts) {
		disk(d)(f)
		own(p)(f)
	}
}

// FuzzDelegationReply feeds what a server of the parent may answer to the pre-flight check: whatever is found is a warning
// that names the server.
func FuzzDelegationReply(f *testing.F) {
	for _, text := range []string{"rack.example.test. 60 IN NS n0.rack.example.test.", "n0.rack.example.test. 60 IN A 10.0.1.10", "N1.rack.example.test. 60 IN AAAA fd00::11"} {
		rr, err := dns.NewRR(text)
		if err != nil {
			f.Fatal(err)
		}
		b, err := (&dns.Msg{Ns: []dns.RR{rr}, Extra: []dns.RR{rr}}).Pack()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	q := delegationQuery{domain: "rack.example.test.", d: Delegation{NameServers: []roster.NameServer{
		{Name: "n0.rack.example.test.", Addrs: []netip.Addr{netip.MustParseAddr("10.0.1.10")}}, {Name: "N1.rack.example.test."}}}}
	f.Fuzz(func(t *testing.T, packet []byte) {
		m := new(dns.Msg)
		if m.Unpack(packet) != nil {
			return
		}
		var found findings
		q.compare(&found, "ns.example.test. (192.0.2.53)", m)
		if names := nsOf(append(m.Ns, m.Answer...), q.domain); len(found) == 0 && len(names) != 2 {
			t.Errorf("nothing is wrong with %v", m)
		}
	})
}
