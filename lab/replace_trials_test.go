//go:build linux

package lab

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// What goes wrong while a blank disk is replaced, one thing after the other in a rack of five. Each is healed without a command, and the
// nodes that kept their disks keep their members.
func TestReplaceTrials(t *testing.T) {
	t.Parallel()
	c := onTrial(t, Options{Nodes: 5})
	c.trials([]trial{
		{"FirstPeerLagsBehind", firstPeerLags},
		{"TwoBlankOfFiveAndALearnerDies", twoBlank},
		{"LeaderDiesAfterTheRemoval", leaderDies},
		{"RepliesAreLost", repliesLost},
	})
}

// tries is how often a moment is sought that only real processes decide.
const tries = 4

// twoBlank: three of five are a quorum with and without the two that lost their disks, which are replaced one after the other. One of them
// dies as soon as its learner is in the list, and loses its disk once more. The learner is taken out again.
func twoBlank(t *testing.T, c *campaign) {
	blank := []string{"infra1", "infra4"}
	before := c.memberIDs("infra0")
	c.down(blank...)
	for _, n := range blank {
		c.blank(n)
	}
	c.up(blank...)
	last := before["infra4"]
	for range tries {
		last = c.awaitMembers("infra0", func(ids map[string]uint64) bool { return ids["infra4"] != 0 && ids["infra4"] != last })["infra4"]
		c.down("infra4")
		learner := c.memberIDs("infra0")["infra4 (learner)"]
		c.blank("infra4")
		c.up("infra4")
		if learner != last {
			t.Logf("member %x voted before its node was killed; once more", last)
			continue
		}
		c.replaced(t, before, blank...)
		if now := c.memberIDs("infra0")["infra4"]; now == learner {
			t.Errorf("infra4 votes as %x, whose data it lost", now)
		}
		return
	}
	t.Errorf("in %d tries no learner died", tries)
}

// replaced waits until nodes vote as new members, and looks that all others are who they were.
func (c *campaign) replaced(t *testing.T, before map[string]uint64, names ...string) {
	t.Helper()
	c.Wait("other members vote", healLimit, func() error {
		ids := c.memberIDs("infra0")
		for _, n := range names {
			if ids[n] == 0 || ids[n] == before[n] {
				return errorf("the members were %v and are %v; %s: %s", before, ids, n, c.StatusText(n, "plan"))
			}
		}
		return nil
	})
	c.voters(c.nodes...)
	kept := slices.DeleteFunc(slices.Clone(c.nodes), func(n string) bool { return slices.Contains(names, n) })
	if err := sameMembers(kept, before, c.memberIDs("infra0")); err != nil {
		t.Error(err)
	}
}

// leaderDies: the leader's node is killed as soon as a list without the blank node's member is seen, and before there is a learner. The
// others go on where it was, while it is down.
func leaderDies(t *testing.T, c *campaign) {
	for try := range tries {
		before := c.memberIDs("infra0")
		log := c.blankly("infra4")
		leader := log.await(`"msg":"changing the membership"`, `"op":"remove"`, `"node":"infra4"`)
		at := c.other(leader)
		seen := c.awaitMembers(at, func(ids map[string]uint64) bool { return ids["infra4"] != before["infra4"] })
		c.down(leader)
		learner := seen["infra4"]
		t.Logf("killed %s, the leader, when the members were %v", leader, seen)
		c.Wait("infra4 votes while the leader's node is down", healLimit, func() error {
			if ids := c.memberIDs(at); ids["infra4"] == 0 || ids["infra4"] == before["infra4"] {
				return errorf("%s lists %v; infra4: %s", at, ids, c.StatusText("infra4", "plan"))
			}
			return nil
		})
		c.up(leader)
		c.replaced(t, before, "infra4")
		if learner == 0 {
			return
		}
		t.Logf("try %d: there was a learner already", try)
	}
	t.Errorf("in %d tries the leader did not die between removal and addition", tries)
}

// repliesLost: the leader's node has its member take a step. Its own process is stopped while that is under way, and killed when the
// others show that the step took place, so that nobody ever gets the reply; the log shows that it had not heard it. The next leader derives
// its step from the list. A learner that was added so is one that its node does not know, and makes way for another.
func repliesLost(t *testing.T, c *campaign) {
	missing := []string{"remove", "add-learner"}
	for range tries {
		before := c.memberIDs("infra0")
		log := c.blankly("infra4")
		for _, op := range slices.Clone(missing) {
			if c.loseReply(t, log, op, before["infra4"]) {
				missing = slices.DeleteFunc(missing, func(m string) bool { return m == op })
			}
		}
		c.replaced(t, before, "infra4")
		if len(missing) < 2 { // the moment is a few milliseconds long, and srvboot has both for certain
			return
		}
	}
	t.Errorf("in %d tries no reply was lost", tries)
}

