package sign

import (
	"strings"

	"github.com/miekg/dns"
)

// KeyTTL is the TTL of DNSKEY, CDS and CDNSKEY in seconds: configuration, like NS.
const KeyTTL = 3600

// apexRecords returns what signing adds to the apex, always in one order.
func apexRecords(apex string, s State, published []*Key, active *Key) (out []dns.RR) {
	for _, k := range published {
		out = append(out, k.DNSKEY(apex))
	}
	switch {
	case s.Mode == GoingOff:
		out = append(out, deleteRecords(apex)...)
	case s.Announced:
		// RFC 7344 §4: the CDS set is the DS set that the child wants. Both keys sign the DNSKEY set, so the parent may
		// replace one DS by the other in one step.
		cds := &dns.CDS{DS: *active.DS(apex)}
		cds.Hdr.Rrtype = dns.TypeCDS
		out = append(out, cds, active.DNSKEY(apex).ToCDNSKEY())
	}
	return out
}

func apexHeader(apex string, t uint16) dns.RR_Header {
	return dns.RR_Header{Name: apex, Rrtype: t, Class: dns.ClassINET, Ttl: KeyTTL}
}

// deleteRecords ask the parent to drop its DS set (RFC 8078 §4: `CDS 0 0 0 00` and `CDNSKEY 0 3 0 AA==`).
func deleteRecords(apex string) []dns.RR {
	return []dns.RR{
		&dns.CDS{DS: dns.DS{Hdr: apexHeader(apex, dns.TypeCDS), Digest: "00"}},
		&dns.CDNSKEY{DNSKEY: dns.DNSKEY{Hdr: apexHeader(apex, dns.TypeCDNSKEY), Protocol: keyProtocol, PublicKey: "AA=="}},
	}
}

// IsDelete reports whether a CDS record asks for the removal of the DS set.
func IsDelete(c *dns.CDS) bool { return c.Algorithm == 0 }

func equalHex(a, b string) bool { return strings.EqualFold(a, b) }
