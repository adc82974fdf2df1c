package zone

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/etcd-dns/etcd-dns/internal/durable"
	"github.com/etcd-dns/etcd-dns/roster"
)

// today is what the clock says in most tests.
var today = time.Date(2026, 11, 22, 20, 0, 0, 0, time.UTC)

// day is the counter of a time.
func day(t time.Time) uint32 { return uint32(t.Unix()>>slotBits) & counterMask }

// fakeClock is set by the test.
type fakeClock struct{ now time.Time }

func (c *fakeClock) time() time.Time { return c.now }

func newSerials(t *testing.T, slot int) (*Serials, *fakeClock) {
	t.Helper()
	clock := &fakeClock{now: today}
	return NewSerials(filepath.Join(t.TempDir(), "serial.json"), slot, clock.time), clock
}

// restart returns what a new process makes of the same file.
func restart(s *Serials) *Serials { return NewSerials(s.file.path, int(s.slot), s.now) }

func choose(t *testing.T, s *Serials, digest string, peers ...Published) uint32 {
	t.Helper()
	serial, warning, err := s.choose(digest, peers)
	if err != nil || warning != nil {
		t.Fatalf("choose(%q): %v, warning %v", digest, err, warning)
	}
	return serial
}

func TestLater(t *testing.T) {
	// RFC 1982 §3.2 and its examples for 32 bits (§5).
	for _, tc := range []struct {
		a, b uint32
		want bool
	}{
		{1, 0, true}, {0, 1, false}, {7, 7, false}, {44, 0, true}, {0, 0xffffffff, true}, {0xffffffff, 0, false},
		{100, 0xffffff00, true}, {0x7fffffff, 0, true}, {0x80000000, 0, false}, {0, 0x80000000, false}, {0x80000001, 0, false},
	} {
		if got := Later(tc.a, tc.b); got != tc.want {
			t.Errorf("Later(%#x, %#x) = %v, want %v", tc.a, tc.b, got, tc.want)
		}
	}
}

func TestMint(t *testing.T) {
	now := day(today)
	for _, tc := range []struct {
		name string
		// high is the highest counter known, if known.
		high  uint32
		known bool
		clock time.Time
		slot  int
		want  uint32
	}{
		{"first", 0, false, today, 5, now<<6 | 5},
		{"first, clock not set", 0, false, time.Unix(0, 0), 5, 1<<6 | 5},
		{"clock ahead", now - 1000, true, today, 0, now << 6},
		{"same 64 seconds", now, true, today, 0, (now + 1) << 6},
		{"clock behind", now + 9, true, today, 63, (now+10)<<6 | 63},
		{"clock at 1970", now, true, time.Unix(0, 0), 1, (now+1)<<6 | 1},
		{"clock before 1970", now, true, time.Unix(-1e6, 0), 1, (now+1)<<6 | 1},
		{"clock 300 days ahead", now, true, today.AddDate(0, 0, 300), 1, day(today.AddDate(0, 0, 300))<<6 | 1},
		{"clock 10 years ahead", now, true, today.AddDate(10, 0, 0), 1, (now+1)<<6 | 1},
		{"first after a boot at 1970", 1, true, today, 1, 2<<6 | 1},
		{"wrap-around", counterMask, true, today, 3, 0<<6 | 3},
		{"wrap-around to 0", counterMask, true, today, 0, 1 << 6},
		{"clock wraps around in 2106", counterMask, true, time.Unix(1<<32+6400, 0), 2, 100<<6 | 2},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s, clock := newSerials(t, tc.slot)
			clock.now, s.high, s.known, s.loaded = tc.clock, tc.high, tc.known, true
			got := s.mint()
			if got != tc.want {
				t.Errorf("serial %d (counter %d), want %d (counter %d)", got, got>>6, tc.want, tc.want>>6)
			}
			if tc.known && !counterAfter(got>>6, tc.high) {
				t.Errorf("counter %d does not come after %d", got>>6, tc.high)
			}
		})
	}
}

