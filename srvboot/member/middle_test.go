package member

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/etcd-dns/etcd-dns/srvboot"
)

// order is what the test tells the middle process.
type order struct {
	Base   Spec
	Launch srvboot.Launch
	View   View
}

// middle is a node that starts a member, prints its process ID once it serves, and then only waits to be killed.
func middle(path string) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var o order
	if err := json.Unmarshal(b, &o); err != nil {
		return err
	}
	ctx := context.Background()
	res := NewResolver(ResolverOptions{})
	go func() { _ = res.Run(ctx) }() // ends with the process
	l := NewLauncher(Options{
		Base: func() Spec { return o.Base }, Resolver: res,
		View: func(srvboot.Launch) (View, error) { return o.View, nil },
	})
	m, err := l.Start(ctx, o.Launch)
	if err != nil {
		return err
	}
	for {
		if s, ok := m.State(); ok && s.Serving {
			fmt.Println(s.PID)
			select {}
		}
		select {
		case <-m.Changed():
		case <-m.Done():
			return m.Err()
		}
	}
}

func TestChildEndsWithItsParent(t *testing.T) {
	r := newRack(t, rackOptions{nodes: 1})
	n := r.nodes[0]
	view, err := ViewOf(r.genesis.Members, r.roster(), "")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "order.json")
	b, err := json.Marshal(order{Base: r.spec(n), Launch: r.launch(n), View: view})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(selfExecutable, "middle", path)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 32)
	k, err := out.Read(buf)
	if err != nil {
		t.Fatalf("the middle process said nothing: %v (%v)", err, cmd.Wait())
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(buf[:k])))
	if err != nil {
		t.Fatal(err)
	}
	// The orphan becomes our child, so that we learn how it ended.
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0) }()
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	began := time.Now()
	late := time.AfterFunc(stopBound+time.Second, func() { _ = unix.Kill(pid, unix.SIGKILL) })
	defer late.Stop()
	var status unix.WaitStatus
	if _, err := unix.Wait4(pid, &status, 0, nil); err != nil {
		t.Fatal(err)
	}
	if !status.Exited() || status.ExitStatus() != exitFine {
		t.Errorf("the orphan ended with status %#x after %v, want exit %d within %v", status, time.Since(began), exitFine, stopBound)
	}
	t.Logf("the child ended %v after its parent", time.Since(began))

	// Its log and database were flushed: it restarts under the same IDs.
	restart := r.launch(n)
	restart.New = false
	p := r.start(r.launcher(n), restart)
	if s := r.await(p, "healthy", r.healthy); s.ID != r.ids[n.name] {
		t.Errorf("restarted as %s, want %s", s.ID, r.ids[n.name])
	}
}
