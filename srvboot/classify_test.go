package srvboot

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/server/v3/storage/wal"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

// createWAL makes a log as etcd does, with IDs and entries of these indexes.
func createWAL(t *testing.T, dir string, node, cluster uint64, entries ...uint64) {
	t.Helper()
	meta, err := proto.Marshal(&etcdserverpb.Metadata{NodeID: &node, ClusterID: &cluster})
	do(t, err)
	w, err := wal.Create(nil, dir, meta)
	do(t, err)
	for _, index := range entries {
		term := uint64(1)
		do(t, w.Save(&raftpb.HardState{Term: &term, Commit: &index}, []*raftpb.Entry{{Index: &index, Term: &term}}))
	}
	do(t, w.Close())
}

func parseHex(t *testing.T, id string) uint64 {
	t.Helper()
	n, err := strconv.ParseUint(id, 16, 64)
	do(t, err)
	return n
}

func do(t *testing.T, errs ...error) {
	t.Helper()
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
}

// lastWAL is the path of the log's last file, and the offset after its last record.
func lastWAL(t *testing.T, member string) (path string, end int64) {
	t.Helper()
	_, names, err := walFiles(filepath.Join(member, "wal"))
	do(t, err)
	path = filepath.Join(member, "wal", names[len(names)-1])
	data, err := os.ReadFile(path)
	do(t, err)
	return path, int64(len(strings.TrimRight(string(data), "\x00"))+7) &^ 7
}

func patch(t *testing.T, path string, offset int64, data []byte) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	do(t, err)
	_, err = f.WriteAt(data, offset)
	do(t, err, f.Close())
}

