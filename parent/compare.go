package parent

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/miekg/dns"
)

// Want is what the parent should hold.
type Want struct {
	// Domain is absolute and lower case.
	Domain string
	// Records are the NS set and, for name servers below the domain, their addresses.
	Records []dns.RR
	// DS is the DS RRset to publish; empty for a zone that is not signed. DSKnown is false where nobody could say, and
	// then DS is not compared.
	DS      []*dns.DS
	DSKnown bool
	// Keys are the zone's keys with the SEP flag: a DS record of one of them, of any digest, does no harm.
	Keys []*dns.DNSKEY
}

// Word is a verdict in one word.
type Word string

// The verdicts. Unknown means that no server could be asked, or that none shows what the parent holds.
const (
	Agrees  Word = "agrees"
	Differs Word = "differs"
	Unknown Word = "unknown"
)

// Verdict compares a view with what is wanted.
type Verdict struct {
	Word Word `json:"verdict"`
	// Zone is the parent zone; empty if it was not found.
	Zone        string       `json:"zone"`
	Servers     []Server     `json:"servers"`
	Differences []Difference `json:"differences"`
	// Err says why the verdict is Unknown.
	Err string `json:"error,omitempty"`
}

// Difference is one record that is missing at the parent or should not be there.
type Difference struct {
	// Publish says that the record is missing; otherwise it is to be withdrawn.
	Publish bool
	Record  dns.RR
	// Servers are those of the parent that differ.
	Servers []string
}

// String is one line: what to do, the record, and where.
func (d Difference) String() string {
	return fmt.Sprintf("%s %s at %s", d.do(), strings.ReplaceAll(d.Record.String(), "\t", " "), strings.Join(d.Servers, ", "))
}

func (d Difference) do() string {
	if d.Publish {
		return "publish"
	}
	return "withdraw"
}

// MarshalJSON writes the record in master format.
func (d Difference) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Do      string   `json:"do"`
		Record  string   `json:"record"`
		Servers []string `json:"servers"`
	}{d.do(), d.Record.String(), d.Servers})
}

// Summary is the verdict in one line.
func (v Verdict) Summary() string {
	switch v.Word {
	case Agrees:
		return "the parent " + v.Zone + " delegates as wanted"
	case Unknown:
		return "the parent could not be asked: " + strings.Join(strings.Fields(v.Err), " ")
	}
	return fmt.Sprintf("the parent %s differs in %d records: %s", v.Zone, len(v.Differences), v.Differences[0])
}

// Judge asks the parent and compares.
func (v View) Judge(w Want) Verdict {
	out := Verdict{Word: Unknown, Zone: v.Zone, Servers: v.Servers, Differences: []Difference{}}
	seen := 0
	for _, s := range v.Servers {
		if s.Err != nil {
			continue
		}
		if !s.Child {
			seen++
		}
		for _, d := range s.differences(w) {
			out.add(d)
		}
	}
	switch {
	case len(out.Differences) > 0:
		out.Word = Differs
	case seen > 0:
		out.Word = Agrees
	case !slices.ContainsFunc(v.Servers, func(s Server) bool { return s.Child }):
		out.Err = v.silence().Error()
	default:
		out.Err = "every server of " + v.Zone + " serves " + v.Domain + " too and answers from there, so that the delegation cannot be seen"
	}
	return out
}

// Failed is the verdict when Ask failed.
func Failed(err error) Verdict {
	return Verdict{Word: Unknown, Servers: []Server{}, Differences: []Difference{}, Err: err.Error()}
}

// add joins a server's difference with the same one of another server.
func (v *Verdict) add(d Difference) {
	for i, other := range v.Differences {
		if other.Publish == d.Publish && sameRecord(other.Record, d.Record) {
			v.Differences[i].Servers = append(other.Servers, d.Servers...)
			return
		}
	}
	v.Differences = append(v.Differences, d)
}

// differences compares one server's records with those wanted. TTLs are the parent's own business.
func (s Server) differences(w Want) (out []Difference) {
	diff := func(publish bool, rr dns.RR) {
		out = append(out, Difference{Publish: publish, Record: rr, Servers: []string{s.String()}})
	}
	if !s.Child {
		have := append([]dns.RR{}, s.Glue...)
		for _, ns := range s.NS {
			have = append(have, ns)
		}
		// Servers rotate what they send.
		slices.SortFunc(have, func(a, b dns.RR) int { return strings.Compare(a.String(), b.String()) })
		for _, rr := range w.Records {
			if !containsRecord(have, rr) {
				diff(true, rr)
			}
		}
		for _, rr := range have {
			if !containsRecord(w.Records, rr) {
				diff(false, rr)
			}
		}
	}
	if !w.DSKnown {
		return out
	}
	for _, ds := range w.DS {
		if !containsDS(s.DS, ds) {
			diff(true, ds)
		}
	}
	for _, ds := range s.DS {
		if !containsDS(w.DS, ds) && !w.covers(ds) {
			diff(false, ds)
		}
	}
	return out
}

// covers reports whether the DS record is one of the zone's own keys.
func (w Want) covers(ds *dns.DS) bool {
	return slices.ContainsFunc(w.Keys, func(k *dns.DNSKEY) bool {
		own := k.ToDS(ds.DigestType)
		return own != nil && sameDS(own, ds)
	})
}

func containsRecord(set []dns.RR, rr dns.RR) bool {
	return slices.ContainsFunc(set, func(other dns.RR) bool { return sameRecord(other, rr) })
}

func containsDS(set []*dns.DS, ds *dns.DS) bool {
	return slices.ContainsFunc(set, func(other *dns.DS) bool { return sameDS(other, ds) })
}

func sameDS(a, b *dns.DS) bool {
	return a.KeyTag == b.KeyTag && a.Algorithm == b.Algorithm && a.DigestType == b.DigestType && strings.EqualFold(a.Digest, b.Digest)
}

// sameRecord compares without TTL and letter case.
func sameRecord(a, b dns.RR) bool {
	if a.Header().Rrtype != b.Header().Rrtype || !sameName(a.Header().Name, b.Header().Name) {
		return false
	}
	switch a := a.(type) {
	case *dns.NS:
		return sameName(a.Ns, b.(*dns.NS).Ns)
	case *dns.DS:
		return sameDS(a, b.(*dns.DS))
	}
	return dns.IsDuplicate(a, b)
}
