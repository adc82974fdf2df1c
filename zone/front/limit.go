package front

import (
	"encoding/binary"
	"hash/maphash"
	"net/netip"
	"sync/atomic"
)

// Class is a kind of answer that is limited by itself.
type Class uint8

// The classes of answers.
const (
	ClassPositive Class = iota // NOERROR with an answer
	ClassNegative              // NXDOMAIN, and NOERROR without an answer
	ClassError                 // every other rcode
)

// ClassOf returns the class of an answer with a dns.Rcode… value and a number of records in its answer section.
func ClassOf(rcode, answers int) Class {
	const noError, nameError = 0, 3
	switch {
	case rcode == noError && answers > 0:
		return ClassPositive
	case rcode == noError || rcode == nameError:
		return ClassNegative
	}
	return ClassError
}

// Decision is what becomes of an answer.
type Decision uint8

const (
	// Pass sends it.
	Pass Decision = iota
	// Slip sends a truncated answer with empty sections (TC=1) for it.
	Slip
	// Drop sends nothing.
	Drop
)

const (
	// tableSets and setWays give 131,072 accounts in 1 MiB, networkSets 32,768 of networks in 256 KiB. They are all the
	// memory of a Limiter.
	tableSets, networkSets, setWays = 1 << 15, 1 << 13, 4
	// maxRate is the highest rate per second; accounts have 24 bits.
	maxRate = 1_000_000
	// maxDebt is how many seconds of the rate a flood may owe. One would outlast the next second's rate; two keep a flood that
	// pauses every other second from being a new one each time. Those that pause for longer get less than three octets for one
	// by the pauses alone. BIND's window is 15 s by default, which holds a client that is none for as long.
	maxDebt = 2
	// allRates is how many times the rate a network gets in all. BIND's manual wants all-per-second to be four times the
	// other rates or more. A client that looks for a cluster asks for the service and for a few members' addresses.
	allRates = 5
)

// Limiter is a response rate limit: it makes this server useless to who wants to hit others with its answers. Each
// account is of a network (/24 of IPv4, /56 of IPv6), an owner (the name, or the zone of an NXDOMAIN) and a class; for
// errors the owner does not count. An account gets rate answers per second. When it asks for more, every second answer
// slips and the others are dropped, as in the RRL of BIND, until what was too much is made up for, by three seconds
// without any at most.
// What an account lets pass is charged to one of the whole network too, at allRates times the rate: who asks for each name
// of a large zone in turn would else get the rate for each.
//
// A Limiter has a fixed size. An account makes room for another only when it is as good as new; when none is, the new
// one shares an old one and is limited the earlier. The hash is seeded, so that nobody can aim at an account. A Limiter
// is safe for concurrent use and does not lock.
type Limiter struct {
	clock  *Clock
	seed   maphash.Seed
	limits atomic.Pointer[limits]
	table  accounts
	// networks are apart from table, as an account's worth depends on its rate.
	networks accounts
}

// limits are immutable.
type limits struct {
	rate   int64
	exempt addrSet
}

// NewLimiter returns a limiter that limits nothing until Set.
func NewLimiter(clock *Clock) *Limiter {
	l := &Limiter{clock: clock, seed: maphash.MakeSeed(), table: make(accounts, tableSets*setWays), networks: make(accounts, networkSets*setWays)}
	l.limits.Store(&limits{})
	return l
}

// Set swaps the rate in answers per second, 0 (or less) for no limit and a million at most, and the networks without
// one.
func (l *Limiter) Set(rate int, exempt []netip.Prefix) {
	l.limits.Store(&limits{rate: int64(min(max(rate, 0), maxRate)), exempt: newAddrSet(exempt)})
}

// Check charges one answer to a client about an owner (Result.Owner) and says what becomes of it. Callers do not ask
// for TCP clients and those with a valid cookie: they cannot forge addresses. The caller keeps the clock: Clock.Set.
func (l *Limiter) Check(client netip.Addr, owner uint64, c Class) Decision {
	lim := l.limits.Load()
	if lim.rate == 0 {
		return Pass
	}
	client = client.Unmap()
	if client.IsLoopback() || lim.exempt.contains(client) {
		return Pass
	}
	now := uint64(l.clock.now()) & timeMask
	if d := l.table.charge(l.hash(client, owner, c), now, lim.rate); d != Pass {
		return d
	}
	return l.networks.charge(l.hash(client, 0, 0), now, lim.rate*allRates)
}

// hash hashes a key. An error's owner is any name that somebody makes up.
func (l *Limiter) hash(client netip.Addr, owner uint64, c Class) uint64 {
	if c == ClassError {
		owner = 0
	}
	var key [17]byte
	if client.Is4() {
		ip := client.As4()
		copy(key[:3], ip[:3])
		key[7] = 4
	} else {
		ip := client.As16()
		copy(key[:7], ip[:7])
		key[7] = 6
	}
	binary.LittleEndian.PutUint64(key[8:], owner)
	key[16] = byte(c)
	return maphash.Bytes(l.seed, key[:])
}
