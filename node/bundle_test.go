package node

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/etcd-dns/etcd-dns/certs"
	"github.com/etcd-dns/etcd-dns/srvboot"
)

func TestBundleSucceeds(t *testing.T) {
	first, key, err := certs.NewBundle(certs.InitOptions{Domain: "rack1.example.com", Names: map[string][]string{"": {"infra0"}}})
	if err != nil {
		t.Fatal(err)
	}
	second, _, err := first.RotateGossip(key)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name    string
		b, held *certs.Bundle
		want    string
	}{
		{"the same", first, first, ""},
		{"later", second, first, ""},
		{"older", first, second, "is of generation 1, and this node holds 2"},
		{"of another rack", newTestBundle(t), first, "runs with bundle " + first.ID()},
	} {
		err := succeeds(c.b, c.held, "cluster.bundle")
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", c.name, err, c.want)
		}
	}
}

func TestGenerations(t *testing.T) {
	now := time.Now()
	answer := func(at time.Time, g uint64) srvboot.Answer {
		return srvboot.Answer{At: at, State: srvboot.State{BundleGeneration: g}}
	}
	for _, c := range []struct {
		name    string
		held    uint64
		answers map[string]srvboot.Answer
		behind  []string
	}{
		{"all the same", 2, map[string]srvboot.Answer{"b": answer(now, 2)}, nil},
		{"others are behind", 2, map[string]srvboot.Answer{"c": answer(now, 1), "b": answer(now, 1), "d": answer(now, 2)}, []string{"b", "c"}},
		{"this one is behind", 2, map[string]srvboot.Answer{"b": answer(now, 3)}, []string{"a"}},
		{"one that does not answer, and one that does not say", 2, map[string]srvboot.Answer{"b": answer(now.Add(-time.Minute), 1), "c": answer(now, 0)}, nil},
	} {
		var behind []string
		for _, text := range generations("a", c.held, c.answers, now) {
			behind = append(behind, text[:1])
		}
		if !slices.Equal(behind, c.behind) {
			t.Errorf("%s: warns of %v, want %v", c.name, behind, c.behind)
		}
	}
}
