package zone

import (
	"sync/atomic"

	"github.com/etcd-dns/etcd-dns/zone/front"
)

// warmFrom is the number of names from which on a zone does not fit a processor's caches.
const warmFrom = 10000

// warmed keeps the compiler from leaving out loads whose results nobody wants.
var warmed atomic.Uint64

// Warm implements front.Warmer. The names of a batch have nothing to do with each other, so that the processor can
// load what is far away for several at once, if it is asked for one step of all before the next step of the first.
func (z *Zones) Warm(questions [][]byte) {
	for _, store := range z.All() {
		if s := store.Load(); s != nil && s.names.count >= warmFrom {
			s.names.warm(questions)
		}
	}
}

func (t *table) warm(questions [][]byte) {
	var slots [front.MaxBatch]*slot
	var name [maxWire]byte
	n := 0
	for _, q := range questions {
		wire := name[:copyName(name[:], q)]
		h := hash(wire)
		page := t.pages[h&uint64(len(t.pages)-1)]
		if len(wire) > 0 && len(page) > 0 && n < len(slots) {
			slots[n] = &page[int(uint32(h>>32))&(len(page)-1)]
			n++
		}
	}
	sum := uint64(0)
	for _, s := range slots[:n] {
		sum += uint64(s.tag)
	}
	const line = 64 // octets of memory that a processor loads at once
	for _, s := range slots[:n] {
		if s.packed == nil {
			continue
		}
		answers := s.answers()
		for at := 0; at < len(answers) && at < 6*line; at += line {
			sum += uint64(answers[at])
		}
	}
	if sum == 0 {
		warmed.Add(1)
	}
}

// copyName copies the name at the beginning of a question in lower case and returns its length, 0 if it is none.
func copyName(to, question []byte) int {
	at := 0
	for at < len(question) && at < len(to) && question[at] != 0 {
		at += 1 + int(question[at])
	}
	if at >= len(question) || at >= len(to) {
		return 0
	}
	n := copy(to, question[:at+1])
	lower(to[:n])
	return n
}
