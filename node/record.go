package node

import (
	"encoding/hex"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// Extra records: `record NAME [TTL] TYPE RDATA…`. The caddyfile has unquoted each word already, so that the words are
// put into master format again here, each by what its field is.

const (
	minRecordTTL     = time.Second
	maxRecordTTL     = 24 * time.Hour
	defaultRecordTTL = 30 * time.Second
	// maxString is the longest character-string (RFC 1035 §3.3).
	maxString = 255
)

// field is one field of RDATA.
type field int

const (
	number8    field = iota // 0 to 255
	number16                // 0 to 65535
	ipv4                    // an IPv4 address
	ipv6                    // an IPv6 address
	host                    // a domain name
	hexDigits               // the rest, in hexadecimal
	text                    // one character-string
	manyTexts               // the rest, each word a character-string
	propertyID              // the tag of CAA (RFC 8659 §4.1)
)

// recordTypes are the types that `record` takes, with their fields. NS, DS and DNAME are not among them: they would cut
// the zone, and what the parent and the nodes say of it is made elsewhere.
var recordTypes = map[string][]field{
	"A": {ipv4}, "AAAA": {ipv6}, "TXT": {manyTexts}, "CAA": {number8, propertyID, text}, "MX": {number16, host},
	"SRV": {number16, number16, number16, host}, "PTR": {host}, "CNAME": {host}, "SSHFP": {number8, number8, hexDigits},
	"TLSA": {number8, number8, number8, hexDigits},
}

const recordUsage = "write record NAME [TTL] TYPE RDATA, such as record www 5m A 10.0.1.80"

// record reads one line. What only the whole block can tell is checked in checkRecords.
func (p *stanza) record(args []string) error {
	if len(args) < 2 {
		return p.errorf("record without a name and a type", recordUsage)
	}
	owner, rest, ttl := args[0], args[1:], defaultRecordTTL
	if t, ok := recordTTL(rest[0]); ok {
		if t < minRecordTTL || t > maxRecordTTL || t%time.Second != 0 {
			return p.errorf("%q is not a TTL of whole seconds from 1s to 1d", "write 30, 30s, 5m, 1h or 1d", rest[0])
		}
		ttl, rest = t, rest[1:]
	}
	if len(rest) == 0 {
		return p.errorf("record %s without a type", recordUsage, owner)
	}
	kind := strings.ToUpper(rest[0])
	fields, ok := recordTypes[kind]
	if !ok {
		return p.errorf("%q is not a type that record takes", "one of: "+strings.Join(sortedKeys(recordTypes), ", "), rest[0])
	}
	p.records = append(p.records, recordLine{line: p.Line(), owner: owner, ttl: ttl, kind: kind, fields: fields, words: slices.Clone(rest[1:])})
	return nil
}

// recordTTL reads seconds or a time with a unit, days included; ok is false for what does not begin with a digit.
func recordTTL(s string) (ttl time.Duration, ok bool) {
	if s == "" || s[0] < '0' || s[0] > '9' {
		return 0, false
	}
	if n, err := strconv.ParseUint(s, 10, 31); err == nil {
		return time.Duration(n) * time.Second, true
	}
	if days, ok := strings.CutSuffix(s, "d"); ok {
		if n, err := strconv.ParseUint(days, 10, 16); err == nil {
			return time.Duration(n) * 24 * time.Hour, true
		}
	}
	t, err := time.ParseDuration(s)
	if err != nil {
		return -1, true // a TTL it should be, and is refused as one
	}
	return t, true
}

// recordLine is one record line before the domain is known.
type recordLine struct {
	line        int
	owner, kind string
	ttl         time.Duration
	fields      []field
	words       []string
}

// parse makes the record. problem is empty when it is right.
func (r recordLine) parse(domain string) (rr dns.RR, problem, hint string) {
	owner, ok := ownerName(r.owner, domain)
	if !ok {
		return nil, fmt.Sprintf("%q is not a name below %s", r.owner, domain), "write a name relative to the domain, such as www, or @ for the domain itself"
	}
	rdata, problem, hint := r.rdata(domain)
	if problem != "" {
		return nil, problem, hint
	}
	line := fmt.Sprintf("%s %d IN %s %s", owner, int(r.ttl/time.Second), r.kind, rdata)
	rr, err := dns.NewRR(line)
	if err != nil || rr == nil {
		return nil, fmt.Sprintf("%s %s is not a record: %v", r.owner, r.kind, err), recordUsage
	}
	if buf := make([]byte, dns.MaxMsgSize); !packs(rr, buf) {
		return nil, fmt.Sprintf("%s %s does not fit a record", r.owner, r.kind), "write it shorter"
	}
	return rr, "", ""
}

func packs(rr dns.RR, buf []byte) bool {
	_, err := dns.PackRR(rr, buf, 0, nil, false)
	return err == nil
}

// ownerName makes a name of the zone absolute; a name that ends in the domain already is not made longer.
func ownerName(s, domain string) (string, bool) {
	name := strings.ToLower(s)
	switch {
	case name == "@":
		return domain, true
	case dns.Fqdn(name) == domain || strings.HasSuffix(dns.Fqdn(name), "."+domain):
		name = dns.Fqdn(name)
	case strings.HasSuffix(name, "."):
		return "", false
	default:
		name += "." + domain
	}
	return name, plainName(name)
}

// plainName reports whether the name holds letters, digits, hyphens and underscores only, so that it means the same in
// every file format: no escapes, no wildcards.
func plainName(name string) bool {
	if _, ok := dns.IsDomainName(name); !ok {
		return false
	}
	for label := range strings.SplitSeq(strings.TrimSuffix(name, "."), ".") {
		if label == "" || len(label) > 63 || strings.Trim(label, "abcdefghijklmnopqrstuvwxyz0123456789-_") != "" {
			return false
		}
		for _, c := range []byte(label) {
			if !strings.ContainsRune("abcdefghijklmnopqrstuvwxyz0123456789-_", rune(c)) {
				return false
			}
		}
	}
	return len(name) <= 254
}

// rdata writes the fields in master format.
func (r recordLine) rdata(domain string) (out, problem, hint string) {
	var words []string
	rest := r.words
	for _, f := range r.fields {
		if len(rest) == 0 {
			return "", fmt.Sprintf("%s needs %d fields but has %d", r.kind, len(r.fields), len(r.words)), recordUsage
		}
		n := 1
		if f == hexDigits || f == manyTexts {
			n = len(rest)
		}
		word, problem, hint := f.read(rest[:n], domain)
		if problem != "" {
			return "", r.kind + ": " + problem, hint
		}
		words, rest = append(words, word), rest[n:]
	}
	if len(rest) > 0 {
		return "", fmt.Sprintf("%s has %q left over", r.kind, strings.Join(rest, " ")), "put a text with spaces into quotes"
	}
	return strings.Join(words, " "), "", ""
}

// read checks the words of one field.
func (f field) read(words []string, domain string) (out, problem, hint string) {
	w := words[0]
	switch f {
	case number8, number16:
		bits := map[field]int{number8: 8, number16: 16}[f]
		n, err := strconv.ParseUint(w, 10, bits)
		if err != nil {
			return "", fmt.Sprintf("%q is not a number from 0 to %d", w, 1<<bits-1), recordUsage
		}
		return strconv.FormatUint(n, 10), "", ""
	case ipv4, ipv6:
		a, err := netip.ParseAddr(w)
		if err != nil || a.Is4() != (f == ipv4) || a.Is4In6() || a.Zone() != "" {
			return "", fmt.Sprintf("%q is not an address of its family", w), "A takes an IPv4 address, AAAA an IPv6 address"
		}
		return a.String(), "", ""
	case host:
		return hostField(w, domain)
	case hexDigits:
		all := strings.ToLower(strings.Join(words, ""))
		if _, err := hex.DecodeString(all); err != nil || all == "" {
			return "", fmt.Sprintf("%q is not hexadecimal", all), "write the digest in hexadecimal"
		}
		return all, "", ""
	case propertyID:
		if w == "" || strings.Trim(strings.ToLower(w), "abcdefghijklmnopqrstuvwxyz0123456789") != "" {
			return "", fmt.Sprintf("%q is not a property", w), "write issue, issuewild or iodef"
		}
		return w, "", ""
	}
	var quoted []string
	for _, w := range words {
		if len(w) > maxString {
			return "", fmt.Sprintf("a text has %d octets, at most %d fit", len(w), maxString), "write it as several quoted texts; readers join them"
		}
		quoted = append(quoted, quote(w))
	}
	return strings.Join(quoted, " "), "", ""
}

// hostField makes a target absolute, like a name of an ns line: a word without a dot lies below the domain.
func hostField(w, domain string) (out, problem, hint string) {
	name := strings.ToLower(w)
	switch {
	case name == ".":
		return name, "", "" // RFC 2782, RFC 7505 §3: there is none
	case name == "@":
		return domain, "", ""
	case !strings.Contains(strings.TrimSuffix(name, "."), ".") && !strings.HasSuffix(name, "."):
		name += "." + domain
	}
	name = dns.Fqdn(name)
	if !plainName(name) {
		return "", fmt.Sprintf("%q is not a host name", w), "a name without a dot lies below the domain; others are absolute"
	}
	return name, "", ""
}

// quote writes a character-string (RFC 1035 §5.1) that reads back as the same octets.
func quote(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, c := range []byte(s) {
		switch {
		case c == '"' || c == '\\':
			b.WriteByte('\\')
			b.WriteByte(c)
		case c < ' ' || c > '~':
			fmt.Fprintf(&b, "\\%03d", c)
		default:
			b.WriteByte(c)
		}
	}
	b.WriteByte('"')
	return b.String()
}