func TestClockTenYearsAheadThenBack(t *testing.T) {
	for _, first := range []time.Time{today, today.AddDate(10, 0, 0)} {
		s, clock := newSerials(t, 1)
		last := uint32(0)
		for i, now := range []time.Time{first, today.AddDate(10, 0, 0), today, time.Unix(0, 0), today.Add(time.Hour)} {
			clock.now = now
			if i%2 == 1 {
				s = restart(s)
			}
			serial := choose(t, s, string(rune('a'+i)))
			if last != 0 && (!Later(serial, last) || serial-last > (maxLead+block+1)<<slotBits) {
				t.Errorf("first clock %v, now %v: serial %d after %d", first, now, serial, last)
			}
			last = serial
		}
	}
}

func TestOneSerialOneContent(t *testing.T) {
	s, _ := newSerials(t, 1)
	meaning := map[uint32]string{}
	for i := range 500 {
		if i%7 == 0 {
			s = restart(s)
		}
		digest := string(rune('a' + i%11))
		serial := choose(t, s, digest)
		if was, ok := meaning[serial]; ok && was != digest {
			t.Fatalf("serial %d names %q and %q", serial, was, digest)
		}
		meaning[serial] = digest
	}
	if len(meaning) != 500 {
		t.Errorf("%d serials for 500 changes", len(meaning))
	}
}

func TestSameContentKeepsItsSerial(t *testing.T) {
	s, clock := newSerials(t, 1)
	first := choose(t, s, "a")
	clock.now = clock.now.Add(time.Hour)
	if got := choose(t, s, "a"); got != first {
		t.Errorf("serial %d, want %d", got, first)
	}
	if got := choose(t, restart(s), "a"); got != first {
		t.Errorf("after a restart serial %d, want %d", got, first)
	}
}

func TestAdoption(t *testing.T) {
	base := day(today) << slotBits
	for _, tc := range []struct {
		name string
		// own is the content served before under serial base, if any.
		own   string
		peers []Published
		want  uint32
	}{
		{"new node", "", []Published{{base + 2, "a"}}, base + 2},
		{"new node, the latest of two", "", []Published{{base + 2, "a"}, {base + 66, "a"}, {base + 130, "b"}}, base + 66},
		{"new node or lost disk, the peer is behind the clock", "", []Published{{base - 62, "a"}}, base},
		{"new node or lost disk, the peer is a year behind", "", []Published{{base - maxLead<<slotBits - 62, "a"}}, base - maxLead<<slotBits - 62},
		{"new content that a peer has", "z", []Published{{base + 66, "a"}}, base + 66},
		{"same content, both minted", "a", []Published{{base + 3, "a"}}, base + 3},
		{"same content, peer is behind", "a", []Published{{base - 3, "a"}}, base},
		{"peer is behind", "z", []Published{{base - 3, "a"}}, base + 64},
		{"another content", "z", []Published{{base + 6400, "b"}}, base + 6464},
		{"a peer without a serial", "z", []Published{{0, "a"}}, base + 64},
		{"one serial with two contents", "z", []Published{{base + 66, "a"}, {base + 66, "b"}}, base + 128},
		{"own serial disputed", "a", []Published{{base, "b"}}, base + 64},
		{"the peer is half the space away", "z", []Published{{base + 1<<31, "a"}}, base + 64},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s, _ := newSerials(t, 0)
			if tc.own != "" {
				if got := choose(t, s, tc.own); got != base {
					t.Fatalf("first serial %d, want %d", got, base)
				}
			}
			if got := choose(t, s, "a", tc.peers...); got != tc.want {
				t.Errorf("serial %d, want %d", got, tc.want)
			}
			// What was chosen outlives the process.
			if got := choose(t, restart(s), "a"); got != tc.want {
				t.Errorf("after a restart serial %d, want %d", got, tc.want)
			}
		})
	}
}

// TestLostDiskDoesNotGoBack: a node that served alone, and lost its disk, leads its secondaries on.
func TestLostDiskDoesNotGoBack(t *testing.T) {
	s, clock := newSerials(t, 1)
	peer := Published{choose(t, s, "a"), "a"}
	clock.now = clock.now.Add(time.Hour)
	alone := choose(t, s, "b", peer) // and no peer hears of it
	clock.now = clock.now.Add(time.Hour)
	if err := os.Remove(s.file.path); err != nil {
		t.Fatal(err)
	}
	if got := choose(t, restart(s), "a", peer); !Later(got, alone) {
		t.Errorf("serial %d after %d: a secondary keeps the content of the latter", got, alone)
	}
	// Without a clock only the peers are left to go by.
	clock.now = time.Unix(0, 0)
	if err := os.Remove(s.file.path); err != nil {
		t.Fatal(err)
	}
	if got := choose(t, restart(s), "a", peer); got != peer.Serial {
		t.Errorf("serial %d, want the peer's %d", got, peer.Serial)
	}
}

