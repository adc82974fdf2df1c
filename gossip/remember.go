package gossip

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"slices"
	"time"

	"github.com/etcd-dns/etcd-dns/internal/durable"
)

const (
	// maxRemembered bounds the file: as many nodes as a domain may have.
	maxRemembered = 64
	// maxEndpoints is how many addresses of one node are remembered.
	maxEndpoints = 8
	// rememberFor is for how long a node that was not seen is asked at each start. After that the Corefile has to name it.
	rememberFor = 30 * 24 * time.Hour
	// freshen is how old a "last seen" in the file may get while the node is seen.
	freshen = time.Hour
	// memoryFormat is the version of the file. Readers ignore fields that they do not know, and the whole of a higher version.
	memoryFormat = 1
)

// memory is the file of nodes that were seen. It only saves a node the search for others after a restart: whatever is
// wrong with it, the node starts without.
type memory struct {
	Format int        `json:"format"`
	Peers  []sighting `json:"peers"`
}

// sighting is what is remembered of the node of one name.
type sighting struct {
	Name  string           `json:"name"`
	Addrs []netip.AddrPort `json:"addrs"`
	Seen  time.Time        `json:"seen"`
}

// readMemory returns what the file says, without what no longer counts at that time. A missing file is an empty one.
func readMemory(file string, now time.Time) (memory, error) {
	empty := memory{Format: memoryFormat}
	if file == "" {
		return empty, nil
	}
	text, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return empty, nil
	}
	if err != nil {
		return empty, err
	}
	var m memory
	if err := json.Unmarshal(text, &m); err != nil {
		return empty, fmt.Errorf("%s: %w", file, err)
	}
	if m.Format != memoryFormat {
		return empty, fmt.Errorf("%s has format %d: want %d", file, m.Format, memoryFormat)
	}
	m.Peers = slices.DeleteFunc(m.Peers, func(s sighting) bool {
		return !isLabel(s.Name) || now.Sub(s.Seen) > rememberFor ||
			slices.ContainsFunc(s.Addrs, func(a netip.AddrPort) bool { return !isUnicast(a.Addr()) || a.Port() == 0 })
	})
	m.trim()
	return m, nil
}

// see notes the peers that are alive, and reports whether the file should be written again.
func (m *memory) see(peers []Peer, now time.Time) (changed bool) {
	for _, p := range peers {
		if p.Status != Alive {
			continue
		}
		endpoints := p.endpoints()
		endpoints = endpoints[:min(len(endpoints), maxEndpoints)]
		i := slices.IndexFunc(m.Peers, func(s sighting) bool { return s.Name == p.Name })
		if i < 0 {
			m.Peers = append(m.Peers, sighting{Name: p.Name})
			i = len(m.Peers) - 1
		}
		s := &m.Peers[i]
		if !slices.Equal(s.Addrs, endpoints) || now.Sub(s.Seen).Abs() > freshen {
			*s, changed = sighting{p.Name, endpoints, now.UTC().Truncate(time.Second)}, true
		}
	}
	m.trim()
	return changed
}

// trim keeps the nodes that were seen last, in the order of their names.
func (m *memory) trim() {
	slices.SortStableFunc(m.Peers, func(a, b sighting) int { return b.Seen.Compare(a.Seen) })
	m.Peers = m.Peers[:min(len(m.Peers), maxRemembered)]
	slices.SortStableFunc(m.Peers, func(a, b sighting) int { return cmp.Compare(a.Name, b.Name) })
	m.Peers = slices.CompactFunc(m.Peers, func(a, b sighting) bool { return a.Name == b.Name })
}

func (m *memory) write(file string) error {
	text, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return err
	}
	return durable.WriteFile(file, append(text, '\n'), 0o600)
}
