package parent

import (
	"encoding/json"
	"net/netip"
	"testing"

	"github.com/miekg/dns"
)

// FuzzParentAnswer feeds what a server of the parent may answer to NS and DS queries: whatever is read of it compares, prints
// and counts as the parent's only if it is about the domain.
func FuzzParentAnswer(f *testing.F) {
	const domain = "rack1.example.com."
	add := func(aa bool, ns, ds []string) {
		var packets [][]byte
		for _, lines := range [][]string{ns, ds} {
			m := new(dns.Msg).SetQuestion(domain, dns.TypeNS)
			m.Response, m.Authoritative = true, aa
			for _, rr := range rrs(f, lines...) {
				switch {
				case rr.Header().Rrtype == dns.TypeDS:
					m.Answer = append(m.Answer, rr)
				case rr.Header().Rrtype == dns.TypeNS || rr.Header().Rrtype == dns.TypeSOA:
					m.Ns = append(m.Ns, rr)
				default:
					m.Extra = append(m.Extra, rr)
				}
			}
			b, err := m.Pack()
			if err != nil {
				f.Fatal(err)
			}
			packets = append(packets, b)
		}
		f.Add(packets[0], packets[1])
	}
	ns := []string{domain + " 60 NS infra0." + domain, "infra0." + domain + " 60 A 10.0.1.10"}
	add(true, ns, []string{domain + " 60 DS 1 13 2 00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"})
	add(true, []string{"example.com. 60 SOA a. b. 1 2 3 4 5"}, []string{"example.com. 60 SOA a. b. 1 2 3 4 5"})
	add(false, ns, nil)
	want := Want{Domain: domain, Records: rrs(f, ns...), DSKnown: true}
	f.Fuzz(func(t *testing.T, referral, ds []byte) {
		r, d := new(dns.Msg), new(dns.Msg)
		if r.Unpack(referral) != nil || d.Unpack(ds) != nil {
			return
		}
		v := View{Domain: domain, Zone: "example.com."}
		s := Server{Name: "ns.example.com.", Addr: netip.MustParseAddr("10.0.0.53")}
		err := s.readReferral(r, &v)
		if err == nil {
			_ = s.lacksGlue(domain)
			err = s.readDS(d, &v)
		}
		if err != nil {
			s = Server{Name: s.Name, Addr: s.Addr, Err: err}
		}
		for _, rr := range s.records() {
			if !dns.IsSubDomain(domain, rr.Header().Name) {
				t.Errorf("%v is taken for the delegation's", rr)
			}
		}
		v.Servers = []Server{s}
		verdict := v.Judge(want)
		if _, err := json.Marshal(verdict); err != nil {
			t.Error(err)
		}
		if text := verdict.Summary(); text == "" || (verdict.Word == Agrees) != (err == nil && !s.Child && len(verdict.Differences) == 0) {
			t.Errorf("%q of %+v, %v", text, verdict, err)
		}
		if _, err := v.DS(); (err != nil) != (s.Err != nil) {
			t.Errorf("DS of the view: %v", err)
		}
	})
}
