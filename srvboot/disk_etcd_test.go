package srvboot

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3client"
	"go.etcd.io/etcd/server/v3/storage/wal"
)

// smallWAL is a segment size at which copies of a data directory cost nothing; etcd's own is 64 MB.
const smallWAL = 256 << 10

// valueSize makes a log of several files out of a few hundred keys.
const valueSize = 2 << 10

// etcdConfig is a one-member cluster on loopback ports of the kernel's choice. Nobody dials the advertised URLs.
func etcdConfig(dir, token string) *embed.Config {
	cfg := embed.NewConfig()
	cfg.Dir, cfg.Name = dir, "n0"
	cfg.LogLevel, cfg.LogOutputs = "fatal", []string{os.DevNull}
	free := []url.URL{{Scheme: "http", Host: "127.0.0.1:0"}}
	advertised := []url.URL{{Scheme: "http", Host: "127.0.0.1:1"}}
	cfg.ListenPeerUrls, cfg.ListenClientUrls = free, free
	cfg.AdvertisePeerUrls, cfg.AdvertiseClientUrls = advertised, advertised
	cfg.InitialCluster = "n0=http://127.0.0.1:1"
	cfg.InitialClusterToken = token
	cfg.TickMs, cfg.ElectionMs = 10, 100
	cfg.UnsafeNoFsync = true // no power is cut here
	return cfg
}

func startEtcd(t *testing.T, cfg *embed.Config) (started *embed.Etcd, stop func()) {
	t.Helper()
	e, err := embed.StartEtcd(cfg)
	if err != nil {
		t.Fatalf("start etcd: %v", err)
	}
	stop = sync.OnceFunc(func() { closeEtcd(e) }) // etcd's own may run once only
	t.Cleanup(stop)
	select {
	case <-e.Server.ReadyNotify():
	case err := <-e.Err():
		t.Fatalf("etcd died: %v", err)
	case <-time.After(30 * time.Second):
		t.Fatal("etcd did not become ready")
	}
	return e, stop
}

// closeEtcd also ends a server that never became ready: for that one Close alone would wait for ever (embed/etcd.go).
func closeEtcd(e *embed.Etcd) {
	select {
	case <-e.Server.ReadyNotify():
	default:
		e.Server.HardStop()
	}
	e.Close()
}

func putKeys(t *testing.T, e *embed.Etcd, prefix string, n int) {
	t.Helper()
	c := v3client.New(e.Server)
	defer c.Close()
	for i := range n {
		if _, err := c.Put(t.Context(), fmt.Sprintf("%s%d", prefix, i), strings.Repeat("v", valueSize)); err != nil {
			t.Fatalf("put: %v", err)
		}
	}
}

// useSmallWAL shrinks the log's segments for a test.
func useSmallWAL(t *testing.T) {
	t.Helper()
	old := wal.SegmentSizeBytes
	wal.SegmentSizeBytes = smallWAL
	t.Cleanup(func() { wal.SegmentSizeBytes = old })
}

// etcdMarker is the marker of the member that etcdConfig makes.
func etcdMarker(t *testing.T, phase Phase) Marker {
	t.Helper()
	g := Genesis{ID: "token", Generation: 1, Members: []GenesisMember{{Name: "n0", PeerURL: "http://127.0.0.1:1"}}, Digest: "d"}
	cluster, ids, err := IDs(g.Members, g.ID)
	if err != nil {
		t.Fatal(err)
	}
	g.ClusterID = cluster
	return Marker{
		Format: Format, Bundle: "b", Node: "n0", Phase: phase, Stamp: "nonce", MemberID: ids["n0"],
		Accepted: &Acceptance{Ballot: Ballot{N: 1, By: "n0"}, Genesis: g},
	}
}

func testDisk(dir string) *Disk {
	return NewDisk(DiskOptions{Dir: dir, Node: "n0", Bundle: "b"})
}

func mustFacts(t *testing.T, dir string) DiskFacts {
	t.Helper()
	f, err := testDisk(dir).Facts()
	if err != nil {
		t.Fatalf("facts: %v", err)
	}
	return f
}

