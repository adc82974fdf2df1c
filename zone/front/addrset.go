package front

import (
	"cmp"
	"encoding/binary"
	"net/netip"
	"slices"
)

// addrSet is a set of addresses as sorted ranges that do not meet. IPv4 addresses are in it as IPv4-mapped ones.
type addrSet []addrRange

type addrRange struct{ first, last addr128 }

type addr128 struct{ hi, lo uint64 }

func newAddr128(a netip.Addr) addr128 {
	b := a.As16()
	return addr128{binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])}
}

func (a addr128) compare(b addr128) int {
	return cmp.Or(cmp.Compare(a.hi, b.hi), cmp.Compare(a.lo, b.lo))
}

// newAddrSet returns the set of the addresses in prefixes; invalid ones are left out.
func newAddrSet(prefixes []netip.Prefix) addrSet {
	var all []addrRange
	for _, p := range prefixes {
		if !p.IsValid() {
			continue
		}
		bits := p.Bits()
		if p.Addr().Is4() {
			bits += 96
		}
		// A shift by 64 or more gives 0 in Go, so both halves come out right for each length.
		var host addr128
		if bits < 64 {
			host = addr128{^uint64(0) >> bits, ^uint64(0)}
		} else {
			host = addr128{0, ^uint64(0) >> (bits - 64)}
		}
		a := newAddr128(p.Addr())
		all = append(all, addrRange{addr128{a.hi &^ host.hi, a.lo &^ host.lo}, addr128{a.hi | host.hi, a.lo | host.lo}})
	}
	slices.SortFunc(all, func(a, b addrRange) int { return a.first.compare(b.first) })
	var s addrSet
	for _, r := range all {
		if n := len(s); n > 0 && r.first.compare(s[n-1].last) <= 0 {
			// Prefixes nest or are apart: this one is inside of the last one, or begins with it.
			if r.last.compare(s[n-1].last) > 0 {
				s[n-1].last = r.last
			}
			continue
		}
		s = append(s, r)
	}
	return s
}

func (s addrSet) contains(a netip.Addr) bool {
	if len(s) == 0 {
		return false
	}
	x := newAddr128(a)
	lo, hi := 0, len(s)
	for lo < hi {
		mid := (lo + hi) / 2
		r := &s[mid]
		switch {
		case x.hi < r.first.hi || x.hi == r.first.hi && x.lo < r.first.lo:
			hi = mid
		case x.hi > r.last.hi || x.hi == r.last.hi && x.lo > r.last.lo:
			lo = mid + 1
		default:
			return true
		}
	}
	return false
}
