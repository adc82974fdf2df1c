package sign

import (
	"maps"
	"slices"
	"time"
)

// View is one look at all name servers of the zone and at the parent.
type View struct {
	Servers []Server
	Parent  Parent
	// ZoneTTL is the longest TTL in the zone, the negative one included.
	ZoneTTL   time.Duration
	Plausible bool // the node's clock
	// Commands is State.Commands of the state that the next step is to be taken from.
	Commands uint64
}

// Server is what one address of a name server serves.
type Server struct {
	// Name is the server's for people, as name and address.
	Name string
	// Err says why it is not known what the server serves; then the rest is empty.
	Err string
	// Serial is that of its SOA.
	Serial uint32
	// Published are the tags of the keys that are in its DNSKEY set and sign that set; Signing those that sign its SOA.
	Published, Signing []uint16
	// Deletes says that it serves the CDS record that asks for the removal of the DS set.
	Deletes bool
}

// Parent is what the parent's servers say.
type Parent struct {
	// Err says why the view is not whole; then the rest is empty.
	Err string
	// Sets holds, for each server of the parent, the tags of our keys that its DS set names, 0 for a DS of no key of
	// ours; an empty set says for certain that there is no DS.
	Sets [][]uint16
	// TTL is the DS set's in seconds; 0 without one.
	TTL uint32
}

// Facts are what a roll-over hangs on: since when, without a break, each condition holds. The zero time says that it
// does not hold. The times are of this process and its monotonic clock: a step of the wall clock moves nothing.
type Facts struct {
	// Published: every name server serves a DNSKEY set that holds the key and is signed by it.
	Published map[uint16]time.Time
	// Signing: every name server serves the zone signed by the key.
	Signing map[uint16]time.Time
	// Deleting: every name server serves the CDS that asks for the removal.
	Deleting time.Time
	// DS: every server of the parent has a DS of the key. NoDS: none of them has any.
	DS   map[uint16]time.Time
	NoDS time.Time
	// ParentHasDS says that some server of the parent has a DS now; ParentErr why it is not known.
	ParentHasDS bool
	ParentErr   string
	// Foreign says that a DS at the parent names no key of ours.
	Foreign bool
	DSTTL   uint32
	// Silent are the name servers that could not be asked, each with the reason.
	Silent    []string
	ZoneTTL   time.Duration
	Plausible bool
}

// MaxGap is the longest time between two views that count as one stretch: after a machine slept, nobody knows what was
// served meanwhile.
const MaxGap = 15 * time.Minute

// Watch turns views into facts. One goroutine owns it. What is not known counts as not so: a wait then begins anew. So it
// does after a command: a zone that was off and on between two views looks as if nothing had been.
type Watch struct {
	facts    Facts
	last     time.Time
	commands uint64
}

// Observe takes in a view of the moment now, which carries a monotonic reading.
func (w *Watch) Observe(now time.Time, v View) Facts {
	old := w.facts
	if now.Sub(w.last) > MaxGap || v.Commands != w.commands {
		old = Facts{}
	}
	w.last, w.commands = now, v.Commands
	f := Facts{ZoneTTL: v.ZoneTTL, Plausible: v.Plausible, ParentErr: v.Parent.Err, DSTTL: min(v.Parent.TTL, maxDSTTL)}
	for _, s := range v.Servers {
		if s.Err != "" {
			f.Silent = append(f.Silent, s.Name+": "+s.Err)
		}
	}
	if len(f.Silent) == 0 && len(v.Servers) > 0 {
		f.Published = keep(old.Published, common(v.Servers, func(s Server) []uint16 { return s.Published }), now)
		f.Signing = keep(old.Signing, common(v.Servers, func(s Server) []uint16 { return s.Signing }), now)
		if !slices.ContainsFunc(v.Servers, func(s Server) bool { return !s.Deletes }) {
			f.Deleting = first(old.Deleting, now)
		}
	}
	if v.Parent.Err == "" && len(v.Parent.Sets) > 0 {
		f.DS = keep(old.DS, common(v.Parent.Sets, func(s []uint16) []uint16 { return s }), now)
		delete(f.DS, 0)
		f.ParentHasDS = slices.ContainsFunc(v.Parent.Sets, func(s []uint16) bool { return len(s) > 0 })
		f.Foreign = slices.ContainsFunc(v.Parent.Sets, func(s []uint16) bool { return slices.Contains(s, 0) })
		if !f.ParentHasDS {
			f.NoDS = first(old.NoDS, now)
		}
	} else if f.ParentErr == "" {
		f.ParentErr = "none of its servers is known"
	}
	w.facts = f
	f.Published, f.Signing, f.DS = maps.Clone(f.Published), maps.Clone(f.Signing), maps.Clone(f.DS)
	return f
}

// common returns the tags that all have.
func common[T any](all []T, tags func(T) []uint16) (out []uint16) {
	for _, t := range tags(all[0]) {
		if !slices.ContainsFunc(all, func(x T) bool { return !slices.Contains(tags(x), t) }) {
			out = append(out, t)
		}
	}
	return out
}

// keep carries over the beginnings of what still holds.
func keep(old map[uint16]time.Time, holds []uint16, now time.Time) map[uint16]time.Time {
	out := map[uint16]time.Time{}
	for _, t := range holds {
		out[t] = first(old[t], now)
	}
	return out
}

func first(old, now time.Time) time.Time {
	if old.IsZero() {
		return now
	}
	return old
}

// elapsed reports whether a condition has held for d.
func (f Facts) elapsed(since time.Time, d time.Duration, now time.Time) bool {
	return !since.IsZero() && now.Sub(since) >= d
}