// memberData makes a data directory whose etcd/ was written by a real member that stopped in order.
func memberData(t *testing.T, keys int, options ...func(*embed.Config)) string {
	t.Helper()
	useSmallWAL(t)
	dir := t.TempDir()
	d := testDisk(dir)
	if _, err := d.Stamp("nonce"); err != nil {
		t.Fatal(err)
	}
	cfg := etcdConfig(d.EtcdDir(), "token")
	for _, o := range options {
		o(cfg)
	}
	e, stop := startEtcd(t, cfg)
	putKeys(t, e, "old", keys)
	stop()
	return dir
}

// withSnapshots has etcd take snapshots, so that the log's first files are no longer needed.
func withSnapshots(cfg *embed.Config) { cfg.SnapshotCount = 10 }

// killedData is memberData of a process that got SIGKILL in the middle of writing.
func killedData(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if _, err := testDisk(dir).Stamp("nonce"); err != nil {
		t.Fatal(err)
	}
	h := startHelper(t, "etcd", filepath.Join(dir, etcdDirName))
	h.waitFor(t, "written 20")
	h.kill(t)
	return dir
}

// helperEtcd runs in the helper process: it writes until it is killed.
func helperEtcd(dir string) error {
	wal.SegmentSizeBytes = smallWAL
	e, err := embed.StartEtcd(etcdConfig(dir, "token"))
	if err != nil {
		return err
	}
	<-e.Server.ReadyNotify()
	c := v3client.New(e.Server)
	for i := 1; ; i++ {
		if _, err := c.Put(context.Background(), fmt.Sprintf("old%d", i), strings.Repeat("v", valueSize)); err != nil {
			return err
		}
		if i%20 == 0 {
			fmt.Printf("written %d\n", i)
		}
	}
}

// stubData is a directory in which a member got no further than the creation of its log (C5): made by etcd, whose
// log is then made again as wal.Create leaves it.
func stubData(t *testing.T) string {
	t.Helper()
	dir := memberData(t, 1)
	walDir := filepath.Join(dir, etcdDirName, memberDirName, "wal")
	_, names, err := walFiles(walDir)
	if err != nil {
		t.Fatal(err)
	}
	facts, err := readWAL(walDir, names)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(dir, etcdDirName, memberDirName)); err != nil {
		t.Fatal(err)
	}
	cutOffStart(t, dir)
	createWAL(t, walDir, facts.nodeID, facts.clusterID)
	return dir
}

// cutOffStart has etcd make what it makes before its log: it starts for a cluster that it cannot reach.
func cutOffStart(t *testing.T, dir string) {
	t.Helper()
	cfg := etcdConfig(filepath.Join(dir, etcdDirName), "token")
	cfg.ClusterState = embed.ClusterStateFlagExisting
	cfg.InitialCluster += ",n1=http://127.0.0.1:2"
	e, err := embed.StartEtcd(cfg)
	if err == nil {
		e.Close()
		t.Fatal("etcd joined a cluster that does not exist")
	}
	if _, err := os.Stat(filepath.Join(dir, etcdDirName, memberDirName, "snap", "db")); err != nil {
		t.Fatalf("etcd left no database behind, the test shows nothing: %v", err)
	}
}

func copyDir(t *testing.T, from string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "data")
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	return to
}

