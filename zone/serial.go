package zone

import (
	"errors"
	"slices"
	"time"

	"github.com/etcd-dns/etcd-dns/roster"
)

// A serial is counter<<slotBits | slot of the node that minted it, so that no two nodes mint the same one. Counters
// are compared and added modulo 2^26, which is RFC 1982 arithmetic on the upper bits of the serial.
const (
	slotBits    = 6
	counterBits = 32 - slotBits
	counterMask = 1<<counterBits - 1
)

const (
	// maxLead is how far ahead of every known counter the clock is believed, in counters of 64 s: about one year. A
	// wrong clock beyond it would push the counter where, after the loss of all disks, no right clock follows.
	maxLead = 365 * 24 * 3600 >> slotBits
	// block is how many counters are reserved ahead on disk, about 68 minutes' worth: as many changes of the zone
	// survive a full disk, and a restart skips no more than these.
	block = 64
)

// earliest is before the first release: a clock behind it is a clock that was never set.
var earliest = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// Serials mints the serials of one node. One serial names one content for the zone's whole life: a secondary that
// meets one serial with two contents keeps the wrong one, silently. The owner of a Publisher owns it.
type Serials struct {
	slot uint32
	now  func() time.Time
	file recordFile

	loaded bool
	// last is what this node served last, as far as it knows.
	last record
	// unsaved says that last is not on disk.
	unsaved bool
	// high is the highest counter served, reserved or seen; it counts only if known.
	high  uint32
	known bool
}

// NewSerials returns the serials of the node with that slot, 0 to roster.MaxSlot; with roster.NoSlot it mints none, and takes
// over those of its peers. file keeps the high-water mark; it
// is read at the first use, and its directory must exist.
func NewSerials(file string, slot int, now func() time.Time) *Serials {
	s := &Serials{slot: uint32(slot), now: now, file: recordFile{path: file, write: writeRecord}}
	return s
}

// Later reports whether serial a comes after b (RFC 1982 §3.2). Serials that are exactly half the space apart, where
// the RFC leaves it open, do not.
func Later(a, b uint32) bool { return a != b && a-b < 1<<31 }

// choose returns the serial for a content. It has been recorded on disk, or lies within what was reserved there, and
// then warning says why it could not be recorded.
func (s *Serials) choose(digest string, peers []Published) (serial uint32, warning, err error) {
	for _, p := range peers {
		s.see(p.Serial)
	}
	if warning, err = s.load(); err != nil {
		return 0, nil, err
	}
	serial, found := s.existing(digest, peers)
	if !found {
		if s.slot > roster.MaxSlot {
			return 0, nil, refuse("give the node a free slot", "slot %d is not 0 to %d", int32(s.slot), roster.MaxSlot)
		}
		serial = s.mint()
	}
	if s.last.Serial == serial && s.last.Digest == digest && !s.unsaved {
		return serial, warning, nil
	}
	next := record{Format: recordFormat, Serial: serial, Digest: digest, Reserved: (s.mark(serial) + block) & counterMask}
	err = s.file.save(next)
	s.unsaved = err != nil
	if err != nil {
		// A high-water mark is on disk before a serial is served: the last one that was written still covers a few. A
		// serial that names this content already needs none, since serving it again cannot give it a second meaning.
		covered := s.last.Format != 0 && !counterAfter(serial>>slotBits, s.last.Reserved)
		if !found && !covered {
			return 0, nil, err
		}
		next.Format, next.Reserved = s.last.Format, s.last.Reserved
		warning = err
	}
	s.last = next
	s.see(serial)
	return serial, warning, nil
}

// load reads the record once. After a restart the whole reserve counts as used. A record that is lost or spoilt is
// made up for by what peers serve and by the clock; with neither there is an error.
func (s *Serials) load() (warning, err error) {
	if s.loaded {
		return nil, nil
	}
	last, err := s.file.load()
	switch {
	case errors.Is(err, errSpoilt) && (s.known || !s.now().Before(earliest)):
		warning = err
		s.raise((s.clock() + block) & counterMask)
	case err != nil:
		return nil, err
	}
	s.last, s.loaded = last, true
	if last.Format != 0 {
		s.raise(last.Reserved)
	}
	return warning, nil
}

// clock returns the counter of the present time.
func (s *Serials) clock() uint32 { return uint32(s.now().Unix()>>slotBits) & counterMask }

// see raises the high-water mark to a serial that exists.
func (s *Serials) see(serial uint32) {
	if serial != 0 {
		s.raise(serial >> slotBits)
	}
}

func (s *Serials) raise(counter uint32) {
	if !s.known || counterAfter(counter, s.high) {
		s.high, s.known = counter, true
	}
}

// mark returns the counter that a reservation must lie beyond.
func (s *Serials) mark(serial uint32) uint32 {
	c := serial >> slotBits
	if s.known && counterAfter(s.high, c) {
		return s.high
	}
	return c
}

// existing returns the latest serial that already names this content, if this node may serve it: its own last one, or
// a peer's that is not behind its own. A node without a record may have served later ones that no peer has heard of and
// secondaries hold, so that it takes over only what is not behind the clock either.
func (s *Serials) existing(digest string, peers []Published) (serial uint32, found bool) {
	// A serial that a peer serves with another content has lost its meaning.
	disputed := func(serial uint32) bool {
		return slices.ContainsFunc(peers, func(p Published) bool { return p.Serial == serial && p.Digest != digest })
	}
	serial = s.last.Serial
	found = s.last.Digest == digest && serial != 0 && !disputed(serial)
	for _, p := range peers {
		if p.Digest != digest || p.Serial == 0 || disputed(p.Serial) || s.last.Serial == 0 && s.behindClock(p.Serial) {
			continue
		}
		if s.last.Serial == 0 && !found || Later(p.Serial, serial) {
			serial, found = p.Serial, true
		}
	}
	return serial, found
}

// behindClock reports whether a serial's counter lies behind a clock that is to be believed.
func (s *Serials) behindClock(serial uint32) bool {
	ahead := (s.clock() - serial>>slotBits) & counterMask
	return !s.now().Before(earliest) && ahead > 0 && ahead <= maxLead
}

// mint returns a serial that never was: beyond every counter known, and at the clock's if that is plausible, so that
// the zone goes forward even when every disk of the rack is lost.
func (s *Serials) mint() uint32 {
	var c uint32
	clock := s.clock()
	switch {
	case !s.known && s.now().Before(earliest):
		c = 1
	case !s.known:
		c = clock
	default:
		c = (s.high + 1) & counterMask
		if ahead := (clock - c) & counterMask; ahead <= maxLead {
			c = clock
		}
	}
	serial := c<<slotBits | s.slot
	if serial == 0 {
		// 0 says that there is no serial.
		serial = 1 << slotBits
	}
	return serial
}

// counterAfter reports whether counter a comes after b.
func counterAfter(a, b uint32) bool { return Later(a<<slotBits, b<<slotBits) }
