package front

import "sync/atomic"

// account is one account of a Limiter in 64 bits: a tag of the key's hash (18), whether it is limited (1), whether the
// last suppressed answer slipped (1), the time of the last charge in seconds (20) and the balance in answers (24,
// signed). The time comes around after twelve days; a limit may then return for a few seconds.
type account uint64

const (
	balanceBits, timeBits = 24, 20
	maxBalance            = 1<<(balanceBits-1) - 1
	timeMask              = 1<<timeBits - 1
	slipBit               = 1 << (balanceBits + timeBits)
	limitedBit            = slipBit << 1
	tagShift              = balanceBits + timeBits + 2
)

// tagOf returns the tag of a hash in its place; it is never 0, the empty account's. The table's index is of other bits.
func tagOf(h uint64) account { return account(max(h>>tagShift, 1) << tagShift) }

func (a account) tag() account { return a >> tagShift << tagShift }

func (a account) balance() int64 {
	return int64(int32(uint32(a)<<(32-balanceBits)) >> (32 - balanceBits))
}

// worth is the balance at a time: it grows by rate per second up to rate.
func (a account) worth(now uint64, rate int64) int64 {
	age := int64((a.latest(now) - a.time()) & timeMask)
	return min(a.balance()+age*rate, rate)
}

func (a account) time() uint64 { return uint64(a>>balanceBits) & timeMask }

// latest returns now, or the account's time when that is a little later: readers that set the clock at once may set it
// back by a second, and nobody is to gain by it.
func (a account) latest(now uint64) uint64 {
	const little = 10 // seconds
	if ahead := (a.time() - now) & timeMask; ahead <= little {
		return a.time()
	}
	return now
}

// charge takes one answer off an account. One that is overdrawn is limited until it is as good as new, and pays for
// suppressed answers, too: who asks on at more than the rate gets none. To pass a rate of a flood's answers would leave it
// its amplification.
func (a account) charge(now uint64, rate int64) (account, Decision) {
	worth := a.worth(now, rate)
	flags, d := a&(limitedBit|slipBit), Pass
	if worth >= rate {
		flags &^= limitedBit
	}
	if worth < 1 {
		flags |= limitedBit
	}
	if flags&limitedBit != 0 {
		flags ^= slipBit
		d = Drop
		if flags&slipBit != 0 {
			d = Slip
		}
	}
	balance := max(worth-1, -maxDebt*rate, -maxBalance)
	return a.tag() | flags | account(a.latest(now))<<balanceBits | account(balance)&(1<<balanceBits-1), d
}

// accounts are a table of sets of setWays accounts, which are neighbours; 0 is an empty account. All have one rate.
type accounts []atomic.Uint64

// charge charges one answer to the account of a key's hash.
func (t accounts) charge(h, now uint64, rate int64) Decision {
	sets := uint64(len(t) / setWays)
	set := t[h%sets*setWays:][:setWays]
	for {
		slot, stored, a := find(set, h, now, rate)
		next, d := a.charge(now, rate)
		if slot.CompareAndSwap(uint64(stored), uint64(next)) {
			return d
		}
	}
}

// find returns the account to charge, as it is stored and as it is: the key's own; else one that is empty or as good as
// new, made the key's; else one that the key has to share.
func find(set []atomic.Uint64, h, now uint64, rate int64) (slot *atomic.Uint64, stored, a account) {
	tag, room := tagOf(h), -1
	for i := range set {
		a := account(set[i].Load())
		if a.tag() == tag {
			return &set[i], a, a
		}
		if room < 0 && (a == 0 || a.worth(now, rate) >= rate) {
			room, stored = i, a
		}
	}
	if room >= 0 {
		return &set[room], stored, tag | account(now)<<balanceBits | account(rate)
	}
	slot = &set[h/tableSets%setWays]
	a = account(slot.Load())
	return slot, a, a
}
