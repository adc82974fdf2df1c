package node

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/etcd-dns/etcd-dns/certs"
	"github.com/etcd-dns/etcd-dns/srvboot"
)

// takeBundle reads the bundle anew, as part of a reload. Of a later generation the gossip keys count at once, everything else
// from the node's next start on.
func (n *Node) takeBundle() {
	path, held := n.options().Bundle, n.latest.Load()
	b, err := certs.LoadBundle(path)
	if err == nil {
		err = succeeds(b, held, path)
	}
	if err != nil {
		text := err.Error()
		n.bundleFault.Store(&text)
		n.log.Error("the bundle is not taken; the one that was read before stays in use", errorFields(err)...)
		return
	}
	n.bundleFault.Store(nil)
	if b.Generation() == held.Generation() {
		return
	}
	n.latest.Store(b)
	if err := n.rumor.rekey(); err != nil {
		n.log.Error("the gossip keys are not taken", zap.Error(err))
	}
	n.log.Info("a later bundle is held: its gossip keys count now, everything else from the next start", zap.Uint64("generation", b.Generation()))
}

// succeeds says what keeps a bundle from taking the place of the one held.
func succeeds(b, held *certs.Bundle, path string) error {
	switch {
	case b.ID() != held.ID():
		return &usageError{what: fmt.Sprintf("the file %s is bundle %s now, and this node runs with bundle %s", path, b.ID(), held.ID()),
			hint: "put this rack's bundle back; another one is another rack"}
	case b.Generation() < held.Generation():
		return &usageError{what: fmt.Sprintf("the bundle %s is of generation %d, and this node holds %d", path, b.Generation(), held.Generation()),
			hint: "copy the latest bundle there from the machine where etcd-dns init ran"}
	}
	return nil
}

// generations warns while not all nodes hold one generation of the bundle: the next step of a rotation has to wait.
func generations(own string, held uint64, answers map[string]srvboot.Answer, now time.Time) (out []string) {
	by := map[string]uint64{own: held}
	for name, a := range answers {
		if g := a.State.BundleGeneration; g > 0 && a.Fresh(now, staleAnswer) {
			by[name] = g
		}
	}
	latest := slices.Max(slices.Collect(maps.Values(by)))
	for _, name := range slices.Sorted(maps.Keys(by)) {
		if by[name] < latest {
			out = append(out, fmt.Sprintf("%s holds generation %d of the bundle, others %d: copy cluster.bundle to %s, and there: systemctl reload etcd-dns",
				name, by[name], latest, name))
		}
	}
	return out
}
