package node

import (
	"fmt"
	"slices"
	"strings"

	"github.com/miekg/dns"
)

// apexTypes are the types that `record @` may have: statements about mail and certificates of the domain, which the
// zone does not make by itself. All else at the domain is the zone's own.
var apexTypes = []uint16{dns.TypeCAA, dns.TypeMX, dns.TypeTXT}

// checkRecords makes the records of the record lines. It runs when the domain and all nodes are known.
func (p *stanza) checkRecords() error {
	lines := map[dns.RR]int{}
	for _, r := range p.records {
		rr, problem, hint := r.parse(p.o.Domain)
		if problem == "" {
			problem, hint = p.o.reserved(rr)
		}
		if problem == "" {
			problem, hint = badDigest(rr)
		}
		if problem == "" {
			problem, hint = p.o.clash(rr, lines)
		}
		if problem != "" {
			return p.errorAt(r.line, hint, "%s", problem)
		}
		lines[rr] = r.line
		p.o.Records = append(p.o.Records, rr)
	}
	return p.checkTargets(lines)
}

// reserved tells whether a record stands at a name that the zone makes itself.
func (o *Options) reserved(rr dns.RR) (problem, hint string) {
	name := rr.Header().Name
	const choose = "choose another name"
	if name == o.Domain {
		if slices.Contains(apexTypes, rr.Header().Rrtype) {
			return "", ""
		}
		return fmt.Sprintf("%s at the domain itself is the zone's own", dns.TypeToString[rr.Header().Rrtype]), "at @ stand CAA, MX and TXT; " + choose
	}
	label, _, _ := strings.Cut(name, ".")
	below := strings.TrimSuffix(strings.TrimSuffix(name, o.Domain), ".")
	if below == "_tcp" {
		return "the name _tcp is the zone's own", "name the service, such as _http._tcp"
	}
	if strings.HasPrefix(label, "_acme-challenge") {
		return "names that begin with _acme-challenge are the zone's own", choose
	}
	for l := range strings.SplitSeq(below, ".") {
		if strings.HasPrefix(l, "_etcd") {
			return fmt.Sprintf("the name %s is the zone's own: all that begin with _etcd are", l), choose
		}
	}
	for _, n := range o.Nodes {
		if below == n.Name || below == n.Name+"-peer" {
			return fmt.Sprintf("the name %s is a node's, in line %d", below, n.Line), choose
		}
	}
	for _, s := range o.NameServers {
		if name == s.Name {
			return fmt.Sprintf("the name %s is a name server's", name), choose
		}
	}
	return "", ""
}

// clash compares a record with those of the lines before it.
func (o *Options) clash(rr dns.RR, lines map[dns.RR]int) (problem, hint string) {
	h := rr.Header()
	for _, other := range o.Records {
		oh := other.Header()
		if oh.Name != h.Name {
			continue
		}
		line := lines[other]
		switch {
		case dns.IsDuplicate(rr, other):
			return fmt.Sprintf("the same record stands in line %d", line), "keep one of the two"
		case h.Rrtype == dns.TypeCNAME || oh.Rrtype == dns.TypeCNAME: // RFC 1034 §3.6.2, RFC 2181 §10.1
			return fmt.Sprintf("a CNAME stands alone, and %s has a record in line %d", h.Name, line), "take one of them away"
		case h.Rrtype == oh.Rrtype && h.Ttl != oh.Ttl: // RFC 2181 §5.2
			return fmt.Sprintf("the records of one name and type have one TTL, and line %d has %d", line, oh.Ttl), "give both the same"
		}
	}
	return "", ""
}

// checkTargets refuses mail and service hosts that are aliases (RFC 2181 §10.3, RFC 2782), and loops of aliases.
func (p *stanza) checkTargets(lines map[dns.RR]int) error {
	alias := map[string]string{}
	for _, rr := range p.o.Records {
		if c, ok := rr.(*dns.CNAME); ok {
			alias[c.Hdr.Name] = c.Target
		}
	}
	for _, rr := range p.o.Records {
		target := ""
		switch rr := rr.(type) {
		case *dns.MX:
			target = rr.Mx
		case *dns.SRV:
			target = rr.Target
		case *dns.CNAME:
			seen := []string{rr.Hdr.Name}
			for next, ok := rr.Target, true; ok; next, ok = alias[next] {
				if slices.Contains(seen, next) {
					return p.errorAt(lines[rr], "let one of them point elsewhere", "the alias %s leads back to %s", rr.Hdr.Name, next)
				}
				seen = append(seen, next)
				if alias[next] == "" {
					break
				}
			}
		}
		if to, ok := alias[target]; ok {
			return p.errorAt(lines[rr], "name "+to+" instead", "the target %s is an alias", target)
		}
	}
	return nil
}

// digestLengths are octets: SSHFP by fingerprint type (RFC 4255 §3.1.2, RFC 6594 §3), TLSA by matching type (RFC 6698
// §2.1.3). TLSA's type 0 is the whole certificate, of any length.
var (
	sshfpLengths = map[uint8]int{1: 20, 2: 32}
	tlsaLengths  = map[uint8]int{1: 32, 2: 64}
)

// badDigest tells whether a digest has not the length of its type.
func badDigest(rr dns.RR) (problem, hint string) {
	want, got, ok := 0, 0, false
	switch rr := rr.(type) {
	case *dns.SSHFP:
		if want, ok = sshfpLengths[rr.Type]; !ok {
			return fmt.Sprintf("SSHFP has no fingerprint type %d", rr.Type), "1 is SHA-1, 2 is SHA-256: ssh-keygen -r NAME"
		}
		got = len(rr.FingerPrint) / 2
	case *dns.TLSA:
		if rr.Usage > 3 || rr.Selector > 1 || rr.MatchingType > 2 {
			return fmt.Sprintf("TLSA %d %d %d is not assigned", rr.Usage, rr.Selector, rr.MatchingType), "usage 0 to 3, selector 0 or 1, matching type 0 to 2"
		}
		if want, ok = tlsaLengths[rr.MatchingType]; !ok {
			return "", ""
		}
		got = len(rr.Certificate) / 2
	}
	if got != want {
		return fmt.Sprintf("the digest has %d octets, its type has %d", got, want), "copy it again, in hexadecimal"
	}
	return "", ""
}
