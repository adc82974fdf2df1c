package bench

import (
	"cmp"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// question is a name and a type that exist, or whose absence is a part of the zone.
type question struct {
	name  string
	qtype uint16
	// weight is the share of the question among the mixed names: all of them together are 100 times the nodes.
	weight int
}

// content is the zone as etcd-dns answers it: what every other server is given, and what its answers must equal.
type content struct {
	domain    string
	questions []question
	answers   map[question]*dns.Msg
	// records are all records of the answers, as texts makes them.
	records map[string]bool
}

// questionsOf are all the zone's names with the types that its clients ask for. Resolvers and clients ask for AAAA
// beside A, so that NODATA is a good part of any real load.
func questionsOf(domain string, nodes []string) []question {
	n := len(nodes)
	out := []question{
		{"_etcd-client-ssl._tcp." + domain, dns.TypeSRV, 30 * n}, {"_etcd-server-ssl._tcp." + domain, dns.TypeSRV, 10 * n},
		{domain, dns.TypeA, 6 * n}, {domain, dns.TypeAAAA, 6 * n}, {domain, dns.TypeSOA, 2 * n}, {domain, dns.TypeNS, 4 * n}, {"_tcp." + domain, dns.TypeNS, 2 * n},
	}
	for _, node := range nodes {
		out = append(out, question{node + "." + domain, dns.TypeA, 20}, question{node + "." + domain, dns.TypeAAAA, 20})
	}
	return out
}

// ask sends one question over UDP, or over TCP if that is asked for.
func ask(addr, network string, m *dns.Msg) (*dns.Msg, error) {
	c := dns.Client{Net: network, Timeout: 2 * time.Second}
	in, _, err := c.Exchange(m, net.JoinHostPort(addr, strconv.Itoa(dnsPort)))
	return in, err
}

func query(q question, do bool) *dns.Msg {
	m := new(dns.Msg).SetQuestion(q.name, q.qtype)
	m.RecursionDesired = false
	if do {
		m.SetEdns0(1232, true)
	}
	return m
}

// collect asks for everything. With signed, the answers bring their signatures, and the types of DNSSEC are a part
// of the zone.
func collect(addr string, c content, signed bool) (content, error) {
	c.answers, c.records = map[question]*dns.Msg{}, map[string]bool{}
	all := slices.Clone(c.questions)
	if signed {
		names := map[string]bool{}
		for _, q := range c.questions {
			if !names[q.name] {
				names[q.name] = true
				all = append(all, question{q.name, dns.TypeNSEC, 0})
			}
		}
		for _, t := range []uint16{dns.TypeDNSKEY, dns.TypeCDS, dns.TypeCDNSKEY, dns.TypeCSYNC} {
			all = append(all, question{c.domain, t, 0})
		}
	}
	for _, q := range all {
		m, err := ask(addr, "tcp", query(q, signed))
		if err != nil {
			return c, fmt.Errorf("collect the zone: %s %s: %w", q.name, dns.TypeToString[q.qtype], err)
		}
		if m.Rcode != dns.RcodeSuccess || !m.Authoritative {
			return c, fmt.Errorf("collect the zone: %s %s: got %s, authoritative %v; want NOERROR with authority", q.name, dns.TypeToString[q.qtype], dns.RcodeToString[m.Rcode], m.Authoritative)
		}
		c.answers[q] = m
		for _, rr := range texts(m.Answer) {
			c.records[rr] = true
		}
	}
	return c, nil
}

// master writes the zone in master format, its SOA record first.
func (c content) master(path string) error {
	seen, lines := map[string]bool{}, []string(nil)
	for _, m := range c.answers {
		for _, rr := range m.Answer {
			if line := rr.String(); !seen[line] {
				seen[line] = true
				lines = append(lines, line)
			}
		}
	}
	slices.SortFunc(lines, func(a, b string) int {
		soa := func(s string) int { return map[bool]int{true: 0, false: 1}[strings.Contains(s, "\tIN\tSOA\t")] }
		return cmp.Or(soa(a)-soa(b), cmp.Compare(a, b))
	})
	return os.WriteFile(path, []byte(strings.Join(lines, "\n")+"\n"), 0o600)
}

// verify holds a server's answers against the collected ones, over UDP and without EDNS as most clients ask.
func (c content) verify(addr string) error {
	var failed error
	count := 0
	for _, q := range c.questions {
		got, err := ask(addr, "udp", query(q, false))
		if err != nil {
			return fmt.Errorf("%s %s: %w", q.name, dns.TypeToString[q.qtype], err) // nobody answers yet
		}
		if err := c.equivalent(c.answers[q], got); err != nil {
			failed = cmp.Or(failed, fmt.Errorf("%s %s: %w", q.name, dns.TypeToString[q.qtype], err))
			count++
		}
	}
	denied, err := ask(addr, "udp", query(question{"nobody." + c.domain, dns.TypeA, 0}, false))
	if err != nil {
		return err
	}
	if denied.Rcode != dns.RcodeNameError || !denied.Authoritative || len(denied.Ns) != 1 {
		count++
		failed = cmp.Or(failed, fmt.Errorf("a name that does not exist: got %s, AA %v, %v; want NXDOMAIN, AA and the SOA record", dns.RcodeToString[denied.Rcode], denied.Authoritative, denied.Ns))
	}
	if failed != nil {
		return fmt.Errorf("%d of %d answers differ, the first one: %w", count, len(c.questions)+1, failed)
	}
	return nil
}

// equivalent compares what a client uses: rcode, AA, the answer's RRset, and that a denial has the SOA record. Its TTL
// there is not compared: CoreDNS's file does not lower it to MINIMUM (RFC 2308 §3). What comes in the additional
// section must be the zone's.
func (c content) equivalent(want, got *dns.Msg) error {
	switch {
	case got.Rcode != want.Rcode || got.Authoritative != want.Authoritative || got.Truncated:
		return fmt.Errorf("got %s, AA %v, TC %v; want %s, AA %v", dns.RcodeToString[got.Rcode], got.Authoritative, got.Truncated, dns.RcodeToString[want.Rcode], want.Authoritative)
	case !slices.Equal(texts(got.Answer), texts(want.Answer)):
		return fmt.Errorf("answer %q, want %q", texts(got.Answer), texts(want.Answer))
	case len(want.Answer) == 0 && !slices.Equal(denial(got), denial(want)):
		return fmt.Errorf("authority %q, want %q", got.Ns, want.Ns)
	}
	for _, rr := range texts(got.Extra) {
		if !c.records[rr] {
			return fmt.Errorf("additional record %q, want one of the zone", rr)
		}
	}
	return nil
}

// denial is the authority section of a negative answer without TTLs.
func denial(m *dns.Msg) []string {
	m = m.Copy()
	for _, rr := range m.Ns {
		rr.Header().Ttl = 0
	}
	return texts(m.Ns)
}

// texts are records in an order of their own. The serial goes on when a node restarts, so it does not count; nor do
// the records of DNSSEC, which come only to those who ask for them.
func texts(rrs []dns.RR) (out []string) {
	for _, rr := range rrs {
		switch rr := dns.Copy(rr).(type) {
		case *dns.OPT, *dns.RRSIG, *dns.NSEC:
		case *dns.SOA:
			rr.Serial = 0
			out = append(out, strings.ToLower(rr.String()))
		default:
			out = append(out, strings.ToLower(rr.String()))
		}
	}
	slices.Sort(out)
	return out
}