func TestNodesAgree(t *testing.T) {
	// Three nodes that mint for one content at once meet at the latest of their serials.
	var nodes []*Serials
	var served []Published
	for slot := range 3 {
		s, clock := newSerials(t, slot)
		clock.now = today.Add(time.Duration(slot) * time.Hour)
		nodes = append(nodes, s)
		served = append(served, Published{choose(t, s, "a"), "a"})
	}
	latest := served[2].Serial
	for i, s := range nodes {
		if got := choose(t, s, "a", served...); got != latest {
			t.Errorf("node %d: serial %d, want %d", i, got, latest)
		}
	}
}

func TestFullDisk(t *testing.T) {
	s, _ := newSerials(t, 1)
	last := choose(t, s, "before")
	s.file.write = func(string, []byte) error { return syscall.ENOSPC }
	for i := range block {
		serial, warning, err := s.choose(string(rune('a'+i)), nil)
		if err != nil || !errors.Is(warning, syscall.ENOSPC) || !Later(serial, last) {
			t.Fatalf("change %d: serial %d after %d, warning %v, error %v", i, serial, last, warning, err)
		}
		last = serial
	}
	if _, _, err := s.choose("one too many", nil); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("error %v, want %v", err, syscall.ENOSPC)
	}
	// A peer's serial needs no reservation.
	adopted := Published{last + 6400, "one too many"}
	if serial, warning, err := s.choose(adopted.Digest, []Published{adopted}); serial != adopted.Serial || warning == nil || err != nil {
		t.Errorf("serial %d, warning %v, error %v; want %d and a warning", serial, warning, err, adopted.Serial)
	}
	// After a restart nothing that was served is minted again.
	next := choose(t, restart(s), "after")
	if !Later(next, last) {
		t.Errorf("serial %d after %d", next, last)
	}
	// With room again the same content is recorded.
	s.file.write = writeRecord
	if serial, warning, err := s.choose(adopted.Digest, nil); serial != adopted.Serial || warning != nil || err != nil {
		t.Errorf("serial %d, warning %v, error %v; want %d", serial, warning, err, adopted.Serial)
	}
	if r, err := s.file.load(); err != nil || r.Serial != adopted.Serial {
		t.Errorf("record %+v, %v; want serial %d", r, err, adopted.Serial)
	}
}

func TestFullDiskAtTheFirstSerial(t *testing.T) {
	s, _ := newSerials(t, 1)
	s.file.write = func(string, []byte) error { return syscall.ENOSPC }
	if _, _, err := s.choose("a", nil); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("error %v, want %v: nothing is reserved", err, syscall.ENOSPC)
	}
}

// TestRealFullDisk needs a file system of its own, hence root.
func TestRealFullDisk(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=64k"); err != nil {
		t.Skipf("cannot mount a small file system: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	s := NewSerials(filepath.Join(dir, "serial.json"), 1, func() time.Time { return today })
	first := choose(t, s, "a")
	if err := os.WriteFile(filepath.Join(dir, "ballast"), make([]byte, 1<<20), 0o600); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("filling the disk: %v, want %v", err, syscall.ENOSPC)
	}
	if err := durable.WriteFile(filepath.Join(dir, "other"), make([]byte, recordSize), 0o600); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("a second file on the full disk: %v, want %v", err, syscall.ENOSPC)
	}
	// The record is overwritten, so the zone may change as often as it likes, and a start knows what was served last.
	last := first
	for i := range 2*block + 1 {
		serial := choose(t, s, fmt.Sprint("b", i))
		if !Later(serial, last) {
			t.Fatalf("change %d: serial %d after %d", i, serial, last)
		}
		last = serial
	}
	s = restart(s)
	if got := choose(t, s, fmt.Sprint("b", 2*block)); got != last {
		t.Errorf("after a restart serial %d, want %d", got, last)
	}
	s = restart(s)
	back := choose(t, s, "a")
	if !Later(back, last) {
		t.Errorf("after a restart with the first content serial %d, want one after %d", back, last)
	}
	// Where nothing can be written the reserve of the last record serves, and says so.
	remount := func(flags uintptr) {
		if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_REMOUNT|flags, "size=64k"); err != nil {
			t.Fatal(err)
		}
	}
	remount(unix.MS_RDONLY)
	reserve, warning, err := s.choose("c", nil)
	if err != nil || !errors.Is(warning, syscall.EROFS) || !Later(reserve, back) {
		t.Fatalf("read-only: serial %d after %d, warning %v, error %v", reserve, back, warning, err)
	}
	if _, warning, _ := s.choose("c", nil); !errors.Is(warning, syscall.EROFS) {
		t.Errorf("read-only, asked again: warning %v", warning)
	}
	remount(0)
	if got := choose(t, s, "c"); got != reserve {
		t.Errorf("serial %d, want %d", got, reserve)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 2 {
		t.Errorf("%v, %v; want the record and the ballast", entries, err)
	}
}

