package node

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/etcd-dns/etcd-dns/srvboot"
)

// size reads `N of M`: of the M node lines of the cluster N become members at its birth, and the others are spares. N is more
// than half of M, so that two parts of a rack are never both enough. Whether there are M lines is checked when all are read.
func (p *stanza) size(args []string) error {
	var s Size
	if len(args) == 3 && args[1] == "of" {
		s = Size{count(args[0]), count(args[2])}
	}
	switch least := s.Nodes/2 + 1; {
	case s.Members < 1 || s.Nodes < 1:
		return p.errorf("expected size N of M but got %q", "write how many of how many node lines become members, such as size 3 of 5", strings.Join(args, " "))
	case s.Members > s.Nodes:
		return p.errorf("size %s: there cannot be more members than nodes", "write size "+Size{s.Nodes, s.Nodes}.String()+" at most", s)
	case s.Members < least:
		return p.errorf("size %s: %d is not more than half of %d, and two halves of a rack could each become a cluster",
			"write size "+Size{least, s.Nodes}.String()+" or more", s, s.Members, s.Nodes)
	}
	p.settings().Size = s
	return nil
}

// count is a number of nodes; 0 for what is none.
func count(text string) int {
	n, err := strconv.Atoi(text)
	if err != nil || n > maxNodes {
		return 0
	}
	return n
}

// checkSizes compares each size with the node lines. The one outside of the cluster blocks is the default cluster's.
func (p *stanza) checkSizes() error {
	if _, ok := p.o.cluster(""); !ok && p.all.Size != (Size{}) {
		return p.errorAt(p.seen["/size"], "put it into the block of its cluster", "size stands outside of the cluster blocks, and no node line does")
	}
	for _, c := range p.o.Clusters {
		lines := len(p.o.members(c.Name))
		if c.Size == (Size{}) || c.Size.Nodes == lines {
			continue
		}
		fits := Size{min(max(c.Size.Members, lines/2+1), lines), lines}
		return p.errorAt(p.seen[c.Name+"/size"], "write size "+fits.String()+", or the missing node lines",
			"size %s counts %d node lines, and %s has %d", c.Size, c.Size.Nodes, clusterWord(c.Name), lines)
	}
	return nil
}

// sizeEdit warns of a size other than the one that this node's cluster was born with, which counts for ever.
func sizeEdit(now Size, s srvboot.State) []string {
	if s.Accepted == nil || s.Phase == srvboot.Accepted || s.Accepted.Genesis.ID == "" || now.Members == s.Accepted.Genesis.Size {
		return nil
	}
	const more = "to let a node in beyond it: etcd-dns member add NAME"
	switch born := s.Accepted.Genesis.Size; {
	case born == 0:
		return []string{fmt.Sprintf("size %s comes too late: the cluster was born without, and every node with a line joins it", now)}
	case now == Size{}:
		return []string{fmt.Sprintf("the size is gone from the Corefile, and the cluster keeps the %d members that it was born with; %s", born, more)}
	default:
		return []string{fmt.Sprintf("size %s comes too late: the cluster keeps the %d members that it was born with; %s", now, born, more)}
	}
}
