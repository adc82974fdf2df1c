package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"maps"
	"os"
	"slices"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/etcd-dns/etcd-dns/certs"
	"github.com/etcd-dns/etcd-dns/internal/durable"
	"github.com/etcd-dns/etcd-dns/roster"
	"github.com/etcd-dns/etcd-dns/srvboot"
)

// slotFormat is the version of slot.json.
const slotFormat = 1

// savedSlot is slot.json.
type savedSlot struct {
	Format int `json:"format"`
	Slot   int `json:"slot"`
}

// numbering owns this node's slot, the number that stands in the serials it makes: two nodes with one number would give one serial
// two contents. Those of the nodes that init knew are in the bundle. A later one takes a number that no other has, once, and
// keeps it on disk; until then it makes no serials and serves those of the others.
type numbering struct {
	name   string
	bundle *certs.Bundle
	file   string
	slot   atomic.Int32
}

// newNumbering reads the number. One that cannot be read is taken anew.
func newNumbering(name string, bundle *certs.Bundle, file string, log *zap.Logger) *numbering {
	u := &numbering{name: name, bundle: bundle, file: file}
	u.slot.Store(roster.NoSlot)
	if s, ok := bundle.Slot(name); ok {
		u.slot.Store(int32(s))
		return u
	}
	text, err := os.ReadFile(file)
	var saved savedSlot
	if err == nil {
		err = json.Unmarshal(text, &saved)
	}
	switch {
	case errors.Is(err, os.ErrNotExist):
	case err != nil || saved.Format != slotFormat || saved.Slot < 0 || saved.Slot > roster.MaxSlot:
		log.Warn("this node's number cannot be read, and it takes another one", zap.String("file", file), zap.ByteString("text", text), zap.Error(err))
	default:
		u.slot.Store(int32(saved.Slot))
	}
	return u
}

// own is the number, roster.NoSlot while there is none.
func (u *numbering) own() int { return int(u.slot.Load()) }

// said is the number as other nodes are told.
func (u *numbering) said() *int {
	if s := u.own(); s != roster.NoSlot {
		return &s
	}
	return nil
}

// of is the number of a node as far as the bundle says.
func (u *numbering) of(name string) int {
	if s, ok := u.bundle.Slot(name); ok {
		return s
	}
	return roster.NoSlot
}

// settle takes a number if this node has none, or one that another node has, too. members are the nodes of the members that the
// zone names: those that init did not know have to be heard first. A nil error says that there is a number.
func (u *numbering) settle(members []string, answers map[string]srvboot.Answer, now time.Time) error {
	if u.of(u.name) != roster.NoSlot {
		return nil
	}
	taken, waits := u.taken(members, answers, now)
	if s := u.own(); s != roster.NoSlot && (taken[s] == "" || u.of(taken[s]) == roster.NoSlot && taken[s] > u.name) {
		return nil // of two with one number the second by name takes another; a number of the bundle is never a later node's
	}
	u.slot.Store(roster.NoSlot)
	if len(waits) > 0 {
		return fmt.Errorf("this node makes no serials before it has a number that no other node has, and waits to hear that of %v", waits)
	}
	s, err := pickSlot(u.name, taken)
	if err != nil {
		return err
	}
	text, err := json.Marshal(savedSlot{Format: slotFormat, Slot: s})
	if err == nil {
		err = durable.WriteFile(u.file, text, 0o600)
	}
	if err != nil {
		return fmt.Errorf("save this node's number: %w", err)
	}
	u.slot.Store(int32(s))
	return nil
}

// taken are the numbers of the others with their names, and the nodes whose number has to be known first: members, and of
// several new nodes those before this one.
func (u *numbering) taken(members []string, answers map[string]srvboot.Answer, now time.Time) (taken [roster.MaxSlot + 1]string, waits []string) {
	for _, cluster := range u.bundle.SrvNames() {
		for _, name := range u.bundle.Names(cluster) {
			taken[u.of(name)] = name
		}
	}
	for _, name := range slices.Sorted(maps.Keys(answers)) {
		a := answers[name]
		s := a.State.Slot
		if name == u.name || u.of(name) != roster.NoSlot || a.At.IsZero() {
			continue
		}
		switch {
		case s != nil && *s >= 0 && *s <= roster.MaxSlot:
			if taken[*s] == "" {
				taken[*s] = name
			}
		case name < u.name && a.Fresh(now, srvboot.FreshFor):
			waits = append(waits, name)
		}
	}
	for _, name := range members {
		if a := answers[name]; name != u.name && u.of(name) == roster.NoSlot && a.At.IsZero() {
			waits = append(waits, name)
		}
	}
	return taken, waits
}

// pickSlot returns a free number. Names lead to different ones, so that nodes that have never met will hardly have the same.
func pickSlot(name string, taken [roster.MaxSlot + 1]string) (int, error) {
	h := fnv.New32a()
	_, _ = h.Write([]byte(name)) // it never fails
	first := int(h.Sum32() % (roster.MaxSlot + 1))
	for i := range taken {
		if s := (first + i) % len(taken); taken[s] == "" {
			return s, nil
		}
	}
	return 0, fmt.Errorf("all %d numbers of nodes are taken, so this one makes no serials", len(taken))
}