func TestClassify(t *testing.T) {
	member := memberData(t, 400) // long enough for several files of the log
	snapshots := memberData(t, 400, withSnapshots)
	stub := stubData(t)
	killed := killedData(t)
	cut := t.TempDir()
	_, err := testDisk(cut).Stamp("nonce")
	do(t, err)
	cutOffStart(t, cut)
	blank := t.TempDir()

	for _, tc := range []struct {
		name   string
		from   string
		damage func(t *testing.T, etcd, member string)
		phase  Phase // of the marker; none when empty
		change func(*Marker)
		want   Data
		cutOff bool
		why    string // part of the reason
	}{
		{name: "no directory", from: blank, want: None},
		{name: "no directory, but a marker", from: blank, phase: Running, want: None},
		{name: "empty directory", from: blank, want: None, damage: func(t *testing.T, etcd, _ string) { do(t, os.Mkdir(etcd, 0o700)) }},
		{name: "a file system's own directory", from: blank, want: None, damage: func(t *testing.T, etcd, _ string) { do(t, os.MkdirAll(etcd+"/lost+found", 0o700)) }},
		{name: "a torn write of the stamp", from: blank, phase: Accepted, want: None, damage: func(t *testing.T, etcd, _ string) {
			do(t, os.Mkdir(etcd, 0o700), os.WriteFile(etcd+"/.stamp.tmp-1", nil, 0o600))
		}},
		{name: "stamped", from: blank, phase: Born, want: Stamped, damage: stampOnly("nonce")},
		{name: "stamped, the marker has not named it yet", from: blank, phase: Accepted, change: func(m *Marker) { m.Stamp = "" }, want: None, damage: stampOnly("nonce")},
		{name: "stamped, no marker", from: blank, want: None, damage: stampOnly("nonce")},
		{name: "another's stamp", from: blank, phase: Born, want: Broken, why: "stamp", damage: stampOnly("other")},
		{name: "an empty stamp", from: blank, phase: Born, want: Broken, why: "damaged", damage: stampOnly("")},
		{name: "an unknown file", from: blank, phase: Born, want: Broken, why: "notes", damage: func(t *testing.T, etcd, member string) {
			stampOnly("nonce")(t, etcd, member)
			do(t, os.WriteFile(etcd+"/notes", nil, 0o600))
		}},
		{name: "a file instead of the directory", from: blank, want: Broken, why: "not a directory", damage: func(t *testing.T, etcd, _ string) { do(t, os.WriteFile(etcd, nil, 0o600)) }},

		{name: "a first start cut off before its log", from: cut, phase: Born, want: Stamped, cutOff: true},
		{name: "the same with wal.tmp", from: cut, phase: Joining, want: Stamped, cutOff: true, damage: func(t *testing.T, _, member string) {
			createWAL(t, member+"/wal", 1, 2)
			do(t, os.Rename(member+"/wal", member+"/wal.tmp"))
		}},
		{name: "the same, power cut before the database was synced", from: cut, phase: Born, want: Stamped, cutOff: true, damage: func(t *testing.T, _, member string) {
			do(t, os.WriteFile(member+"/snap/db", make([]byte, 16384), 0o600))
		}},
		{name: "the same, but this member ran", from: cut, phase: Running, want: Broken, why: "empty database and no write-ahead log"},
		{name: "the same without a marker", from: cut, want: Broken},
		{name: "the same under another stamp", from: cut, phase: Born, change: func(m *Marker) { m.Stamp = "x" }, want: Broken},
		{name: "the same with a directory for the log", from: cut, phase: Born, want: Broken, why: "member/wal", damage: func(t *testing.T, _, member string) { do(t, os.Mkdir(member+"/wal", 0o700)) }},
		{name: "the same with an old snapshot", from: cut, phase: Born, want: Broken, why: ".snap", damage: func(t *testing.T, _, member string) {
			do(t, os.WriteFile(member+"/snap/0000000000000002-0000000000000003.snap", nil, 0o600))
		}},
		{name: "the same with a database cut off", from: cut, phase: Born, want: Broken, why: "cannot be read", damage: func(t *testing.T, _, member string) { do(t, os.Truncate(member+"/snap/db", 8192)) }},

		{name: "stub", from: stub, phase: Born, want: Stub},
		{name: "stub of a joiner", from: stub, phase: Joining, want: Stub},
		{name: "stub, no marker", from: stub, want: Stub},
		{name: "stub without a database", from: stub, phase: Born, want: Stub, damage: func(t *testing.T, _, member string) { do(t, os.Remove(member+"/snap/db")) }},
		{name: "stub of another member", from: stub, phase: Born, change: func(m *Marker) { m.MemberID = "0000000000000001" }, want: Alien, why: "0000000000000001"},

		{name: "member", from: member, phase: Running, want: HasMember, why: "index"},
		{name: "member, no marker", from: member, want: HasMember},
		{name: "member, the marker has no ID yet", from: member, phase: Born, change: func(m *Marker) { m.MemberID = "" }, want: HasMember},
		{name: "member killed while it wrote", from: killed, phase: Running, want: HasMember},
		{name: "member with a torn last record", from: member, phase: Running, want: HasMember, damage: func(t *testing.T, _, member string) {
			path, end := lastWAL(t, member)
			patch(t, path, end, []byte{0xd0, 7, 0, 0, 0, 0, 0, 0, 8, 2}) // a length of 2000 and the start of an entry
		}},
		{name: "another member's data", from: member, phase: Running, change: func(m *Marker) { m.MemberID = "0000000000000001" }, want: Alien, why: "0000000000000001"},
		{name: "another cluster's data", from: member, phase: Running, change: func(m *Marker) { m.Accepted.Genesis.ClusterID = "0000000000000002" }, want: Alien, why: "0000000000000002"},
		{name: "data under the marker of a node that had none", from: member, phase: Promised, change: func(m *Marker) { m.MemberID, m.Accepted = "", nil }, want: Alien, why: "has had no member"},
		{name: "data of n0 on n1", from: member, phase: Born, change: func(m *Marker) {
			m.Node, m.MemberID = "n1", ""
			m.Accepted.Genesis.Members = append(m.Accepted.Genesis.Members, GenesisMember{"n1", "http://127.0.0.1:2"})
		}, want: Alien},

		{name: "the log wiped", from: member, phase: Born, want: Broken, why: "a database with data but no write-ahead log", damage: func(t *testing.T, _, member string) { do(t, os.RemoveAll(member+"/wal")) }},
		{name: "the log's files wiped", from: member, phase: Running, want: Broken, damage: func(t *testing.T, _, member string) {
			do(t, os.RemoveAll(member+"/wal"), os.Mkdir(member+"/wal", 0o700))
		}},
		{name: "the database wiped", from: member, phase: Running, want: Broken, why: "no database", damage: func(t *testing.T, _, member string) { do(t, os.Remove(member+"/snap/db")) }},
		{name: "the database cut off", from: member, phase: Running, want: Broken, why: "cut off", damage: func(t *testing.T, _, member string) { do(t, os.Truncate(member+"/snap/db", 12<<10)) }},
		{name: "the database overwritten", from: member, phase: Running, want: Broken, why: "not a database", damage: func(t *testing.T, _, member string) { patch(t, member+"/snap/db", 0, make([]byte, 16384)) }},
		{name: "an empty file in the log", from: member, phase: Running, want: Broken, damage: func(t *testing.T, _, member string) {
			path, _ := lastWAL(t, member)
			do(t, os.RemoveAll(member+"/wal"), os.Mkdir(member+"/wal", 0o700), os.WriteFile(path, nil, 0o600))
		}},
		{name: "a flipped bit in the log", from: member, phase: Running, want: Broken, why: "after byte", damage: func(t *testing.T, _, member string) {
			path, end := lastWAL(t, member)
			patch(t, path, end/2, []byte{0xff, 0xfe})
		}},
		{name: "the head of the log lost", from: member, phase: Running, want: Broken, why: "the log begins at index", damage: keepLastWAL},
		{name: "the head of the log purged after a snapshot", from: snapshots, phase: Running, want: HasMember, damage: keepLastWAL},
		{name: "a part of the log lost", from: member, phase: Running, want: Broken, why: "is missing before", damage: func(t *testing.T, _, member string) {
			_, names, err := walFiles(member + "/wal")
			do(t, err)
			if len(names) < 3 {
				t.Fatalf("only %d files in the log", len(names))
			}
			do(t, os.Remove(filepath.Join(member, "wal", names[1])))
		}},
		{name: "a file of the log cut off, and not the last", from: member, phase: Running, want: Broken, why: "unexpected EOF", damage: func(t *testing.T, _, member string) {
			_, names, err := walFiles(member + "/wal")
			do(t, err, os.Truncate(filepath.Join(member, "wal", names[0]), 70<<10))
		}},
		{name: "an entry missing in the log", from: member, phase: Running, want: Broken, why: "index 4 is missing", damage: func(t *testing.T, _, member string) {
			do(t, os.RemoveAll(member+"/wal"))
			m := etcdMarker(t, Running)
			createWAL(t, member+"/wal", parseHex(t, m.MemberID), parseHex(t, m.Accepted.Genesis.ClusterID), 1, 2, 5)
		}},
		{name: "a file of another name in the log", from: member, phase: Running, want: Broken, why: "not named", damage: func(t *testing.T, _, member string) {
			do(t, os.WriteFile(member+"/wal/copy.wal", nil, 0o600))
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := copyDir(t, tc.from)
			etcd := filepath.Join(dir, etcdDirName)
			if tc.damage != nil {
				tc.damage(t, etcd, filepath.Join(etcd, memberDirName))
			}
			var m *Marker
			if tc.phase != "" {
				made := etcdMarker(t, tc.phase)
				if tc.change != nil {
					tc.change(&made)
				}
				m = &made
			}
			before := fingerprint(t, dir)
			got := testDisk(dir).classify(m)
			if got.data != tc.want || !strings.Contains(got.why, tc.why) {
				t.Errorf("got %s (%s), want %s (%s)", got.data, got.why, tc.want, tc.why)
			}
			if got.cutOff != tc.cutOff {
				t.Errorf("cut off: %v, want %v", got.cutOff, tc.cutOff)
			}
			if withIDs := tc.want == Stub || tc.want == HasMember || tc.want == Alien; (got.memberID != "") != withIDs && tc.want != Broken {
				t.Errorf("IDs %q %q with class %s", got.memberID, got.clusterID, got.data)
			}
			if after := fingerprint(t, dir); after != before {
				t.Error("classification changed the directory")
			}
			if got.data == HasMember {
				startEtcd(t, etcdConfig(etcd, "token")) // etcd agrees
			}
		})
	}
}

func stampOnly(content string) func(*testing.T, string, string) {
	return func(t *testing.T, etcd, _ string) {
		do(t, os.Mkdir(etcd, 0o700), os.WriteFile(filepath.Join(etcd, stampFile), []byte(content+"\n"), 0o600))
	}
}

func keepLastWAL(t *testing.T, _, member string) {
	_, names, err := walFiles(filepath.Join(member, "wal"))
	do(t, err)
	if len(names) < 3 {
		t.Fatalf("only %d files in the log", len(names))
	}
	for _, n := range names[:len(names)-1] {
		do(t, os.Remove(filepath.Join(member, "wal", n)))
	}
}
