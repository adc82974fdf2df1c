//go:build linux

package lab

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// The control of the campaign: what stock etcd, run as its guide says, loses in a sequence of events that any rack meets one day,
// found by the campaign's own checks, and the same sequence on the product. A check that did not find the first would say nothing
// about the second.

// disaster is a rack with clients, stock or the product.
type disaster struct {
	t *testing.T
	*clients
	product bool
	// acknowledged are all writes that the clients were told are safe.
	acknowledged map[string]string
}

// onBoth runs a sequence on stock etcd and on the product, with clients that write until they are told to stop.
func onBoth(t *testing.T, run func(t *testing.T, d *disaster)) {
	t.Parallel()
	for _, product := range []bool{false, true} {
		t.Run(map[bool]string{false: "Stock", true: "Product"}[product], func(t *testing.T) {
			t.Parallel()
			run(t, newDisaster(t, product))
		})
	}
}

// newDisaster boots a rack, and has clients write to it.
func newDisaster(t *testing.T, product bool) *disaster {
	d := &disaster{t: t, product: product, acknowledged: map[string]string{}}
	var l *Lab
	var servers []string
	if product {
		l = New(t, Options{})
		servers = l.Names()
	} else {
		l = newStock(t)
		servers = []string{parentHost}
	}
	var err error
	if d.clients, err = l.newClients(servers...); err != nil {
		t.Fatal(err)
	}
	d.StartAll()
	d.serving(d.Names()...)
	d.begin("0")
	d.more(50)
	return d
}

// serving waits until each of the nodes' members answers a linearizable read.
func (d *disaster) serving(nodes ...string) {
	d.t.Helper()
	d.Wait(fmt.Sprintf("%v serve", nodes), 2*healthyLimit, func() error {
		return d.each(nodes, func(ctx context.Context, m member) error {
			ctx, cancel := context.WithTimeout(ctx, operationLimit)
			defer cancel()
			_, err := m.Get(ctx, "none")
			return err
		})
	})
}

// more waits until that many more writes are acknowledged.
func (d *disaster) more(n int) {
	d.t.Helper()
	before, _, _ := d.counts()
	d.Wait(fmt.Sprintf("%d more writes", n), healthyLimit, func() error {
		if now, _, _ := d.counts(); now < before+n {
			return errorf("%d were acknowledged", now-before)
		}
		return nil
	})
}

// quiesce stops the clients and notes what they were told.
func (d *disaster) quiesce() {
	d.end()
	maps.Copy(d.acknowledged, d.record.acknowledged("u/"))
	d.t.Logf("%d writes of keys of their own are acknowledged", len(d.acknowledged))
}

// alone starts a node that lost its data beside nobody else. Stock etcd starts a member there, the product does not.
func (d *disaster) alone(names ...string) {
	d.t.Helper()
	for _, n := range names {
		d.Start(n)
	}
	if d.product {
		d.Holds(fmt.Sprintf("no member on %v", names), quiet, func() error {
			for _, n := range names {
				if err := d.NoMember(n); err != nil {
					return err
				}
			}
			return nil
		})
		return
	}
	for _, n := range names {
		d.Wait(n+" started as new", healthyLimit, func() error {
			_, err := os.Stat(filepath.Join(d.node(n).data(), "etcd", "member", "wal", "0000000000000000-0000000000000000.wal"))
			return err
		})
	}
}

// verdict judges the rack. The product passes; stock etcd must show each of the errors that the facts say it shows.
func (d *disaster) verdict(nodes []string, stock ...error) {
	d.t.Helper()
	err := d.judgeData(nodes, d.acknowledged)
	if d.product {
		if err != nil {
			d.t.Error(err)
		}
		return
	}
	d.t.Logf("stock etcd: %v", err)
	for _, want := range stock {
		if !errors.Is(err, want) {
			d.t.Errorf("the checks do not find that %v", want)
		}
	}
	// It is as healthy as can be.
	if _, err := d.cluster(nodes); err != nil {
		d.t.Errorf("stock etcd: %v", err)
	}
}

// A write is acknowledged by two of three, power fails, and one of the two comes back without its disk, beside the third that
// never saw the write. Stock etcd takes the blank machine for the voter that it was: two of three agree on a past without the
// write, for linearizable reads too. (What follows when the machine that has it is back depends on the raft logs: the members go on,
// each with its own data, or die of a panic again and again.)
func TestAcknowledgedWriteOutlivesADisk(t *testing.T) {
	for _, lost := range []struct {
		name string
		wipe func(l *Lab, name string)
	}{
		{"EtcdDirectory", (*Lab).WipeEtcd},
		{"WholeDisk", (*Lab).Wipe},
	} {
		t.Run(lost.name, func(t *testing.T) {
			onBoth(t, func(_ *testing.T, d *disaster) {
				d.Kill("infra1")
				d.more(30)
				d.quiesce()
				d.KillAll()
				lost.wipe(d.Lab, "infra2")
				d.alone("infra2")
				d.Start("infra1")
				if !d.product {
					d.serving("infra1", "infra2")
					d.verdict([]string{"infra1", "infra2"}, errLost)
					return
				}
				d.Holds("two of three, and neither has the write, are no cluster", 2*quiet, func() error {
					if r := d.At("infra1", "--command-timeout", "200ms", "get", "none"); r.Code == 0 {
						return errorf("infra1 serves: %v", r)
					}
					return d.NoMember("infra2")
				})
				d.Start("infra0")
				d.serving(d.Names()...)
				d.verdict(d.Names())
			})
		})
	}
}

