package follow

import (
	"fmt"
	"math"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"

	"github.com/etcd-dns/etcd-dns/roster"
)

func list(index uint64, names ...string) roster.Followed {
	l := roster.Followed{ClusterID: "00000000000000c1", Index: index}
	for i, n := range names {
		l.Members = append(l.Members, roster.FollowedMember{ID: fmt.Sprintf("%016x", i+1), Name: n, PeerURLs: []string{"http://" + n + ":2380"}})
	}
	return l
}

func TestAgreed(t *testing.T) {
	tells := func(l roster.Followed) answer { return answer{list: l} }
	silent := answer{err: fmt.Errorf("no leader")}
	honest, lie, much := list(7, "x", "y"), list(math.MaxUint64, "liar"), list(math.MaxUint64, "x", "y")
	for _, c := range []struct {
		name    string
		answers []answer
		want    string
		index   uint64
	}{
		{"one", []answer{tells(honest)}, "x y", 7},
		{"one lies", []answer{tells(lie), tells(honest), tells(honest)}, "x y", 7},
		{"one lies about the date", []answer{tells(much), tells(honest), tells(honest)}, "x y", 7},
		{"one of two lies about the date", []answer{tells(much), tells(honest)}, "x y", 7},
		{"one of two lies", []answer{tells(lie), tells(honest)}, "", 0},
		{"one lies and one cannot tell", []answer{tells(lie), tells(honest), silent}, "", 0},
		{"one lies and two cannot tell", []answer{tells(lie), silent, silent}, "", 0},
		{"two of three", []answer{silent, tells(honest), tells(honest)}, "x y", 7},
		{"half", []answer{silent, silent, tells(honest), tells(honest)}, "", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, errs := agreed(c.answers)
			var names []string
			for _, m := range got.Members {
				names = append(names, m.Name)
			}
			if strings.Join(names, " ") != c.want || got.Index != c.index || (errs == nil) != (c.want != "") {
				t.Errorf("got %v at %d (%v), want %q at %d", names, got.Index, errs, c.want, c.index)
			}
		})
	}
}

// A list of an earlier date is a restored cluster's when its members go on telling it, and only then; all nodes take it
// for newer than what they knew, whatever index that had.
func TestRestoredByAgreement(t *testing.T) {
	type told struct {
		at    time.Duration
		list  roster.Followed
		taken bool
	}
	const limit = 5 * time.Minute
	old, back, other := list(100, "x", "y"), list(5, "x", "z"), list(6, "x", "w")
	// every tells l from a to b, each time within the gap.
	every := func(a, b time.Duration, l roster.Followed) (out []told) {
		for ; a < b; a += agreeGap {
			out = append(out, told{a, l, false})
		}
		return out
	}
	for _, c := range []struct {
		name  string
		known roster.Followed
		told  []told
	}{
		{"for long", old, append(every(0, limit, back), told{limit, back, true})},
		{"after a lie with the highest index", list(math.MaxUint64, "liar"), append(every(0, limit, back), told{limit, back, true})},
		{"with a gap", old, []told{{0, back, false}, {limit, back, false}, {2 * limit, back, false}}},
		{"another one in between", old, append(append(every(0, limit, back), told{limit - 1, other, false}), told{limit, back, false})},
		{"the known one in between", old, append(append(every(0, limit, back), told{limit - 1, old, true}), told{limit, back, false})},
		{"the index catches up", old, []told{{0, back, false}, {1, list(101, "x", "z"), true}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := New(Options{File: filepath.Join(t.TempDir(), "list"), Log: zap.NewNop(), Changed: func() {}, Restored: limit})
			f.list = c.known
			begin := time.Now().Add(-time.Hour)
			for _, told := range c.told {
				err := f.agreeLocked(told.list, begin.Add(told.at))
				now, _ := f.List()
				if now.Same(told.list) != told.taken || (err == nil) != told.taken {
					t.Fatalf("after %v: known is %+v, %v; want it taken: %v", told.at, now, err, told.taken)
				}
				if err != nil && !strings.Contains(err.Error(), "restored from a snapshot") {
					t.Errorf("the fault does not say what to do: %v", err)
				}
				if !now.Same(c.known) && !now.Later(c.known) {
					t.Errorf("for other nodes it is no newer: %+v after %+v", now, c.known)
				}
			}
		})
	}
}

// What another node tells is not taken while the members tell something else, and its generation is when they do not.
func TestLearnAgainstTheMembers(t *testing.T) {
	f := New(Options{File: filepath.Join(t.TempDir(), "list"), Log: zap.NewNop(), Changed: func() {}, Restored: time.Hour})
	want := func(what string, l roster.Followed) {
		t.Helper()
		if now, _ := f.List(); !now.Same(l) || now.Generation != l.Generation {
			t.Fatalf("%s: known is %+v, want %+v", what, now, l)
		}
	}
	honest, lie, back := list(100, "x", "y"), list(math.MaxUint64, "liar"), list(5, "x", "z")
	if err := f.agreeLocked(honest, time.Now()); err != nil {
		t.Fatal(err)
	}
	f.Learn(lie)
	want("the members say otherwise", honest)
	if err := f.agreeLocked(back, time.Now()); err == nil {
		t.Fatal("taken at once")
	}
	back.Generation = 1
	f.Learn(back)
	want("they tell it too, and another node has waited", back)
	again := back
	again.Generation = 2
	f.Learn(again)
	want("one list, dated alike", again)
	if g := New(Options{File: f.o.File, Log: zap.NewNop()}); g.list.Generation != 2 {
		t.Errorf("the file has generation %d, want 2", g.list.Generation)
	}
	huge := list(math.MaxUint64, make([]string, 65)...)
	f.agreement = agreement{}
	huge.Generation = 3
	f.Learn(huge)
	want("a list beyond all bounds", again)
	lie.Generation = 3
	f.Learn(lie)
	want("nothing is known against it", lie)
}

