package node

import (
	"fmt"

	"go.uber.org/zap"

	"github.com/etcd-dns/etcd-dns/zone/sign"
)

// command runs one of the operator's commands.
func (d *dnssec) command(name string) error {
	d.mu.Lock()
	if !d.known {
		d.mu.Unlock()
		return &usageError{what: "it is not known yet whether the other nodes sign the zone: this node has no memory of it, and not all of them answered",
			hint: "start the other nodes, or give the command on one of them"}
	}
	c := d.clockLocked()
	var next sign.State
	var err error
	switch name {
	case "on":
		next, err = sign.SwitchOn(d.state, d.ring, c)
	case "rollover":
		next, err = sign.RollOver(d.state, d.ring, c)
	case "rollover-finish":
		next, err = sign.FinishNow(d.state, d.facts, c)
	case "off":
		next, err = sign.SwitchOff(d.state)
	case "off-now":
		next, err = sign.StopNow(d.state, d.facts)
	default:
		err = fmt.Errorf("the command %q is not known", name)
	}
	if err == nil {
		err = d.adoptLocked(next, onlySaved)
	}
	d.mu.Unlock()
	if err == nil {
		d.log.Info("dnssec "+name, zap.String("mode", string(next.Mode)))
	}
	return err
}

// Whether a state that the disk does not take is used: what all others have must be, or this node's zone would be
// bogus; a step of one's own can wait.
type saving bool

const (
	onlySaved       saving = false
	keepEvenUnsaved saving = true
)

// adoptLocked makes next the state, if it is one that this node can sign by.
func (d *dnssec) adoptLocked(next sign.State, how saving) error {
	if next.Equal(d.state) && (d.saved || !d.known) {
		return nil
	}
	s, err := d.makeSigner(next)
	if err != nil {
		return err
	}
	unsaved := d.save(next)
	if unsaved != nil && how == onlySaved {
		return unsaved
	}
	if next.Commands != d.state.Commands || next.Steps != d.state.Steps {
		d.lookSoonLocked()
	}
	d.state, d.saved = next.Clone(), unsaved == nil
	d.swap(s)
	return unsaved
}

// lookSoonLocked asks for a look at once; it never blocks.
func (d *dnssec) lookSoonLocked() {
	d.prompted, d.why = true, "the next look at the name servers"
	d.prompts.send()
}

func (d *dnssec) makeSigner(s sign.State) (sign.Signer, error) {
	if err := s.Check(); err != nil || !s.Signs() {
		return nil, err
	}
	return sign.New(d.domain, s, d.ring)
}

// swap gives the publisher another signer.
func (d *dnssec) swap(s sign.Signer) {
	old := d.signer()
	switch {
	case s == nil && old == nil, s != nil && old != nil && s.ID() == old.ID():
		return
	case s == nil:
		d.current.Store(nil)
	default:
		d.current.Store(&s)
	}
	d.changed()
}
