package node

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/etcd-dns/etcd-dns/gossip"
	"github.com/etcd-dns/etcd-dns/zone"
)

// TestIsBehind: another serial of what this node serves anyhow is no reason to ask, unless it is later.
func TestIsBehind(t *testing.T) {
	store := zone.NewStore()
	r := newRumor(&Node{store: store})
	if !r.isBehind(gossip.Peer{}) {
		t.Error("a node without a zone is behind everybody")
	}
	publishTest(t, zone.NewPublisher(store, zone.Options{}, zone.NewSerials(filepath.Join(t.TempDir(), "serial"), 1, time.Now)), 3)
	own := store.Load().Serial()
	same := store.Load().Digest()[:digestOctets*2]
	for _, tt := range []struct {
		name, digest string
		serial       uint32
		behind       bool
	}{
		{"the same", same, own, false},
		{"the same content, an earlier serial", same, own - 1, false},
		{"the same content, a later serial", same, own + 1, true},
		{"other content, an earlier serial", "0123456789abcdef", own - 1, true},
		{"other content, a later serial", "0123456789abcdef", own + 1, true},
	} {
		var p gossip.Peer
		p.Digest, p.Serial = tt.digest, tt.serial
		if got := r.isBehind(p); got != tt.behind {
			t.Errorf("%s: %v", tt.name, got)
		}
	}
}
