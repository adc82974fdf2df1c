package node

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/etcd-dns/etcd-dns/roster"
	"github.com/etcd-dns/etcd-dns/srvboot"
)

// The Corefile is the same on every node. Where two differ, their zones may, or the nodes that they wait for, and neither node can
// know which is meant: status names the lines.

// machineWords are those of the block that are about one machine.
var machineWords = []string{"bundle", "data", "name"}

// alike notes a line that every node should have, as it would be written, with the block that it is in if there is one.
func (p *stanza) alike(block, word string, args []string) {
	if slices.Contains(machineWords, word) {
		return
	}
	line := word
	for _, a := range args {
		if a == "" || strings.ContainsAny(a, " \t\"#{}") {
			a = quote(a)
		}
		line += " " + a
	}
	if block != "" {
		line = fmt.Sprintf("%s { %s }", block, line)
	}
	p.o.Alike = append(p.o.Alike, line)
}

// alikeDigest tells whether two nodes have the same lines in the same order: by default the first node lines are the name servers.
func (o *Options) alikeDigest() string {
	sum := sha256.Sum256([]byte(strings.Join(o.Alike, "\n")))
	return hex.EncodeToString(sum[:8])
}

// otherCorefiles warns of every node that answers and has another Corefile than this one.
func (o *Options) otherCorefiles(answers map[string]srvboot.Answer, now time.Time) (warnings []string) {
	own := o.alikeDigest()
	for _, name := range slices.Sorted(maps.Keys(answers)) {
		a := answers[name]
		// The lines come with the answer after the one that told the digest, if that changed in between.
		if a.Fresh(now, staleAnswer) && a.State.Corefile != "" && a.State.Corefile != own && len(a.State.Lines) > 0 {
			warnings = append(warnings, fmt.Sprintf("%s has another Corefile: %s; make them equal, then on the node that was wrong: systemctl reload etcd-dns",
				name, difference(a.State.Lines, o.Alike)))
		}
	}
	return warnings
}

// toldNodes are the nodes that other nodes have lines for and this Corefile has not, by their lines. A new node's line does not come to all
// nodes at once, and its member may be there before. Where they differ, the node's own comes first, then the one that is published, last.
func (o *Options) toldNodes(answers map[string]srvboot.Answer, last []roster.Node, now time.Time) []roster.Node {
	var own, same, other []roster.Node
	for _, name := range slices.Sorted(maps.Keys(answers)) {
		a := answers[name]
		fresh := a.Fresh(now, staleAnswer)
		for _, line := range a.State.Lines {
			n, ok := nodeOf(line)
			if _, known := o.node(n.Name); !ok || known || o.holds(n) {
				continue
			}
			switch {
			case !fresh && n.Name != name: // what a node said of itself counts until it says something else
			case n.Name == name:
				own = append(own, n)
			case slices.ContainsFunc(last, func(l roster.Node) bool { return l.Name == n.Name && slices.Equal(l.PeerAddrs, n.PeerAddrs) }):
				same = append(same, n)
			default:
				other = append(other, n)
			}
		}
	}
	return slices.Concat(own, same, other)
}

// holds reports whether this Corefile gives an address of a node to another one.
func (o *Options) holds(n roster.Node) bool {
	return slices.ContainsFunc(slices.Concat(n.Addrs, n.PeerAddrs), func(a netip.Addr) bool { return o.holder(a, n.Name) != "" })
}

// nodeOf reads a node line as alike writes it, of a Corefile that the node it is from has taken.
func nodeOf(line string) (n roster.Node, ok bool) {
	if _, in, found := strings.Cut(line, " { "); found {
		line = strings.TrimSuffix(in, " }")
	}
	words := strings.Fields(line)
	if len(words) < 2 || words[0] != "node" || badLabel(words[1]) != "" {
		return n, false
	}
	n = roster.Node{Name: words[1], Slot: roster.NoSlot}
	into := &n.Addrs
	for _, w := range words[2:] {
		if w == "peer" {
			into = &n.PeerAddrs
			continue
		}
		a, err := netip.ParseAddr(w)
		if err != nil || !reachable(a) {
			return n, false
		}
		*into = append(*into, a)
	}
	return n, len(n.Addrs) > 0
}

// difference says which lines one of two nodes has alone.
func difference(there, here []string) string {
	var parts []string
	for _, side := range []struct {
		where     string
		own, less []string
	}{{"only there", there, here}, {"only here", here, there}} {
		var alone []string
		for _, line := range side.own {
			if !slices.Contains(side.less, line) {
				alone = append(alone, line)
			}
		}
		if len(alone) > 0 {
			parts = append(parts, side.where+": "+someLines(alone))
		}
	}
	if len(parts) == 0 {
		return "the same lines in another order"
	}
	return strings.Join(parts, "; ")
}

// shownLines is how many lines a warning quotes: enough to see what was edited.
const shownLines = 4

func someLines(lines []string) string {
	text := "`" + strings.Join(lines[:min(len(lines), shownLines)], "`, `") + "`"
	if more := len(lines) - shownLines; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}