// TestHalfOverwrittenRecord: a record that a power cut left half written in place is none.
func TestHalfOverwrittenRecord(t *testing.T) {
	s, _ := newSerials(t, 1)
	first := choose(t, s, "a")
	old, err := os.ReadFile(s.file.path)
	if err != nil {
		t.Fatal(err)
	}
	second := choose(t, s, "b")
	now, err := os.ReadFile(s.file.path)
	if err != nil {
		t.Fatal(err)
	}
	if len(old) != recordSize || len(now) != recordSize {
		t.Fatalf("records of %d and %d octets, want %d", len(old), len(now), recordSize)
	}
	for i := range old {
		for _, torn := range [][]byte{slices.Concat(now[:i], old[i:]), slices.Concat(old[:i], now[i:])} {
			if err := os.WriteFile(s.file.path, torn, 0o600); err != nil {
				t.Fatal(err)
			}
			r, err := s.file.load()
			if err == nil && !(r.Serial == first && r.Digest == "a") && !(r.Serial == second && r.Digest == "b") {
				t.Fatalf("torn after %d octets: %+v", i, r)
			}
			if err != nil && !errors.Is(err, errSpoilt) {
				t.Fatalf("torn after %d octets: %v", i, err)
			}
		}
	}
}

func TestSpoiltRecord(t *testing.T) {
	for _, content := range []string{"", "{", `{"format":0}`, `{"format":1,"reserved":67108864}`, "\x00\x00\x00"} {
		s, clock := newSerials(t, 1)
		first := choose(t, s, "a")
		if err := os.WriteFile(s.file.path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		clock.now = time.Unix(0, 0)
		_, _, err := restart(s).choose("b", nil)
		var h interface{ Hint() string }
		if !errors.Is(err, errSpoilt) || !errors.As(err, &h) {
			t.Errorf("%q without a clock: error %v, want %v with a hint", content, err, errSpoilt)
		}
		serial, warning, err := restart(s).choose("b", []Published{{first, "a"}})
		if err != nil || !errors.Is(warning, errSpoilt) || !Later(serial, first) {
			t.Errorf("%q with a peer: serial %d after %d, warning %v, error %v", content, serial, first, warning, err)
		}
		if err := os.WriteFile(s.file.path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		clock.now = today
		serial, warning, err = restart(s).choose("b", nil)
		if err != nil || !errors.Is(warning, errSpoilt) || !Later(serial, first) {
			t.Errorf("%q with a clock: serial %d after %d, warning %v, error %v", content, serial, first, warning, err)
		}
		if got := choose(t, restart(s), "b"); got != serial {
			t.Errorf("%q: serial %d, want %d from the mended record", content, got, serial)
		}
	}
}

func TestRecordOfANewerFormat(t *testing.T) {
	s, _ := newSerials(t, 1)
	if err := os.WriteFile(s.file.path, []byte(`{"format":2}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.choose("a", nil); err == nil || !strings.Contains(err.Error(), "has format 2") {
		t.Errorf("error %v, want one about format 2", err)
	}
}

func TestSlotOutOfRange(t *testing.T) {
	for _, slot := range []int{-1, roster.MaxSlot + 1} {
		s, _ := newSerials(t, slot)
		if _, _, err := s.choose("a", nil); err == nil || !strings.Contains(err.Error(), "slot") {
			t.Errorf("slot %d: error %v", slot, err)
		}
	}
}
