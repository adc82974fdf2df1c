package gossip

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"github.com/hashicorp/memberlist"
)

func checkKeys(keys [][]byte) error {
	if len(keys) == 0 {
		return errors.New("no key: gossip is always encrypted")
	}
	for i, k := range keys {
		if err := memberlist.ValidateKey(k); err != nil {
			return fmt.Errorf("key %d has %d octets: %w", i+1, len(k), err)
		}
	}
	return nil
}

// SetKeys makes keys the ones in use, at once and without a restart: the first encrypts, all decrypt. A rotation takes
// three rounds over all nodes, each finished before the next begins: {old, new}, {new, old}, {new}. On an error nothing
// changed.
func (g *Gossip) SetKeys(keys [][]byte) error {
	if err := checkKeys(keys); err != nil {
		return fmt.Errorf("set the gossip keys: %w", err)
	}
	g.keysMu.Lock()
	defer g.keysMu.Unlock()
	if err := trimKeys(g.keyring, keys); err != nil {
		return err
	}
	for _, k := range keys {
		if err := g.keyring.AddKey(bytes.Clone(k)); err != nil {
			return fmt.Errorf("install a gossip key: %w", err)
		}
	}
	// A key in use moves to the front. When the order is right already, no other key may encrypt, not for a moment: the
	// other nodes may lack it.
	if ring := g.keyring.GetKeys(); !slices.EqualFunc(ring[:min(len(ring), len(keys))], keys, bytes.Equal) {
		for _, k := range slices.Backward(keys) {
			if err := g.keyring.UseKey(k); err != nil {
				return fmt.Errorf("use a gossip key: %w", err)
			}
		}
	}
	return trimKeys(g.keyring, keys)
}

// trimKeys removes unwanted keys from the end of the ring, and only there: for any other key memberlist would shift the
// ones behind it, within an array that decrypting goroutines read. The first key stays.
func trimKeys(ring *memberlist.Keyring, wanted [][]byte) error {
	for {
		keys := ring.GetKeys()
		last := keys[len(keys)-1]
		if len(keys) == 1 || slices.ContainsFunc(wanted, func(k []byte) bool { return bytes.Equal(k, last) }) {
			return nil
		}
		if err := ring.RemoveKey(last); err != nil {
			return fmt.Errorf("remove a gossip key: %w", err)
		}
	}
}
