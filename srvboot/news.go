package srvboot

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/etcd-dns/etcd-dns/roster"
)

// News dates the member list that a node publishes of its own cluster. It goes with the node's questions, so that who has an
// older list asks back at once: only an answer is believed.
type News struct {
	// Cluster is the srv-name, Generation that of the genesis, Index the applied index of the list; zero without one.
	Cluster           string
	Generation, Index uint64
}

// newsOf dates what is published.
func newsOf(v roster.View) News {
	if v.Knowledge != roster.Born {
		return News{Cluster: v.Cluster}
	}
	return News{Cluster: v.Cluster, Generation: v.Generation, Index: v.Index}
}

// isNewsTo reports whether the list is later than the one of a view of its cluster.
func (n News) isNewsTo(v roster.View) bool {
	theirs := roster.View{Knowledge: roster.Born, Generation: n.Generation, Index: n.Index}
	return n.Cluster == v.Cluster && n.Generation > 0 && theirs.Newer(v)
}

// String is what ParseNews reads: srv-name, generation and index with colons between; an srv-name has none (it is a label).
func (n News) String() string { return fmt.Sprintf("%s:%d:%d", n.Cluster, n.Generation, n.Index) }

// ParseNews reads News.String. The error says what it got.
func ParseNews(text string) (n News, err error) {
	var generation, index string
	parts := strings.Split(text, ":")
	if len(parts) == 3 {
		n.Cluster, generation, index = parts[0], parts[1], parts[2]
		if n.Generation, err = strconv.ParseUint(generation, 10, 64); err == nil {
			n.Index, err = strconv.ParseUint(index, 10, 64)
		}
	}
	if len(parts) != 3 || err != nil {
		return News{}, fmt.Errorf("%q is no date of a member list, which is srv-name:generation:index", text)
	}
	return n, nil
}

// hint is that a node asked this one, and what it said of its list.
type hint struct {
	from string
	news News
}

// News dates the member list that this node published last.
func (b *Boot) News() News { return newsOf(b.said.Load().state.View) }

// tellNews has those asked that have no member, or had one, when the list has changed: they hear of it with the question, and ask
// back. Without it they would know in their next turn. The leader's node does so, and while none leads, every member's.
func (b *Boot) tellNews() {
	m, runs := b.member.state()
	if !runs || m.Leader != "" && m.Leader != m.ID {
		return
	}
	for _, p := range b.peers {
		isListed := slices.ContainsFunc(b.view.Members, func(m roster.Member) bool { return m.Node == p.Node })
		if p.State.Member == nil || !isListed {
			p.askNow()
		}
	}
	b.at(time.Now())
	if b.o.News != nil {
		b.o.News()
	}
}
