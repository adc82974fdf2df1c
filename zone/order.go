package zone

import (
	"iter"
	"slices"
)

// perChunk is how many names a chunk of an order holds at most.
const perChunk = 256

// order holds the entries below the apex in canonical order (RFC 4034 §6.1). Like a table it never changes once it is
// shared.
type order struct{ chunks [][]*entry }

// all yields the entries.
func (o *order) all() iter.Seq[*entry] {
	return func(yield func(*entry) bool) {
		for _, chunk := range o.chunks {
			for _, e := range chunk {
				if !yield(e) {
					return
				}
			}
		}
	}
}

// find returns the place of a name by its labels below the apex: where it is, or where it would be put.
func (o *order) find(labels []byte) (chunk, at int, found bool) {
	// The last chunk that begins at or before the name.
	lo, hi := 0, len(o.chunks)
	for lo < hi {
		mid := int(uint(lo+hi) / 2)
		if compareLabels(o.chunks[mid][0].labels(), labels) <= 0 {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	if lo == 0 {
		return 0, 0, false
	}
	entries := o.chunks[lo-1]
	first, last := 0, len(entries)
	for first < last {
		mid := int(uint(first+last) / 2)
		c := compareLabels(entries[mid].labels(), labels)
		if c == 0 {
			return lo - 1, mid, true
		}
		if c < 0 {
			first = mid + 1
		} else {
			last = mid
		}
	}
	return lo - 1, first, false
}

// before returns the last entry that comes before a name, nil if none does.
func (o *order) before(labels []byte) *entry {
	chunk, at, _ := o.find(labels)
	switch {
	case at > 0:
		return o.chunks[chunk][at-1]
	case chunk > 0:
		last := o.chunks[chunk-1]
		return last[len(last)-1]
	}
	return nil
}

// after returns the first entry that comes after a name, nil if none does.
func (o *order) after(labels []byte) *entry {
	chunk, at, found := o.find(labels)
	if found {
		at++
	}
	for ; chunk < len(o.chunks); chunk, at = chunk+1, 0 {
		if at < len(o.chunks[chunk]) {
			return o.chunks[chunk][at]
		}
	}
	return nil
}

// owner returns the last name before another that owns records, top if none does: its NSEC record is what covers the
// other.
func (o *order) owner(labels []byte, top *entry) *entry {
	for len(labels) > 0 {
		e := o.before(labels)
		if e == nil {
			break
		}
		if !e.empty() {
			return e
		}
		labels = e.labels()
	}
	return top
}

// next returns the first name after another that owns records, top if none does.
func (o *order) next(labels []byte, top *entry) *entry {
	for {
		e := o.after(labels)
		if e == nil {
			return top
		}
		if !e.empty() {
			return e
		}
		labels = e.labels()
	}
}

// orderEdit is an order being changed by one goroutine.
type orderEdit struct {
	order
}

func (o *order) edit() *orderEdit {
	return &orderEdit{order: order{chunks: slices.Clone(o.chunks)}}
}

// put adds an entry or replaces the one of the same name.
func (o *orderEdit) put(e *entry) {
	if len(o.chunks) == 0 {
		o.chunks = [][]*entry{{e}}
		return
	}
	chunk, at, found := o.find(e.labels())
	entries := o.chunks[chunk]
	if found {
		entries = slices.Clone(entries)
		entries[at] = e
		o.chunks[chunk] = entries
		return
	}
	grown := make([]*entry, 0, len(entries)+1)
	grown = append(append(append(grown, entries[:at]...), e), entries[at:]...)
	if len(grown) <= perChunk {
		o.chunks[chunk] = grown
		return
	}
	half := len(grown) / 2
	o.chunks[chunk] = slices.Clone(grown[:half])
	o.chunks = slices.Insert(o.chunks, chunk+1, slices.Clone(grown[half:]))
}

// remove takes a name out, if it is there.
func (o *orderEdit) remove(labels []byte) {
	chunk, at, found := o.find(labels)
	if !found {
		return
	}
	if len(o.chunks[chunk]) == 1 {
		o.chunks = slices.Delete(o.chunks, chunk, chunk+1)
		return
	}
	o.chunks[chunk] = slices.Delete(slices.Clone(o.chunks[chunk]), at, at+1)
}

// sorted makes an order of many entries at once.
func sorted(entries []*entry) *orderEdit {
	slices.SortFunc(entries, func(a, b *entry) int { return compareLabels(a.labels(), b.labels()) })
	o := &orderEdit{}
	for chunk := range slices.Chunk(entries, perChunk*3/4) {
		o.chunks = append(o.chunks, slices.Clone(chunk))
	}
	return o
}

func (o *orderEdit) done() order { return o.order }