// fingerprint of every file below dir: path, size, mode, time of change.
func fingerprint(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil && !e.IsDir() {
			return err
		}
		fmt.Fprintln(&b, path, info.Size(), info.Mode(), info.ModTime().UnixNano(), len(data))
		b.Write(data)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// TestWipedLogForgetsWrites is C1 on the etcd that we build with: it starts as new on an old database without a log,
// acknowledges writes and shows the old ones. Our classification is what stands before it.
func TestWipedLogForgetsWrites(t *testing.T) {
	const old, fresh = 300, 20
	dir := memberData(t, old)
	if err := os.RemoveAll(filepath.Join(dir, etcdDirName, memberDirName, "wal")); err != nil {
		t.Fatal(err)
	}
	for _, phase := range []Phase{Born, Joining, Running} {
		m := etcdMarker(t, phase)
		if got := testDisk(dir).classify(&m); got.data != Broken || got.why != "a database with data but no write-ahead log" {
			t.Errorf("phase %s: got %s (%s), want broken for its database", phase, got.data, got.why)
		}
	}
	if got := testDisk(dir).classify(nil); got.data != Broken {
		t.Errorf("without a marker: got %s (%s), want broken", got.data, got.why)
	}

	// The others are blank, so the cluster is a new one; their log starts below what the old database has applied.
	servers := newCluster(t, filepath.Join(dir, etcdDirName))
	putKeys(t, servers[1], "new", fresh)
	c := v3client.New(servers[0].Server)
	defer c.Close()
	for prefix, want := range map[string]int{"old": old, "new": 0} {
		found := 0
		for i := range max(old, fresh) {
			found += countKey(t, c, fmt.Sprintf("%s%d", prefix, i))
		}
		if found != want {
			t.Errorf("etcd shows %d keys %s…, want %d: this etcd no longer behaves as C1 says", found, prefix, want)
		}
	}
}

// countKey reads linearizably, again when an election comes between.
func countKey(t *testing.T, c *clientv3.Client, key string) (n int) {
	t.Helper()
	eventually(t, "a linearizable read", func() bool {
		r, err := c.Get(t.Context(), key)
		if err == nil {
			n = len(r.Kvs)
		}
		return err == nil
	})
	return n
}

// newCluster starts three members as new, the first of them on dir, and waits for the two others.
func newCluster(t *testing.T, dir string) (servers [3]*embed.Etcd) {
	t.Helper()
	dirs := []string{dir, t.TempDir(), t.TempDir()}
	var peers []url.URL
	var initial []string
	for i := range dirs {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		do(t, err)
		peers = append(peers, url.URL{Scheme: "http", Host: l.Addr().String()})
		initial = append(initial, fmt.Sprintf("n%d=%s", i, &peers[i]))
		do(t, l.Close())
	}
	for i, d := range dirs {
		cfg := etcdConfig(d, "another token")
		cfg.Name = fmt.Sprintf("n%d", i)
		cfg.ListenPeerUrls, cfg.AdvertisePeerUrls = peers[i:i+1], peers[i:i+1]
		cfg.InitialCluster = strings.Join(initial, ",")
		cfg.TickMs, cfg.ElectionMs = 50, 500
		e, err := embed.StartEtcd(cfg)
		do(t, err)
		t.Cleanup(func() { closeEtcd(e) })
		servers[i] = e
	}
	for _, e := range servers[1:] {
		select {
		case <-e.Server.ReadyNotify():
		case <-time.After(20 * time.Second):
			t.Fatal("the new cluster has no leader")
		}
	}
	return servers
}

// TestStubStaysLeaderless is C5: etcd restarts a log without entries and without voters, and never has a leader.
func TestStubStaysLeaderless(t *testing.T) {
	dir := stubData(t)
	m := etcdMarker(t, Born)
	if got := testDisk(dir).classify(&m); got.data != Stub {
		t.Fatalf("got %s (%s), want stub", got.data, got.why)
	}
	e, err := embed.StartEtcd(etcdConfig(filepath.Join(dir, etcdDirName), "token"))
	if err != nil {
		t.Fatalf("start etcd on the stub: %v", err)
	}
	defer closeEtcd(e)
	// Ten times the longest election: 19 ticks of 10 ms.
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	select {
	case <-e.Server.ReadyNotify():
		t.Error("etcd has a leader on a log without entries: C5 no longer holds")
	case <-ctx.Done():
	}
}

// helper is this test binary in another process, see TestDiskHelperProcess.
type helper struct {
	cmd *exec.Cmd
	out chan string
}

const helperEnv = "SRVBOOT_DISK_TEST_HELPER"

func startHelper(t *testing.T, args ...string) *helper {
	t.Helper()
	return startHelperWith(t, nil, args...)
}

func startHelperWith(t *testing.T, inherit *os.File, args ...string) *helper {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestDiskHelperProcess$")
	cmd.Env = append(os.Environ(), helperEnv+"="+strings.Join(args, "\n"))
	if inherit != nil {
		cmd.ExtraFiles = []*os.File{inherit}
	}
	h := &helper{cmd: cmd, out: make(chan string, 100)}
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	// The helper ends when its standard input does, should this process die.
	if _, err := cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go h.read(pipe) // ends with the helper's output
	t.Cleanup(func() { h.kill(t) })
	return h
}

func (h *helper) kill(t *testing.T) {
	t.Helper()
	if h.cmd.ProcessState != nil {
		return
	}
	if err := h.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		t.Error(err)
	}
	_ = h.cmd.Wait() // it says "killed"
}
