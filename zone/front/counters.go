package front

import (
	"cmp"
	"strconv"
	"sync/atomic"

	"github.com/miekg/dns"
)

// types are the query types that CoreDNS counts by themselves (its plugin/metrics/vars); all others are types[0].
var types = [...]uint16{0, dns.TypeA, dns.TypeAAAA, dns.TypeSRV, dns.TypeSOA, dns.TypeNS, dns.TypeDNSKEY, dns.TypeDS,
	dns.TypeNSEC, dns.TypeRRSIG, dns.TypeTXT, dns.TypePTR, dns.TypeCNAME, dns.TypeMX, dns.TypeNSEC3, dns.TypeHTTPS,
	dns.TypeSVCB, dns.TypeANY, dns.TypeAXFR, dns.TypeIXFR}

// typeIndex is the index in types of each type below 256; all of types are.
var typeIndex = func() (index [256]uint8) {
	for i, t := range types {
		index[t] = uint8(i)
	}
	index[0] = 0
	return index
}()

const (
	rcodes = 17
	// noResponse stands beside the 16 rcodes for queries that the rate limit left without an answer.
	noResponse = 16
	// cacheLine is the size in octets of what one CPU takes from another on a write, doubled as they come in pairs.
	cacheLine = 128

	answerCells = 8 * len(types) * rcodes
)

// counters count what engines did, one atomic addition per query. Each reader has its own: sharing is right, but
// slower.
type counters struct {
	_       [cacheLine]byte
	answers [answerCells]atomic.Uint64 // by family, protocol, DO, type and rcode
	missed  atomic.Uint64
	dropped atomic.Uint64 // QR=1 and packets shorter than a header
	limited atomic.Uint64 // suppressed by the rate limit, those that slipped included
	slipped atomic.Uint64
	_       [cacheLine]byte
}

// newCounters returns counters that snapshot includes from now on, for the life of s.
func (s *Shared) newCounters() *counters {
	c := new(counters)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = append(s.all, c)
	return c
}

// answer counts one query that was answered, or not on purpose.
func (c *counters) answer(x *exchange, qtype uint16, rcode int) {
	i := 0
	if !x.from.Is4() {
		i = 4
	}
	if x.tcp {
		i += 2
	}
	if x.query.do {
		i++
	}
	t := 0
	if qtype < 256 {
		t = int(typeIndex[qtype])
	}
	c.answers[(i*len(types)+t)*rcodes+rcode].Add(1)
}

// snapshot is the sum of all counters at a time.
type snapshot struct {
	answers [answerCells]uint64
	// Missed queries are counted by the full server, too; the others are not.
	Missed uint64
	// Dropped are packets that are no query: QR=1 or shorter than a header.
	Dropped uint64
	// Limited are the answers that the rate limit suppressed, Slipped those of them that got a truncated one.
	Limited, Slipped uint64
}

// snapshot sums the counters of all readers.
func (s *Shared) snapshot() *snapshot {
	s.mu.Lock()
	defer s.mu.Unlock()
	sum := new(snapshot)
	for _, c := range s.all {
		for i := range c.answers {
			sum.answers[i] += c.answers[i].Load()
		}
		sum.Missed += c.missed.Load()
		sum.Dropped += c.dropped.Load()
		sum.Limited += c.limited.Load()
		sum.Slipped += c.slipped.Load()
	}
	return sum
}

// countKey is what queries are counted by, in the words of CoreDNS's metrics.
type countKey struct {
	Family string // "1" for IPv4, "2" for IPv6
	Proto  string // "udp" or "tcp"
	Type   string // "other" for the rare ones
	DO     bool
	Rcode  string // "" when the rate limit left the query without an answer
}

// since calls f for each key of which there have been n > 0 queries since an older snapshot; nil is the beginning.
func (s *snapshot) since(old *snapshot, f func(k countKey, n uint64)) {
	if old == nil {
		old = new(snapshot)
	}
	for i, n := range s.answers {
		if n -= old.answers[i]; n > 0 {
			f(keyOf(i), n)
		}
	}
}

// keyOf is the inverse of counters.answer's index.
func keyOf(i int) countKey {
	k := countKey{Family: "1", Proto: "udp", Type: "other"}
	if rcode := i % rcodes; rcode != noResponse {
		k.Rcode = cmp.Or(dns.RcodeToString[rcode], "RCODE"+strconv.Itoa(rcode))
	}
	i /= rcodes
	if t := types[i%len(types)]; t != 0 {
		k.Type = dns.Type(t).String()
	}
	i /= len(types)
	k.DO = i&1 != 0
	if i&2 != 0 {
		k.Proto = "tcp"
	}
	if i&4 != 0 {
		k.Family = "2"
	}
	return k
}
