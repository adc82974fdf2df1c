package sign

import (
	"bytes"
	"encoding/json"
	"slices"
	"time"
)

// Format is the version of State.
const Format = 1

// Mode says whether the zone is signed.
type Mode string

// The modes. A zone that is going off is still signed.
const (
	Off      Mode = "off"
	On       Mode = "on"
	GoingOff Mode = "going-off"
)

// Phase is the part that a key plays (RFC 7583 §3.2). Every key of the state is in the DNSKEY set and signs it.
type Phase string

// The phases. Exactly one key of a signed zone is active.
const (
	// PrePublished: waits until every cache has the DNSKEY set with it.
	PrePublished Phase = "pre-published"
	// Active: signs the zone, and is the one that the parent's DS should name.
	Active Phase = "active"
	// Retiring: stays until no cache needs it.
	Retiring Phase = "retiring"
)

// KeyState is one published key.
type KeyState struct {
	Number uint32 `json:"number"`
	Tag    uint16 `json:"tag"`
	Phase  Phase  `json:"phase"`
	// Since is when the phase began, by the clock of the node that began it; it is for people, nothing is decided by it.
	Since time.Time `json:"since"`
}

// State is what the nodes of a rack share about signing. The zero State is a zone that never was signed.
type State struct {
	Format int `json:"format"`
	// Commands counts what people asked for, Steps what the nodes did since. Of two states the one with more commands
	// wins, then the one with more steps: a command is not undone by a step that another node takes at the same time.
	Commands uint64 `json:"commands"`
	Steps    uint64 `json:"steps"`
	Mode     Mode   `json:"mode"`
	// Announced says that CDS and CDNSKEY are published: every cache has had the time to forget the zone without
	// signatures.
	Announced bool `json:"announced"`
	// Epoch of the signatures; it is merged apart from the rest.
	Epoch uint32 `json:"epoch"`
	// DSTTL is the longest TTL in seconds that the parent's DS set was seen with; 0 if none was seen.
	DSTTL uint32 `json:"ds_ttl"`
	// Keys are sorted by number. They stay when signing ends, so that the next `on` uses the same key.
	Keys []KeyState `json:"keys"`
}

// maxDSTTL bounds what is believed of a DS TTL: RFC 8767 §4 advises resolvers to keep nothing longer than a week.
const maxDSTTL = 7 * 24 * 3600

// Check refuses a state that contradicts itself, as one from a damaged disk or another version may.
func (s State) Check() error {
	const hint = "run the same version of etcd-dns on all nodes, and see docs/dnssec.md"
	if s.Format > Format {
		return refuse("upgrade this node", "the signing state has format %d, this etcd-dns knows up to %d", s.Format, Format)
	}
	active := 0
	for i, k := range s.Keys {
		if k.Phase == Active {
			active++
		}
		switch {
		case k.Phase != Active && k.Phase != PrePublished && k.Phase != Retiring:
			return refuse(hint, "key %d of the signing state is %q, expected active, pre-published or retiring", k.Number, k.Phase)
		case k.Number > MaxKeyNumber || k.Tag == 0:
			return refuse(hint, "key %d with tag %d is not one of ours", k.Number, k.Tag)
		case i > 0 && (k.Number <= s.Keys[i-1].Number || k.Tag == s.Keys[i-1].Tag):
			return refuse(hint, "the keys of the signing state are not in order or share a tag")
		}
	}
	switch {
	case s.Mode != On && s.Mode != GoingOff && s.Mode != Off && (s.Mode != "" || !s.blank()):
		return refuse(hint, "the signing mode is %q, expected on, going-off or off", s.Mode)
	case len(s.Keys) > 2 || active > 1 || len(s.Keys) > 0 && active == 0, s.Signs() && active == 0:
		return refuse(hint, "the signing state has %d keys, %d of them active; expected one active and at most one other", len(s.Keys), active)
	case s.DSTTL > maxDSTTL:
		return refuse(hint, "the DS TTL of the signing state is %d s, expected at most %d", s.DSTTL, maxDSTTL)
	}
	return nil
}

// blank reports whether nobody ever asked for anything.
func (s State) blank() bool { return s.Commands == 0 && s.Steps == 0 && len(s.Keys) == 0 }

// Signs reports whether the zone is signed in this state.
func (s State) Signs() bool { return s.Mode == On || s.Mode == GoingOff }

// ActiveKey returns the key that signs the zone; ok is false if there never was one.
func (s State) ActiveKey() (k KeyState, ok bool) { return s.key(Active) }

func (s State) key(p Phase) (KeyState, bool) {
	if i := s.index(p); i >= 0 {
		return s.Keys[i], true
	}
	return KeyState{}, false
}

func (s State) index(p Phase) int {
	return slices.IndexFunc(s.Keys, func(k KeyState) bool { return k.Phase == p })
}

// Clone returns a copy that shares nothing.
func (s State) Clone() State {
	s.Keys = slices.Clone(s.Keys)
	return s
}

// Clock is a moment by a node's clock, and whether that clock is to be believed.
type Clock struct {
	Now       time.Time
	Plausible bool
}

// Merge joins a node's own state with another node's. The result does not depend on the order in which states arrive,
// and is one of the two but for the epoch: that is the later one, unless a clock that is right says that its
// signatures are not valid yet, and at least the present one by such a clock.
func Merge(own, other State, c Clock) State {
	out := own
	if compare(other, own) > 0 {
		out = other
	}
	out = out.Clone()
	out.Epoch = own.Epoch
	if other.Epoch > own.Epoch && (!c.Plausible || begun(other.Epoch, c.Now)) {
		out.Epoch = other.Epoch
	}
	if out.Signs() {
		out.Epoch = advanceEpoch(out.Epoch, c.Plausible, c.Now)
	}
	return out
}

// compare orders states; states that differ in the epoch alone are equal.
func compare(a, b State) int {
	switch {
	case a.Commands != b.Commands:
		return order(a.Commands, b.Commands)
	case a.Steps != b.Steps:
		return order(a.Steps, b.Steps)
	}
	return bytes.Compare(a.canonical(), b.canonical())
}

func order(a, b uint64) int {
	if a < b {
		return -1
	}
	return 1
}

// Equal reports whether nothing differs, the epoch included.
func (s State) Equal(o State) bool {
	return s.Epoch == o.Epoch && bytes.Equal(s.canonical(), o.canonical())
}

// canonical is the state without its epoch. Marshalling these fields cannot fail.
func (s State) canonical() []byte {
	s.Epoch = 0
	text, _ := json.Marshal(s)
	return text
}
