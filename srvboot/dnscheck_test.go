package srvboot

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/etcd-dns/etcd-dns/roster"
	"github.com/miekg/dns"
)

// parentServer is a name server of example.test. on loopback: to a query with RD it is a resolver, to one without it
// is authoritative and refers to the delegation's records.
func parentServer(t *testing.T, delegation ...string) Delegation {
	t.Helper()
	recursive := map[string]string{
		"example.test. NS": "example.test. 60 IN NS ns.example.test.",
		// Nobody listens at the first address, as nobody does for a machine of the other family: the next one has to do.
		"ns.example.test. A":    "ns.example.test. 60 IN A 127.0.0.2\nns.example.test. 60 IN A 127.0.0.1",
		"rack.example.test. NS": "rack.example.test. 60 IN NS not.asked.test.", // what the child says
	}
	server := serveDNS(t, func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg).SetReply(q)
		name := strings.ToLower(q.Question[0].Name)
		switch {
		case q.RecursionDesired:
			for r := range strings.SplitSeq(recursive[name+" "+dns.TypeToString[q.Question[0].Qtype]], "\n") {
				if r == "" {
					continue
				}
				rr, err := dns.NewRR(r)
				if err != nil {
					panic(err)
				}
				m.Answer = append(m.Answer, rr)
			}
		case len(delegation) == 1 && delegation[0] == "refused":
			m.Rcode = dns.RcodeRefused
		default:
			for _, r := range delegation {
				rr, err := dns.NewRR(r)
				if err != nil {
					panic(err)
				}
				if rr.Header().Rrtype == dns.TypeNS {
					m.Ns = append(m.Ns, rr)
				} else {
					m.Extra = append(m.Extra, rr)
				}
			}
		}
		_ = w.WriteMsg(m) // the asker may be gone
	})
	return Delegation{
		Recursive: server.String(), Port: server.Port(),
		NameServers: []roster.NameServer{
			{Name: "n0.rack.example.test.", Addrs: []netip.Addr{netip.MustParseAddr("10.0.1.10")}},
			{Name: "N1.rack.example.test.", Addrs: []netip.Addr{netip.MustParseAddr("fd00::11")}},
		},
	}
}

func TestDelegation(t *testing.T) {
	const (
		ns0, ns1     = "rack.example.test. 60 IN NS n0.rack.example.test.", "rack.example.test. 60 IN NS n1.rack.example.test."
		glue0, glue1 = "n0.rack.example.test. 60 IN A 10.0.1.10", "n1.rack.example.test. 60 IN AAAA fd00::11"
	)
	target := func(records ...string) Target {
		d := parentServer(t, records...)
		return Target{Domain: "rack.example.test", Delegation: &d}
	}
	nobody := target()
	nobody.Domain = "rack.elsewhere.invalid"
	unreachable := target()
	unreachable.Delegation.Recursive = "nonsense"
	runCases(t, []checkCase{
		{"as expected", "delegation", target(ns0, ns1, glue0, glue1), LevelOK, []string{"1 name servers of example.test."}},
		{"nothing", "delegation", target(), LevelWarn, []string{"does not delegate", "n0.rack.example.test. n1.rack.example.test."}},
		{"one missing", "delegation", target(ns0, glue0, glue1), LevelWarn, []string{"delegates rack.example.test. to n0.rack.example.test.; expected"}},
		{"one too many", "delegation", target(ns0, ns1, "rack.example.test. 60 IN NS old.test.", glue0, glue1), LevelWarn, []string{"old.test."}},
		{"no glue", "delegation", target(ns0, ns1, glue0), LevelWarn, []string{"glue [] for n1.rack.example.test.", "fd00::11"}},
		{"old glue", "delegation", target(ns0, ns1, "n0.rack.example.test. 60 IN A 10.0.1.99", glue1), LevelWarn, []string{"10.0.1.99", "10.0.1.10"}},
		{"refused", "delegation", target("refused"), LevelWarn, []string{"REFUSED", "+norec"}},
		{"no parent", "delegation", nobody, LevelWarn, []string{"cannot be found"}},
		{"no resolver", "delegation", unreachable, LevelWarn, []string{"nonsense"}},
		{"not asked for", "delegation", Target{Domain: "rack.example.test"}, LevelSkip, nil},
	})
}