// Over the wire, of three members one lies: with many members, the highest index, in the name of another. What is true
// goes on being followed.
func TestOneLiar(t *testing.T) {
	fakes := []*fake{startFake(t, 1), startFake(t, 2), startFake(t, 3)}
	var all []*pb.Member
	var endpoints []string
	for i, f := range fakes {
		all = append(all, member(uint64(i+1), fmt.Sprintf("old%d", i), f.url))
		endpoints = append(endpoints, f.url)
	}
	truth := func(index uint64, members ...*pb.Member) {
		for _, f := range fakes[1:] {
			f.tell(index, members...)
		}
	}
	truth(10, all...)
	fakes[0].tell(10, all...)
	f, _ := begin(t, Options{Endpoints: endpoints, File: filepath.Join(t.TempDir(), "list"), Restored: time.Hour})
	wait(t, "three members", has(f, 3, "old0 old1 old2"))

	var many []*pb.Member
	for i := range 12_000 {
		many = append(many, member(uint64(i+1), fmt.Sprint("x", i), fmt.Sprintf("http://10.9.%d.%d:2379", i>>8, i&255)))
	}
	for i, lie := range [][]*pb.Member{many, many[:65], all[:1]} {
		fakes[0].tell(math.MaxUint64, lie...)
		fakes[0].edit(func() { fakes[0].status.Header = &pb.ResponseHeader{ClusterId: fakeCluster, MemberId: uint64(i + 1)} })
		begun := fakes[0].tellings()
		wait(t, "the lie is told", func() string {
			if s := f.Status(); len(s.List.Members) != 3 {
				t.Fatalf("a lie is taken: %d members", len(s.List.Members))
			}
			if n := fakes[0].tellings() - begun; n < 4 {
				return fmt.Sprintf("%d times", n)
			}
			return ""
		})
		truth(uint64(11+2*i), all[:2]...)
		wait(t, "a member goes", has(f, 2, "old0 old1"))
		truth(uint64(12+2*i), all...)
		wait(t, "and comes back", has(f, 3, "old0 old1 old2"))
	}
	if l, _ := f.List(); l.Index > 20 || l.Generation != 0 {
		t.Errorf("the list has the date %d, %d", l.Generation, l.Index)
	}
}

// Alone, a liar is believed within bounds; the truth comes back when it tells it again.
func TestLiarAlone(t *testing.T) {
	one := startFake(t, 1)
	var many []*pb.Member
	for i := range 12_000 {
		many = append(many, member(uint64(i+1), "x", "http://192.0.2.1:2379"))
	}
	one.tell(math.MaxUint64, many...)
	f, _ := begin(t, Options{Endpoints: []string{one.url}, File: filepath.Join(t.TempDir(), "list"), Restored: 500 * time.Millisecond})
	wait(t, "more than is read", faulty(f, "larger than max"))
	one.tell(math.MaxUint64, many[:65]...)
	wait(t, "too many", faulty(f, "65 members, at most 64"))
	one.tell(math.MaxUint64, many[:1]...)
	wait(t, "the lie", has(f, 1, "x"))
	one.tell(5, member(1, "y", one.url))
	wait(t, "the truth", has(f, 1, "y"))
	if l, _ := f.List(); l.Generation != 1 || l.Index != 5 {
		t.Errorf("its date is %d, %d, want 1, 5", l.Generation, l.Index)
	}
}

// An etcd that begins anew under its old name and token has its old ID, and a lower raft index: as after a restore.
func TestRestoredEtcd(t *testing.T) {
	at, peer := freeAddr(t), freeAddr(t)
	same := func(c *embed.Config) { c.ListenPeerUrls = []url.URL{mustURL(t, "http://"+peer)} }
	stop := serve(t, at, same)
	f, _ := begin(t, Options{Endpoints: []string{"http://" + at}, File: filepath.Join(t.TempDir(), "list"), Restored: 2 * time.Second})
	wait(t, "the one member", has(f, 1, "old0"))
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{at}, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for range 20 {
		if _, err := c.Put(t.Context(), "a", "b"); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.MemberAddAsLearner(t.Context(), []string{"http://192.0.2.7:2380"}); err != nil {
		t.Fatal(err)
	}
	wait(t, "a member more", has(f, 2, "old0"))
	before, _ := f.List()
	stop()
	serve(t, at, same)
	wait(t, "the fault", faulty(f, "restored from a snapshot"))
	wait(t, "its list", has(f, 1, "old0"))
	wait(t, "no fault", faulty(f, ""))
	now, _ := f.List()
	if now.ClusterID != before.ClusterID || now.Index >= before.Index || now.Generation != 1 {
		t.Errorf("%+v after %+v: the case is not the one that is meant", now, before)
	}
}
