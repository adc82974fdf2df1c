package node

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"

	"github.com/etcd-dns/etcd-dns/certs"
	"github.com/etcd-dns/etcd-dns/roster"
	"github.com/etcd-dns/etcd-dns/srvboot"
)

func (n *Node) nodeStatus(o *Options, rep srvboot.Report, cluster string) []NodeStatus {
	out := []NodeStatus{}
	for _, l := range o.Nodes {
		if l.Cluster != cluster {
			continue
		}
		ns := NodeStatus{Name: l.Name, Addresses: []string{}, Gossip: n.rumor.word(l.Name)}
		for _, a := range n.addrsOf(l) {
			ns.Addresses = append(ns.Addresses, a.String())
		}
		state, reachable := rep.State, true
		n.fillState(&state)
		if l.Name != n.name {
			a := rep.Answers[l.Name]
			state, reachable, ns.Error = a.State, a.Fresh(time.Now(), staleAnswer), cmp.Or(a.Err, "no answer yet")
		}
		if ns.Reachable = reachable; reachable {
			ns.Error, ns.Phase, ns.Serial, ns.Plan = "", state.Phase, state.Serial, string(state.Plan.Action)
			if state.Plan.Spare {
				ns.Plan = "spare"
			}
			if state.Member == nil {
				ns.Reason = state.Plan.Reason
			}
			if g := state.Accepted; g != nil && (state.Phase == srvboot.Born || state.Phase == srvboot.Running || state.Phase == srvboot.Joining) {
				ns.Genesis, ns.Cluster = g.Genesis.ID, g.Genesis.ClusterID
			}
		}
		out = append(out, ns)
	}
	return out
}

func certStatus(slots []certs.Status) []CertStatus {
	out := []CertStatus{}
	for _, s := range slots {
		c := CertStatus{Slot: s.Slot, Names: s.SANs, Issuer: s.Issuer, NotBefore: s.NotBefore, NotAfter: s.NotAfter, NextRenewal: s.NextRenewal}
		if s.Err != nil {
			c.Error = s.Err.Error()
		}
		out = append(out, c)
	}
	return out
}

// memberStatus lays each node's report of its own member over the member list.
func (n *Node) memberStatus(rep srvboot.Report) []MemberStatus {
	out := []MemberStatus{}
	own := rep.State.Member
	if own == nil {
		return out
	}
	running := map[string]*srvboot.MemberState{own.ID: own}
	for _, a := range rep.Answers {
		if a.Fresh(time.Now(), staleAnswer) && a.State.Member != nil {
			running[a.State.Member.ID] = a.State.Member
		}
	}
	for _, e := range own.Members {
		m := MemberStatus{ID: e.ID, Name: e.Name, PeerURLs: e.PeerURLs, ClientURLs: e.ClientURLs, Learner: e.IsLearner, Leader: e.ID == own.Leader}
		if r := running[e.ID]; r != nil {
			m.Serving, m.Version, m.PID, m.DBSize = r.Serving, r.Version, r.PID, r.DBSize
		}
		out = append(out, m)
	}
	slices.SortFunc(out, func(a, b MemberStatus) int { return strings.Compare(a.Name, b.Name) })
	return out
}

func clusterHealth(members []MemberStatus) string {
	serving, voters := 0, 0
	for _, m := range members {
		if m.Learner {
			continue
		}
		voters++
		if m.Serving {
			serving++
		}
	}
	switch {
	case voters > 0 && serving == voters:
		return healthy
	case serving > voters/2:
		return degraded
	}
	return noQuorum
}

func nameOf(members []srvboot.MemberEntry, id string) string {
	for _, m := range members {
		if m.ID == id {
			return m.Name
		}
	}
	return ""
}

func (n *Node) zoneStatus() ZoneStatus {
	z := ZoneStatus{Name: n.options().Domain, Birth: map[string]string{}, Parent: n.parent.last.Load()}
	if s := n.store.Load(); s != nil {
		z.Serial, z.Digest = s.Serial(), s.Digest()
	}
	for _, c := range n.roster.Load().Clusters {
		z.Birth[c.Name] = c.Knowledge.String()
	}
	return z
}

// unpublished says what the zone of a born cluster cannot answer.
func (n *Node) unpublished() string {
	c, ok := n.roster.Load().Cluster(n.line.Cluster)
	snap := n.store.Load()
	if !ok || c.Knowledge != roster.Born || snap == nil {
		return ""
	}
	service := "_etcd-server-ssl"
	if c.Plain {
		service = "_etcd-server"
	}
	if c.Name != "" {
		service += "-" + c.Name
	}
	a := snap.Lookup(service+"._tcp."+n.options().Domain, dns.TypeSRV, false)
	if a.Rcode == dns.RcodeSuccess {
		return ""
	}
	return fmt.Sprintf("the zone cannot answer for %s: %s; give every member a node line with an address", service, a.EDEText)
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// bundleWarnings are about the rack as a whole.
func (n *Node) bundleWarnings(rep srvboot.Report) (out []string) {
	out = generations(n.name, n.latest.Load().Generation(), rep.Answers, time.Now())
	if key := filepath.Join(filepath.Dir(n.options().Bundle), "offline", certs.RootKeyFile); exists(key) {
		out = append(out, key+" is on this machine; it belongs to you alone: move it away")
	}
	if born := n.roster.Load(); born != nil {
		if c, ok := born.Cluster(n.line.Cluster); ok && c.Knowledge == roster.Born && len(c.Members) == 2 {
			out = append(out, "two members cannot heal a lost disk by themselves: with one gone there is no quorum; run three")
		}
	}
	return out
}