// etcd-io/etcd#12227: --initial-cluster-state=new was left on, as every unit file leaves it, and two of three machines come back
// blank before the third. Stock etcd lets them form an empty cluster under the old cluster ID. The product waits for a person, and the
// one disk that is left keeps everything.
func TestEtcd12227BlankMajority(t *testing.T) {
	onBoth(t, func(_ *testing.T, d *disaster) {
		id, err := d.cluster(d.Names())
		if err != nil {
			d.t.Fatal(err)
		}
		d.quiesce()
		// The last writes may be on the two disks alone that are lost, unless every member is seen to hold them.
		if err := d.judgeData(d.Names(), d.acknowledged); err != nil {
			d.t.Fatal(err)
		}
		d.KillAll()
		d.WipeEtcd("infra1")
		d.WipeEtcd("infra2")
		d.alone("infra1", "infra2")
		if !d.product {
			d.serving("infra1", "infra2")
			d.verdict([]string{"infra1", "infra2"}, errLost)
			if now, err := d.cluster([]string{"infra1", "infra2"}); now != id {
				d.t.Errorf("the cluster is %x and was %x (%v): others would notice", now, id, err)
			}
			return
		}
		d.Start("infra0")
		d.Holds("no member on the blank machines", quiet, func() error { return errors.Join(d.NoMember("infra1"), d.NoMember("infra2")) })
		for _, n := range []string{"infra1", "infra2"} {
			if hint := d.StatusText(n, "plan.hint"); !strings.Contains(hint, "etcd-dns ") {
				d.t.Errorf("status of %s names no command: %q", n, hint)
			}
		}
		d.Kill("infra0")
		d.heldOnDisk("infra0")
	})
}

// heldOnDisk reads all that a node's etcd data directory holds, by a member of its own on a copy of it.
func (d *disaster) heldOnDisk(name string) {
	d.t.Helper()
	n := d.node(name)
	dir := filepath.Join(n.dir, "copy")
	d.Must(name, "cp", "-r", filepath.Join(n.data(), "etcd"), dir)
	bin, err := stockEtcd()
	if err != nil {
		d.t.Fatal(err)
	}
	const url = "http://127.0.0.1:22379"
	if _, err := spawn(n.host, "copy.log", []string{bin, "--name", name, "--data-dir", dir, "--force-new-cluster", "--listen-client-urls", url,
		"--advertise-client-urls", url, "--listen-peer-urls", "http://127.0.0.1:22380"}); err != nil {
		d.t.Fatal(err)
	}
	d.Wait("everything is on the disk of "+name, healthyLimit, func() error {
		r := d.Run(name, "etcdctl", "--endpoints", url, "get", "u/", "--prefix")
		if err := r.Err(); err != nil {
			said, _ := os.ReadFile(filepath.Join(n.dir, "copy.log"))
			return fmt.Errorf("%w\n%s", err, tail(string(said), 10))
		}
		lines := strings.Split(r.Stdout, "\n")
		for key, value := range d.acknowledged {
			if i := slices.Index(lines, key); i < 0 || lines[i+1] != value {
				return fmt.Errorf("%w: %s", errLost, key)
			}
		}
		return nil
	})
}

// TestStockBlankMember is the rest of what stock etcd does with a blank machine and its old command line: beside the others it is
// refused, because one of them answers; after a power cut it starts as new before anybody can. The product replaces it in the first
// case (TestEtcd5087BlankDisk), and waits in the second (TestWipedWaits).
func TestStockBlankMember(t *testing.T) {
	t.Parallel()
	d := newDisaster(t, false)
	d.quiesce()
	d.Kill("infra2")
	d.WipeEtcd("infra2")
	d.Start("infra2")
	d.Wait("it is refused", healthyLimit, func() error {
		if log := d.Log("infra2"); !strings.Contains(log, "has already been bootstrapped") {
			return errorf("%s", tail(log, 3))
		}
		return nil
	})
	d.KillAll()
	d.WipeEtcd("infra2")
	d.alone("infra2") // waits for its log as a new member
}

// TestStockExistingUnderItsOldID is the other way to configure a machine that comes back blank: --initial-cluster-state=existing, without
// telling the cluster. Stock etcd starts it silently under its old member ID, whose votes it has forgotten.
func TestStockExistingUnderItsOldID(t *testing.T) {
	t.Parallel()
	d := newDisaster(t, false)
	d.quiesce()
	before := d.memberIDs("infra0")["infra2"]
	d.Kill("infra2")
	d.WipeEtcd("infra2")
	n := d.node("infra2")
	flags := d.flavor.(stockFlavor).flags(d.Lab, n, "existing")
	p, err := spawn(n.host, "log", append([]string{d.flavor.(stockFlavor).bin}, flags...))
	if err != nil {
		t.Fatal(err)
	}
	n.proc = p
	d.Wait("it starts under its old ID, or panics", healthyLimit, func() error {
		if !n.up() {
			return nil
		}
		return d.each([]string{"infra2"}, func(ctx context.Context, m member) error {
			ctx, cancel := context.WithTimeout(ctx, operationLimit)
			defer cancel()
			r, err := m.Get(ctx, "none", clientv3.WithSerializable())
			if err == nil && r.Header.MemberId != before {
				t.Errorf("its member ID is %x and was %x", r.Header.MemberId, before)
			}
			return err
		})
	})
	if !n.up() && !strings.Contains(d.Log("infra2"), "panic: ") {
		t.Errorf("it ended otherwise than by raft's panic: %v", p.err)
	}
	t.Logf("it runs: %v", n.up())
}
