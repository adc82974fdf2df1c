package certs

import (
	"context"
	"errors"
	"io/fs"
	"slices"
	"testing"
	"time"

	"github.com/caddyserver/certmagic"
	"github.com/google/go-cmp/cmp"
)

// TestMemoryLikeFileStorage puts the same steps to certmagic's own storage and to ours.
func TestMemoryLikeFileStorage(t *testing.T) {
	ctx := t.Context()
	outcome := func(s certmagic.Storage) []any {
		var out []any
		note := func(what string, value any, err error) {
			out = append(out, what, value, err == nil, errors.Is(err, fs.ErrNotExist))
		}
		look := func(stage string) {
			for _, key := range []string{"a", "a/b", "a/b/c.crt", "a/b/c.key", "a/d.json", "a/b/c", "x"} {
				note(stage+" exists "+key, s.Exists(ctx, key), nil)
			}
			for _, key := range []string{"a/b/c.crt", "a/b/c.key", "a/d.json", "a/b/c", "x"} {
				value, err := s.Load(ctx, key)
				note(stage+" load "+key, string(value), err)
			}
			for _, dir := range []string{"a", "a/b"} {
				for _, recursive := range []bool{false, true} {
					keys, err := s.List(ctx, dir, recursive)
					keys = slices.DeleteFunc(keys, func(k string) bool { return recursive && k == "a/b" }) // directories: either way is in order
					slices.Sort(keys)
					note(stage+" list "+dir, keys, err)
				}
			}
			info, err := s.Stat(ctx, "a/b/c.crt")
			note(stage+" stat", certmagic.KeyInfo{Key: info.Key, Size: info.Size, IsTerminal: info.IsTerminal}, err)
		}
		look("empty")
		for _, key := range []string{"a/b/c.crt", "a/b/c.key", "a/d.json"} {
			note("store", key, s.Store(ctx, key, []byte("value of "+key)))
		}
		note("replace", nil, s.Store(ctx, "a/b/c.crt", []byte("new")))
		look("stored")
		note("delete one", nil, s.Delete(ctx, "a/b/c.key"))
		note("delete none", nil, s.Delete(ctx, "a/x"))
		look("one deleted")
		note("delete below", nil, s.Delete(ctx, "a"))
		look("deleted")
		return out
	}
	if d := cmp.Diff(outcome(&certmagic.FileStorage{Path: t.TempDir()}), outcome(newMemory())); d != "" {
		t.Errorf("-FileStorage +memory\n%s", d)
	}
}

func TestMemoryLock(t *testing.T) {
	m := newMemory()
	if err := m.Lock(t.Context(), "x"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if err := m.Lock(ctx, "x"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a held lock: %v", err)
	}
	if err := errors.Join(m.Unlock(t.Context(), "x"), m.Lock(t.Context(), "x")); err != nil {
		t.Errorf("a released lock: %v", err)
	}
}
