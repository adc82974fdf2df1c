//go:build linux

package lab

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// What a tired person types. Each is refused with the line and a hint, and starts nothing. (etcd-io/etcd#5244 and #16002: two members
// with one address crash every member of the cluster, for stock etcd looks at addresses only when it has started.)
func TestBadInput(t *testing.T) {
	t.Parallel()
	l := New(t, Options{})
	n := l.node("infra0")
	good := l.corefile("infra0")
	for _, tt := range []struct {
		name string
		// edit makes the Corefile wrong; says is what the refusal must contain.
		from, to string
		says     []string
	}{
		{"TwoNodesOneName", "node infra2 ", "node infra1 ", []string{"infra1"}},
		{"Etcd5244TwoNodesOneAddress", "node infra2 " + l.Addr("infra2"), "node infra2 " + l.Addr("infra1"), []string{"infra1 in line", l.Addr("infra1")}},
		{"NodeOfDigits", "node infra2 ", "node 2 ", []string{"2"}},
		{"NotAnAddress", "node infra2 " + l.Addr("infra2"), "node infra2 10.0.1.256", []string{"10.0.1.256"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			text := strings.Replace(good, tt.from, tt.to, 1)
			if text == good {
				t.Fatalf("%q is not in\n%s", tt.from, good)
			}
			l.write(n.host, "Corefile", text)
			r := l.Run("infra0", l.bin(), append([]string{"run"}, place(n)...)...)
			if r.Code == 0 || r.Code == -1 || !strings.Contains(r.Stderr, "Corefile:") || !strings.Contains(r.Stderr, "hint:") {
				t.Errorf("want a refusal with the line and a hint: %v", r)
			}
			for _, want := range tt.says {
				if !strings.Contains(r.Stderr, want) {
					t.Errorf("it does not say %q: %v", want, r)
				}
			}
		})
	}
	l.write(n.host, "Corefile", good)
}

// A machine from an earlier life of the rack comes back: it was off while all others were imaged and the cluster was born anew.
// With its old data it serves nobody and is never counted, and the cluster does not notice.
func TestStaleGenesis(t *testing.T) {
	t.Parallel()
	l := boot(t, Options{})
	l.Put("old", "1")
	l.KillAll()
	stale := l.node("infra2").data()
	if err := os.Rename(stale, stale+"-stale"); err != nil {
		t.Fatal(err)
	}
	l.Wipe("infra0")
	l.Wipe("infra1")
	l.StartAll()
	l.WaitHealthy()
	l.Put("new", "2")
	l.Kill("infra2")
	later := stale + "-later"
	if err := errors.Join(os.Rename(stale, later), os.Rename(stale+"-stale", stale)); err != nil {
		t.Fatal(err)
	}
	db := inodeOf(t, filepath.Join(stale, "etcd", "member", "snap", "db"))
	l.Start("infra2")
	// Its member may run: alone it can do nothing. It is not well, and says so; and it never counts.
	l.WaitStatus("infra2", "plan", "member")
	for _, n := range l.Names() {
		l.Wait(n+" says who is of another birth", healthyLimit, func() error {
			if r := l.Tool(n, "status"); r.Code != 1 || !strings.Contains(r.Stdout, "is of another birth of this cluster") {
				return errorf("%v", r)
			}
			return nil
		})
	}
	l.Holds("infra2 is not well, and the others are two of three", quiet, func() error {
		if r := l.Tool("infra2", "status"); r.Code != 1 {
			return errorf("%v", r)
		}
		if r := l.At("infra2", "get", "old"); r.Code == 0 {
			return errorf("it serves: %v", r)
		}
		return nil
	})
	l.Put("newer", "3")
	l.Get("new", "2")
	rest := []string{"infra0", "infra1"}
	l.Wait("who is stale is no server of clients, at any node", healthyLimit, func() error {
		return l.allSay(l.Names(), Question{l.service("client"), dns.TypeSRV}, l.targets("client", rest...))
	})
	if !kept(t, stale, db) {
		t.Error("its data is gone")
	}
	t.Logf("it says: %v", l.Tool("infra2", "status"))
	t.Logf("infra0 says: %v", l.Tool("infra0", "status"))
	t.Run("MarkerOfAnOlderGeneration", func(t *testing.T) { olderMarker(t, l, later) })
}
