package certs

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"
)

// A gossip key is replaced in three generations, and whatever two neighbouring ones two nodes hold, each can read the other's key
// in use.
func TestRotateGossip(t *testing.T) {
	b, key := newTestBundle(t)
	first := b.GossipKeys()[0]
	for round := range 2 {
		old := b.GossipKeys()[0]
		for i, want := range []struct {
			step RotationStep
			keys int
			used bool // the new key is in use
		}{{KeyAdded, 2, false}, {KeyUsed, 2, true}, {KeyDropped, 1, true}} {
			after, step, err := b.RotateGossip(key)
			if err != nil {
				t.Fatal(err)
			}
			keys, before := after.GossipKeys(), b.GossipKeys()
			if step != want.step || after.Generation() != b.Generation()+1 || len(keys) != want.keys || bytes.Equal(keys[0], old) == want.used {
				t.Errorf("round %d, step %d: got step %d, generation %d, %d keys", round, i, step, after.Generation(), len(keys))
			}
			if !holds(before, keys[0]) || !holds(keys, before[0]) {
				t.Errorf("round %d, step %d: who holds the one generation does not hear who holds the other", round, i)
			}
			if after.ID() != b.ID() || !bytes.Equal(after.RootPEM(), b.RootPEM()) || after.Secrets().TSIGName != b.Secrets().TSIGName {
				t.Error("something else changed")
			}
			b = after
		}
		if holds(b.GossipKeys(), old) {
			t.Errorf("round %d: the old key is still there", round)
		}
	}
	if holds(b.GossipKeys(), first) || b.Generation() != 7 {
		t.Errorf("generation %d", b.Generation())
	}
}

func holds(keys [][]byte, key []byte) bool {
	for _, k := range keys {
		if bytes.Equal(k, key) {
			return true
		}
	}
	return false
}

func TestRotateKeepsWhatItDoesNotKnow(t *testing.T) {
	b, key := newTestBundle(t)
	raw := reseal(t, b, key, func(s map[string]any) {
		s["field_of_2031"] = map[string]any{"x": "<&>"}
		s["gossip_keys"].([]any)[0].(map[string]any)["key_field_of_2031"] = 1
	})
	raw = bytes.Replace(raw, []byte(`"format": 1,`), []byte("\"format\": 1,\n  \"envelope_field_of_2031\": true,"), 1)
	b, err := openBundle(raw)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if b, _, err = b.RotateGossip(key); err != nil {
			t.Fatal(err)
		}
	}
	text, err := b.Marshal()
	if err != nil || !json.Valid(text) {
		t.Fatal(err)
	}
	for _, field := range []string{"envelope_field_of_2031", "\"field_of_2031\"", "key_field_of_2031"} {
		if !bytes.Contains(text, []byte(field)) {
			t.Errorf("%s is lost", field)
		}
	}
}

func TestRotateNeedsTheRootKey(t *testing.T) {
	b, _ := newTestBundle(t)
	_, other := newTestBundle(t)
	for _, c := range []struct {
		key  RootKey
		want string
	}{{other, "not that of this bundle's root"}, {RootKey("nonsense"), "one PEM block"}, {nil, "one PEM block"}} {
		_, _, err := b.RotateGossip(c.key)
		var h interface{ Hint() string }
		if err == nil || !strings.Contains(err.Error(), c.want) || !errors.As(err, &h) || !strings.Contains(h.Hint(), "--root-key") {
			t.Errorf("got %v, want %q with a hint", err, c.want)
		}
	}
}

// Keys that gossip cannot use make the bundle a damaged one, before a node starts with it.
func TestGossipKeySizes(t *testing.T) {
	b, key := newTestBundle(t)
	raw := reseal(t, b, key, func(s map[string]any) {
		s["gossip_keys"] = append(s["gossip_keys"].([]any), secretEntry{ID: "short", State: next, Secret: secret(20)})
	})
	if _, err := openBundle(raw); err == nil || !strings.Contains(err.Error(), "32 octets") {
		t.Errorf("got %v", err)
	}
}
