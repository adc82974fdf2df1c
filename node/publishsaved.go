package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"

	"go.uber.org/zap"

	"github.com/etcd-dns/etcd-dns/internal/durable"
	"github.com/etcd-dns/etcd-dns/roster"
)

// rosterFile is the name of the last good roster, and rosterFormat its version.
const (
	rosterFile   = "roster.json"
	rosterFormat = 1
)

// savedRoster is roster.json: the newest view of each cluster that this node published, so that a restarted node
// serves a complete set before anyone else answers.
type savedRoster struct {
	Format int           `json:"format"`
	Views  []roster.View `json:"views"`
	// Nodes are those of the members, so that a name stays an address when its node line goes.
	Nodes []roster.Node `json:"nodes"`
	// Places are where nodes were seen that have their addresses from the network.
	Places roster.Places `json:"places,omitempty"`
}

// readSavedRoster reads a roster.json; one that is not there is empty.
func readSavedRoster(file string) (s savedRoster, err error) {
	text, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return s, nil
	}
	if err == nil {
		err = json.Unmarshal(text, &s)
	}
	if err == nil && s.Format > rosterFormat {
		err = fmt.Errorf("format %d is newer than %d", s.Format, rosterFormat)
	}
	return s, err
}

// load reads the last good roster. A damaged file is logged and left out: the other nodes and the marker know too.
func (p *publisher) load() {
	s, err := readSavedRoster(p.file)
	if err != nil {
		p.log.Error("the last good roster cannot be used", zap.String("file", p.file), zap.Error(err))
		return
	}
	p.views, p.nodes, p.places = s.Views, s.Nodes, s.Places
	p.node.places.recall(s.Places)
}

// save keeps the newest born view of each cluster.
func (p *publisher) save(r roster.Roster) error {
	var views []roster.View
	for _, c := range r.Clusters {
		if c.Knowledge == roster.Born && !c.Outside { // lists that are followed have files of their own
			views = append(views, roster.View{Cluster: c.Name, Knowledge: c.Knowledge, Generation: c.Generation, Index: c.Index, Members: members(c)})
		}
	}
	nodes, places := memberNodes(r), p.node.places.snapshot()
	samePlaces := maps.EqualFunc(places, p.places, roster.Place.Equal)
	if len(views) == 0 || sameLists(views, p.views) && samePlaces && slices.EqualFunc(nodes, p.nodes, sameNode) {
		return nil
	}
	text, err := json.MarshalIndent(savedRoster{Format: rosterFormat, Views: views, Nodes: nodes, Places: places}, "", "  ")
	if err != nil {
		return fmt.Errorf("encode the roster: %w", err)
	}
	if err := durable.WriteFile(p.file, text, 0o600); err != nil {
		return fmt.Errorf("save the last good roster: %w", err)
	}
	p.views, p.nodes, p.places = views, nodes, places
	p.node.retakes.send()
	return nil
}

func sameNode(a, b roster.Node) bool {
	return a.Name == b.Name && a.Slot == b.Slot && slices.Equal(a.Addrs, b.Addrs) && slices.Equal(a.PeerAddrs, b.PeerAddrs)
}

// withKept adds the nodes of members that the configuration no longer names, with the addresses they had: deleting a
// node line removes nothing.
func withKept(r roster.Roster, known []roster.Node) roster.Roster {
	for _, c := range r.Clusters {
		for _, m := range c.Members {
			if _, ok := r.Node(m.Node); ok {
				continue
			}
			if i := slices.IndexFunc(known, func(n roster.Node) bool { return n.Name == m.Node }); i >= 0 {
				r.Nodes = append(r.Nodes, known[i])
			}
		}
	}
	return r.Clone()
}

// memberNodes returns the nodes that the member list of some cluster of the rack names.
func memberNodes(r roster.Roster) (out []roster.Node) {
	for _, n := range r.Nodes {
		if slices.ContainsFunc(r.Clusters, func(c roster.Cluster) bool {
			return !c.Outside && slices.ContainsFunc(c.Members, func(m roster.Member) bool { return m.Node == n.Name })
		}) {
			out = append(out, n)
		}
	}
	return out
}

// members returns a cluster's list without the health that belongs to the moment.
func members(c roster.Cluster) []roster.Member {
	out := slices.Clone(c.Members)
	for i := range out {
		out[i].Serving = false
	}
	return out
}

// sameLists reports whether nothing worth a write changed: the applied index moves with every write to etcd, the
// list does not.
func sameLists(a, b []roster.View) bool {
	return slices.EqualFunc(a, b, func(x, y roster.View) bool {
		return x.Cluster == y.Cluster && x.Generation == y.Generation && slices.Equal(x.Members, y.Members)
	})
}
