package gossip

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
)

func aliveAt(name, at string, more ...string) Peer {
	return Peer{Record: Record{Name: name, Boot: bootA, Addrs: addrs(more...)}, Addr: netip.MustParseAddrPort(at)}
}

// addrs returns the addresses of all nodes.
func (m memory) addrs() (out []netip.AddrPort) {
	for _, s := range m.Peers {
		out = append(out, s.Addrs...)
	}
	return out
}

func TestMemory(t *testing.T) {
	file := filepath.Join(t.TempDir(), "gossip.json")
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	m, err := readMemory(file, now)
	if err != nil {
		t.Fatalf("without a file: %v", err)
	}
	for _, c := range []struct {
		what    string
		after   time.Duration
		peers   []Peer
		changed bool
	}{
		{"nobody", 0, nil, false},
		{"two nodes", 0, []Peer{aliveAt("b", "10.0.1.11:2388", "10.0.1.11", "fd00::11"), aliveAt("a", "10.0.1.10:2388")}, true},
		{"the same", time.Minute, []Peer{aliveAt("b", "10.0.1.11:2388", "10.0.1.11", "fd00::11"), aliveAt("a", "10.0.1.10:2388")}, false},
		{"a dead one elsewhere", time.Minute, []Peer{{Record: Record{Name: "a"}, Status: Dead, Addr: netip.MustParseAddrPort("10.0.1.99:2388")}}, false},
		{"a new address", time.Minute, []Peer{aliveAt("a", "10.0.1.12:2388")}, true},
		{"much later", 2 * time.Hour, []Peer{aliveAt("a", "10.0.1.12:2388")}, true},
	} {
		if changed := m.see(c.peers, now.Add(c.after)); changed != c.changed {
			t.Errorf("%s: changed is %v, want %v", c.what, changed, c.changed)
		}
	}
	if err := m.write(file); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	want := `{
  "format": 1,
  "peers": [
    {
      "name": "a",
      "addrs": [
        "10.0.1.12:2388"
      ],
      "seen": "2026-11-22T14:00:00Z"
    },
    {
      "name": "b",
      "addrs": [
        "10.0.1.11:2388",
        "[fd00::11]:2388"
      ],
      "seen": "2026-11-22T12:00:00Z"
    }
  ]
}
`
	if string(text) != want {
		t.Errorf("got  %s\nwant %s", text, want)
	}
	again, err := readMemory(file, now.Add(3*time.Hour))
	if err != nil || !slices.Equal(again.addrs(), m.addrs()) {
		t.Errorf("got %v, %v; want %v", again.addrs(), err, m.addrs())
	}
	if later, err := readMemory(file, now.Add(rememberFor+time.Hour)); err != nil || len(later.Peers) != 1 {
		t.Errorf("after %s: got %v, %v; want the node that was seen last", rememberFor, later.Peers, err)
	}
}

func TestMemoryIsBounded(t *testing.T) {
	m := memory{Format: memoryFormat}
	now := time.Now()
	for i := range 3 * maxRemembered {
		p := aliveAt(fmt.Sprintf("n%d", i), "10.0.1.10:2388")
		for j := range 100 {
			p.Addrs = append(p.Addrs, netip.AddrFrom4([4]byte{10, 1, byte(i), byte(j)}))
		}
		m.see([]Peer{p}, now.Add(time.Duration(i)*time.Second))
	}
	if len(m.Peers) != maxRemembered || len(m.addrs()) != maxRemembered*maxEndpoints {
		t.Fatalf("%d nodes and %d addresses, want %d and %d", len(m.Peers), len(m.addrs()), maxRemembered, maxRemembered*maxEndpoints)
	}
	if slices.ContainsFunc(m.Peers, func(s sighting) bool { return s.Name == "n0" }) {
		t.Error("the node that was not seen for longest is there yet")
	}
}

// A file that cannot be read counts for nothing, and says why.
func TestWrongMemory(t *testing.T) {
	for _, text := range []string{
		`{"format":1,"pe`, `{"format":2,"peers":{}}`, `{"format":2,"peers":[]}`, `{"peers":[]}`, "", "[]",
		`{"format":1,"peers":[{"name":"a","addrs":["10.0.1.1:1"],"seen":"yesterday"}]}`,
	} {
		file := filepath.Join(t.TempDir(), "gossip.json")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		m, err := readMemory(file, time.Now())
		if err == nil || !strings.Contains(err.Error(), file) || m.Format != memoryFormat || m.Peers != nil {
			t.Errorf("%s: got %+v, %v; want nobody and an error", text, m, err)
		}
	}
}

// A node with a damaged file starts, says so, and leaves a good one.
func TestDamagedMemory(t *testing.T) {
	t.Parallel()
	first := start(t, options("infra0"))
	o := options("infra1", first.o.at())
	o.File = filepath.Join(t.TempDir(), "gossip.json")
	if err := os.WriteFile(o.File, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	n := start(t, o)
	n.wait(first.own, Alive)
	if lines := n.logged(zap.WarnLevel, o.File); lines != 1 {
		t.Errorf("%d lines about the file, want 1: %v", lines, n.logs.All())
	}
	n.end()
	if m, err := readMemory(o.File, time.Now()); err != nil || !slices.Equal(m.addrs(), []netip.AddrPort{first.o.at()}) {
		t.Errorf("afterwards: %v, %v; want the one other node", m, err)
	}
}

// Entries that cannot be a node's are left out; fields of a later version do no harm.
func TestMemoryOfOthers(t *testing.T) {
	file := filepath.Join(t.TempDir(), "gossip.json")
	seen := `"seen":"2026-11-22T12:00:00Z"`
	text := `{"format":1,"new":[1],"peers":[` + strings.Join([]string{
		`{"name":"a","addrs":["10.0.1.1:2388"],"new":true,` + seen + `}`, `{"name":"a","addrs":["10.0.1.2:2388"],"seen":"2026-11-21T12:00:00Z"}`,
		`{"name":"","addrs":["10.0.1.3:2388"],` + seen + `}`, `{"name":"b","addrs":["224.0.0.1:2388"],` + seen + `}`,
		`{"name":"c","addrs":["10.0.1.4:0"],` + seen + `}`, `{"name":"d","addrs":[""],` + seen + `}`,
	}, ",") + `]}`
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	m, err := readMemory(file, time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC))
	if want := []netip.AddrPort{netip.MustParseAddrPort("10.0.1.1:2388")}; err != nil || !slices.Equal(m.addrs(), want) {
		t.Errorf("got %v, %v; want %v", m.addrs(), err, want)
	}
}
