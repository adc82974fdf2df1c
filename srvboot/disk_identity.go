package srvboot

import (
	"cmp"
	"errors"
	"fmt"
)

// keptBoots is how many nonces an identity keeps besides this run's and the one before: who was down for that many
// starts of a node still knows its disk by them.
const keptBoots = 30

// chain are the nonces of the lives before this one, the latest first.
func (i Identity) chain() []string {
	if i.Previous == "" {
		return nil
	}
	return append([]string{i.Previous}, i.Earlier...)
}

// BeginLife counts a start of this node: it makes {life+1, a new boot nonce, the nonces before it, machine} durable and
// returns them. nonce must return a different value each time. An identity that cannot be read is an error, because the
// chain of nonces would break.
func (d *Disk) BeginLife(nonce func() string, machine string) (Identity, error) {
	var id Identity
	if _, err := d.read(identityFile, &id); err != nil {
		_, hint := explained(err)
		return Identity{}, withHint(err, "%s", cmp.Or(hint, hintDamaged))
	}
	earlier := id.chain()
	id.Earlier = earlier[:min(len(earlier), keptBoots)]
	id.Previous, id.Boot = id.Boot, nonce()
	if id.Boot == "" || id.Boot == id.Previous {
		return Identity{}, errors.New("begin a life: the boot nonce is empty or repeats the previous one")
	}
	if id.MovedFrom == "" && id.Machine != "" && machine != "" && id.Machine != machine {
		id.MovedFrom = id.Machine
	}
	if id.MovedFrom == machine { // and back
		id.MovedFrom = ""
	}
	id.Format, id.Machine = Format, machine
	id.Life++
	if err := d.write(identityFile, &id); err != nil {
		return Identity{}, err
	}
	return id, nil
}

// SaveIndex remembers the highest raft index and term that this node has seen itself reach: applied, or acknowledged as its
// leader knows. Lower ones change nothing: a log that ends before them has been rolled back. Stamp forgets both, since it
// begins a new log.
func (d *Disk) SaveIndex(index, term uint64) error {
	return d.updateIdentity(func(id *Identity) bool {
		if index <= id.Index && term <= id.Term {
			return false
		}
		id.Index, id.Term = max(id.Index, index), max(id.Term, term)
		return true
	})
}

// Settle forgets the machine that the data came from.
func (d *Disk) Settle() error {
	return d.updateIdentity(func(id *Identity) bool {
		changed := id.MovedFrom != ""
		id.MovedFrom = ""
		return changed
	})
}

func (d *Disk) forgetIndex() error {
	return d.updateIdentity(func(id *Identity) bool {
		changed := id.Index != 0 || id.Term != 0
		id.Index, id.Term = 0, 0
		return changed
	})
}

// updateIdentity writes identity.json only if change reports a change.
func (d *Disk) updateIdentity(change func(*Identity) bool) error {
	var id Identity
	if _, err := d.read(identityFile, &id); err != nil {
		return fmt.Errorf("update the identity: %w", err)
	}
	if !change(&id) {
		return nil
	}
	id.Format = Format
	return d.write(identityFile, &id)
}
