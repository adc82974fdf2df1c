package bench

import (
	"testing"

	"github.com/miekg/dns"
)

func message(t *testing.T, rcode int, answer, ns, extra []string) *dns.Msg {
	t.Helper()
	m := new(dns.Msg).SetQuestion("a.example.", dns.TypeSRV)
	m.Rcode, m.Authoritative = rcode, true
	for _, s := range []struct {
		to    *[]dns.RR
		texts []string
	}{{&m.Answer, answer}, {&m.Ns, ns}, {&m.Extra, extra}} {
		for _, text := range s.texts {
			rr, err := dns.NewRR(text)
			if err != nil {
				t.Fatal(err)
			}
			*s.to = append(*s.to, rr)
		}
	}
	return m
}

// An answer that differs in what a client uses is never measured.
func TestEquivalent(t *testing.T) {
	x, y := "a.example. 5 IN SRV 0 0 1 x.example.", "a.example. 5 IN SRV 0 0 1 y.example."
	ax, ay, ns := "x.example. 5 IN A 192.0.2.1", "y.example. 5 IN A 192.0.2.2", "example. 5 IN NS x.example."
	soa := func(serial string) []string { return []string{"example. 5 IN SOA m. r. " + serial + " 1 2 3 5"} }
	want := message(t, dns.RcodeSuccess, []string{x, y}, nil, []string{ax, ay})
	denial := message(t, dns.RcodeSuccess, nil, soa("1"), nil)
	lame, cut := want.Copy(), want.Copy()
	lame.Authoritative, cut.Truncated = false, true
	zone := content{records: map[string]bool{}}
	for _, rr := range texts(want.Extra) {
		zone.records[rr] = true
	}
	for _, c := range []struct {
		name      string
		want, got *dns.Msg
		ok        bool
	}{
		{"the same", want, want, true},
		{"another order and case, with NS", want, message(t, 0, []string{y, "A.example. 5 IN SRV 0 0 1 x.EXAMPLE."}, []string{ns}, []string{ay}), true},
		{"without addresses", want, message(t, 0, []string{x, y}, nil, nil), true},
		{"another address", want, message(t, 0, []string{x, y}, nil, []string{"x.example. 5 IN A 192.0.2.9"}), false},
		{"half the set", want, message(t, 0, []string{x}, nil, []string{ax}), false},
		{"another TTL", want, message(t, 0, []string{x, "a.example. 6 IN SRV 0 0 1 y.example."}, nil, nil), false},
		{"another rcode", want, message(t, dns.RcodeNameError, []string{x, y}, nil, nil), false},
		{"not authoritative", want, lame, false},
		{"truncated", want, cut, false},
		{"a denial of another serial", denial, message(t, 0, nil, soa("2"), nil), true},
		{"a denial of another TTL", denial, message(t, 0, nil, []string{"example. 30 IN SOA m. r. 1 1 2 3 5"}, nil), true},
		{"a denial of another MINIMUM", denial, message(t, 0, nil, []string{"example. 5 IN SOA m. r. 1 1 2 3 6"}, nil), false},
		{"a denial without SOA", denial, message(t, 0, nil, nil, nil), false},
	} {
		if err := zone.equivalent(c.want, c.got); (err == nil) != c.ok {
			t.Errorf("%s: got %v, want it taken: %v", c.name, err, c.ok)
		}
	}
}
