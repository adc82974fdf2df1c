package zone

import "bytes"

// perPage is how many names a page of a table holds on average when it is made; a page may get four times as many
// before the table is made anew.
const perPage = 32

// table finds entries by name. It never changes once it is shared: an edit copies the pages that it touches, so the
// next version of a large zone costs little more than what differs.
type table struct {
	// pages are hash tables with linear probing; their number and sizes are powers of two. The low bits of a name's
	// hash choose the page, the high bits the place in it.
	pages [][]slot
	count int
}

type slot struct {
	tag   uint32
	entry *entry
}

// get returns the entry of a lower-case wire name, nil if there is none.
func (t *table) get(h uint64, wire []byte) *entry {
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
		if s.entry == nil {
			return nil
		}
		if s.tag == tag && bytes.Equal(s.entry.wire(), wire) {
			return s.entry
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
	if t.place(p, slot{uint32(h >> 32), e}) {
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
		if at.tag == s.tag && bytes.Equal(at.entry.wire(), s.entry.wire()) {
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
		if s.entry != nil && s.entry != gone {
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
