package certs

import (
	"crypto/ecdsa"
	"encoding/json"
	"fmt"
	"slices"
)

// RotationStep is one of the three steps of a key's replacement. Each is a generation of the bundle of its own, and all nodes
// must hold it before the next: then whatever two nodes hold, each can read what the other says.
type RotationStep int

// The steps, in their order.
const (
	// KeyAdded means: there is a new key, which all can read and nobody uses.
	KeyAdded RotationStep = iota + 1
	// KeyUsed means: the new key is used, and the old one is still read.
	KeyUsed
	// KeyDropped means: the old key is gone.
	KeyDropped
)

// RotateGossip takes the next step of replacing the gossip key, and returns the next generation of the bundle, signed by the
// root. Fields that this version does not know are kept. An error about the root key has a hint.
func (b *Bundle) RotateGossip(key RootKey) (*Bundle, RotationStep, error) {
	root, err := b.rootOf(key)
	if err != nil {
		return nil, 0, err
	}
	var env, signed map[string]json.RawMessage
	var keys []map[string]json.RawMessage
	if err := json.Unmarshal(b.raw, &env); err != nil {
		return nil, 0, fmt.Errorf("decode the bundle: %w", err)
	}
	if err := json.Unmarshal(env["signed"], &signed); err != nil {
		return nil, 0, fmt.Errorf("decode the bundle's signed part: %w", err)
	}
	if err := json.Unmarshal(signed["gossip_keys"], &keys); err != nil {
		return nil, 0, fmt.Errorf("decode the bundle's gossip keys: %w", err)
	}
	generation := b.body.Generation + 1
	keys, step, err := rotate(keys, fmt.Sprintf("g%d", generation))
	if err == nil {
		signed["gossip_keys"], err = json.Marshal(keys)
	}
	if err == nil {
		signed["generation"], err = json.Marshal(generation)
	}
	if err != nil {
		return nil, 0, fmt.Errorf("encode the gossip keys: %w", err)
	}
	raw, err := b.resign(env, signed, root)
	if err != nil {
		return nil, 0, err
	}
	out, err := openBundle(raw) // what is written must be readable
	return out, step, err
}

// rotate moves the keys of a set one step on; id names a new one.
func rotate(keys []map[string]json.RawMessage, id string) ([]map[string]json.RawMessage, RotationStep, error) {
	has := func(s state) bool {
		return slices.ContainsFunc(keys, func(k map[string]json.RawMessage) bool { return stateIn(k) == s })
	}
	switch {
	case has(next):
		for _, k := range keys {
			switch stateIn(k) {
			case next:
				k["state"] = quoted(inUse)
			case inUse:
				k["state"] = quoted(trusted)
			}
		}
		return keys, KeyUsed, nil
	case has(trusted):
		return slices.DeleteFunc(keys, func(k map[string]json.RawMessage) bool { return stateIn(k) == trusted }), KeyDropped, nil
	}
	fresh := map[string]json.RawMessage{}
	text, err := json.Marshal(secretEntry{ID: id, State: next, Secret: secret(32)})
	if err == nil {
		err = json.Unmarshal(text, &fresh)
	}
	return append(keys, fresh), KeyAdded, err
}

func stateIn(k map[string]json.RawMessage) (s state) {
	_ = json.Unmarshal(k["state"], &s) // the bundle was checked: it is a text
	return s
}

func quoted(s state) json.RawMessage { return json.RawMessage(`"` + string(s) + `"`) }

// resign makes a bundle file of an envelope with another signed part.
func (b *Bundle) resign(env, signed map[string]json.RawMessage, root issuingCA) ([]byte, error) {
	content, err := json.Marshal(signed)
	if err != nil {
		return nil, fmt.Errorf("encode the bundle: %w", err)
	}
	sealed, err := sealSigned(content, root)
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(sealed, &env); err != nil { // over the fields of before, of which there may be more
		return nil, fmt.Errorf("encode the bundle: %w", err)
	}
	out, err := json.MarshalIndent(env, "", "  ")
	return append(out, '\n'), err
}

// rootOf returns the authority that the operator's key is of: the root in use.
func (b *Bundle) rootOf(key RootKey) (issuingCA, error) {
	const hint = "give the root.key that etcd-dns init wrote into offline/ beside this bundle: --root-key FILE"
	signer, err := parseKey(key)
	if err != nil {
		return issuingCA{}, withHint(hint, "the root key: %w", err)
	}
	if _, ok := signer.Public().(*ecdsa.PublicKey); !ok || !samePublicKey(b.roots[0], signer) {
		return issuingCA{}, withHint(hint, "the root key is not that of this bundle's root %s", b.roots[0].Subject)
	}
	return issuingCA{cert: b.roots[0], key: signer}, nil
}

// GossipKeys returns the keys of gossip that are not distrusted: the one in use first.
func (b *Bundle) GossipKeys() (out [][]byte) {
	for _, e := range b.body.GossipKeys {
		switch e.State {
		case inUse:
			out = slices.Insert(out, 0, slices.Clone(e.Secret))
		case next, trusted:
			out = append(out, slices.Clone(e.Secret))
		}
	}
	return out
}
