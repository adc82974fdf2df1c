package zone

import (
	"bytes"
	"unsafe"
)

// perPage is how many names a page of a table holds on average when it is made; a page may get four times as many
// before the table is made anew. The list of the pages of a large zone stays small enough for a processor's cache.
const perPage = 256

// table finds entries by name. It never changes once it is shared: an edit copies the pages that it touches, so the
// next version of a large zone costs little more than what differs.
type table struct {
	// pages are hash tables with linear probing; their number and sizes are powers of two. The low bits of a name's
	// hash choose the page, the high bits the place in it.
	pages [][]slot
	count int
}

// slot has a pointer to the entry's packed answers beside the one to the entry, which a query then need not load:
// memory that is far away is most of what a query in a large zone costs.
type slot struct {
	tag, size uint32
	packed    *byte
	entry     *entry
}

func newSlot(h uint64, e *entry) slot {
	return slot{uint32(h >> 32), uint32(len(e.packed)), unsafe.SliceData(e.packed), e}
}

// answers returns the packed answers.
func (s *slot) answers() packed { return unsafe.Slice(s.packed, s.size) }

// is reports whether the slot is that of a lower-case wire name. A name is no prefix of another: each ends in the root
// label.
func (s *slot) is(tag uint32, wire []byte) bool {
	return s.tag == tag && int(s.size) >= len(wire) && bytes.Equal(s.answers()[:len(wire)], wire)
}

// get returns the slot of a lower-case wire name, nil if there is none.
func (t *table) get(h uint64, wire []byte) *slot {
	if len(t.pages) == 0 {
		return nil
	}
	page := t.pages[h&uint64(len(t.pages)-1)]
	if len(page) == 0 {
		return nil
	}
	tag := uint32(h >> 32)
	for i := int(tag); ; i++ {
		s := &page[i&(len(page)-1)]
		if s.packed == nil {
			return nil
		}
		if s.is(tag, wire) {
			return s
		}
	}
}

// tableEdit is a table being changed by one goroutine.
type tableEdit struct {
	table
	// used counts the entries of the pages that are this edit's own.
	used map[int]int
}

// edit begins the next version of t with room for count names.
func (t *table) edit(count int) *tableEdit {
	pages := 1
	for pages*perPage < count {
		pages *= 2
	}
	if len(t.pages) >= pages/4 && len(t.pages) <= pages*16 && len(t.pages) > 0 {
		pages = len(t.pages)
	}
	e := &tableEdit{table: table{pages: make([][]slot, pages)}, used: map[int]int{}}
	if pages == len(t.pages) {
		copy(e.pages, t.pages)
		e.count = t.count
		return e
	}
	for _, page := range t.pages {
		for _, s := range page {
			if s.entry != nil {
				e.put(s.entry)
			}
		}
	}
	return e
}

// put adds an entry or replaces the one of the same name.
func (t *tableEdit) put(e *entry) {
	h := hash(e.wire())
	p := t.own(h)
	if t.used[p]*4 >= len(t.pages[p])*3 {
		t.resize(p, max(4, 2*len(t.pages[p])))
	}
	if t.place(p, newSlot(h, e)) {
		t.used[p]++
		t.count++
	}
}

// place reports whether the name is new.
func (t *tableEdit) place(p int, s slot) bool {
	page := t.pages[p]
	for i := int(s.tag); ; i++ {
		at := &page[i&(len(page)-1)]
		if at.entry == nil {
			*at = s
			return true
		}
		if at.is(s.tag, s.entry.wire()) {
			*at = s
			return false
		}
	}
}

// remove takes a name out, if it is there.
func (t *tableEdit) remove(wire []byte) {
	h := hash(wire)
	gone := t.get(h, wire)
	if gone == nil {
		return
	}
	p := t.own(h)
	old := t.pages[p]
	t.pages[p] = make([]slot, len(old))
	t.used[p]--
	t.count--
	for _, s := range old {
		if s.entry != nil && s.entry != gone.entry {
			t.place(p, s)
		}
	}
}

// own makes the page of a hash a copy of this edit's own.
func (t *tableEdit) own(h uint64) int {
	p := int(h & uint64(len(t.pages)-1))
	if _, owned := t.used[p]; !owned {
		t.resize(p, len(t.pages[p]))
	}
	return p
}

func (t *tableEdit) resize(p, size int) {
	old, used := t.pages[p], 0
	t.pages[p] = make([]slot, size)
	for _, s := range old {
		if s.entry != nil {
			t.place(p, s)
			used++
		}
	}
	t.used[p] = used
}

// done returns the new version; the edit is over.
func (t *tableEdit) done() *table {
	out := t.table
	return &out
}