// loseReply has the reply of a step about infra4 get lost, and reports whether that came about.
func (c *campaign) loseReply(t *testing.T, log *logs, op string, old uint64) bool {
	about := []string{`"op":"` + op + `"`, `"node":"infra4"`}
	leader := log.await(append(about, `"msg":"changing the membership"`)...)
	c.Signal(leader, syscall.SIGSTOP)
	c.watch.excuse(leader)
	took := poll(2*time.Second, func() error {
		ids := c.memberIDs(c.other(leader))
		if len(ids) == 0 || op == "remove" && ids["infra4"] == old || op != "remove" && ids["infra4 (learner)"] == 0 {
			return errorf("%v", ids)
		}
		return nil
	}) == nil
	heard := log.has(leader, append(about, `"msg":"the membership changed"`)...)
	if !took || heard {
		c.Signal(leader, syscall.SIGCONT)
		t.Logf("%s by %s: it took place: %v, and its reply was heard: %v; once more", op, leader, took, heard)
		return false
	}
	c.down(leader)
	c.up(leader)
	t.Logf("%s by %s took place, and nobody got the reply", op, leader)
	return true
}

// blankly starts a node that lost its disk, and returns the logs from then on.
func (c *campaign) blankly(name string) *logs {
	c.t.Helper()
	c.down(name)
	c.blank(name)
	log := c.follow()
	c.up(name)
	return log
}

// other is a node whose member votes, and that is neither this one nor infra4.
func (c *campaign) other(than string) string {
	return c.nodes[slices.IndexFunc(c.nodes, func(n string) bool { return n != than && n != "infra4" })]
}

// awaitMembers asks one member for its own list, as often as it can, until the list is as wanted. Learners are as voters there.
func (c *campaign) awaitMembers(at string, wanted func(map[string]uint64) bool) (ids map[string]uint64) {
	c.t.Helper()
	err := c.clients.each([]string{at}, func(_ context.Context, m member) error {
		ctx, cancel := context.WithTimeout(context.Background(), healLimit)
		defer cancel()
		for {
			list, err := m.MemberList(ctx, clientv3.WithSerializable())
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if err != nil {
				continue
			}
			ids = map[string]uint64{}
			for _, e := range list.Members {
				name, _, _ := strings.Cut(strings.TrimPrefix(e.PeerURLs[0], "https://"), ".")
				ids[name] = e.ID
			}
			if wanted(ids) {
				return nil
			}
		}
	})
	if err != nil {
		c.t.Fatalf("the list of %s: %v: %v", at, err, ids)
	}
	return ids
}

// logs are what the nodes print from a moment on.
type logs struct {
	*Lab
	// from is where to read on in each file; rest is what was read and not looked through, by node.
	from map[string]int64
	rest map[string]string
}

func (l *Lab) follow() *logs {
	f := &logs{Lab: l, from: map[string]int64{}, rest: map[string]string{}}
	for _, n := range l.names {
		f.from[n] = int64(len(l.Log(n)))
	}
	return f
}

// await waits, as closely as it can, for a line that contains all the texts, and returns the node that printed it.
func (f *logs) await(texts ...string) (node string) {
	f.t.Helper()
	tick := time.NewTicker(500 * time.Microsecond)
	defer tick.Stop()
	for end := time.Now().Add(healLimit); time.Now().Before(end); <-tick.C {
		for _, n := range f.names {
			if f.has(n, texts...) {
				return n
			}
		}
	}
	f.t.Fatalf("nobody says %v", texts)
	return ""
}

// has looks for such a line in what a node printed since the last one that was found there.
func (f *logs) has(name string, texts ...string) bool {
	f.t.Helper()
	more, err := readFrom(filepath.Join(f.node(name).dir, "log"), f.from[name])
	if err != nil {
		f.t.Fatal(err)
	}
	f.from[name] += int64(len(more))
	f.rest[name] += more
	for {
		line, rest, whole := strings.Cut(f.rest[name], "\n")
		if !whole {
			return false
		}
		f.rest[name] = rest
		if !slices.ContainsFunc(texts, func(text string) bool { return !strings.Contains(line, text) }) {
			return true
		}
	}
}

// readFrom is what a file has beyond an offset.
func readFrom(path string, offset int64) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer func() { _ = f.Close() }()
	if _, err := f.Seek(offset, io.SeekStart); err != nil {
		return "", err
	}
	text, err := io.ReadAll(f)
	return string(text), err
}
