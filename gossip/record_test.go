package gossip

import (
	"encoding/hex"
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"github.com/etcd-dns/etcd-dns/roster"
)

const (
	bootA = "11111111-2222-3333-4444-555555555555"
	bootB = "99999999-2222-3333-4444-555555555555"
)

func addrs(texts ...string) (out []netip.Addr) {
	for _, text := range texts {
		out = append(out, netip.MustParseAddr(text))
	}
	return out
}

// fullRecord has every field.
func fullRecord() Record {
	return Record{
		Format: Format, Name: "infra0", Boot: bootA, Cluster: "blue",
		Addrs: addrs("10.0.1.10", "fd00::10"), PeerAddrs: addrs("10.9.1.10"),
		AdminPort: 2378, PeerPort: 2380, ClientPort: 2379, Slot: 0, Phase: "running",
		Genesis: "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee", Generation: 3, MemberID: "00ff00ff00ff00ff",
		Serial: 4000000000, Digest: strings.Repeat("ab", 32), Serving: true,
	}
}

// largestRecord has the largest value that every field can have, and more addresses than a node should.
func largestRecord() Record {
	r := fullRecord()
	r.Name, r.Cluster, r.Phase = strings.Repeat("n", 63), strings.Repeat("c", 46), "abcdefghijklmnop"
	r.Addrs, r.PeerAddrs = nil, nil
	for i := range 6 {
		a := fmt.Sprintf("2001:db8:ffff:ffff:ffff:ffff:ffff:%d", i+1)
		if i < 2 {
			a = fmt.Sprintf("192.168.100.%d", 100+i)
		}
		r.Addrs, r.PeerAddrs = append(r.Addrs, netip.MustParseAddr(a)), append(r.PeerAddrs, netip.MustParseAddr(a))
	}
	r.AdminPort, r.PeerPort, r.ClientPort, r.Slot = 65535, 65534, 65533, roster.MaxSlot
	r.Generation, r.Serial, r.leaving = ^uint64(0), ^uint32(0), true
	return r
}

func TestRecordRoundTrip(t *testing.T) {
	for name, r := range map[string]Record{
		"smallest": {Format: Format, Name: "a", Boot: bootA, Slot: roster.NoSlot},
		"full":     fullRecord(),
		"largest":  largestRecord(),
		"minor":    {Format: Format + 1, Name: "a", Boot: bootA, Slot: 7, Generation: 256},
		"leaving":  {Format: Format, Name: "a", Boot: bootA, leaving: true},
	} {
		t.Run(name, func(t *testing.T) {
			octets, err := r.MarshalBinary()
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("%d octets", len(octets))
			var got Record
			if err := got.UnmarshalBinary(octets); err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got, r) {
				t.Errorf("got  %+v\nwant %+v", got, r)
			}
		})
	}
}

// The octets are what other versions read, so they never change.
func TestRecordOctets(t *testing.T) {
	want := strings.Join([]string{
		"10",                                     // version 1.0
		"01 06 696e66726130",                     // name
		"02 10 11111111222233334444555555555555", // boot
		"03 04 626c7565",                         // cluster
		"04 16 04 0a00010a 10 fd000000000000000000000000000010", // addresses
		"05 05 04 0a09010a",                      // peer addresses
		"06 02 094a",                             // admin port
		"07 02 094c",                             // peer port
		"08 02 094b",                             // client port
		"09 01 01",                               // slot + 1
		"0a 07 72756e6e696e67",                   // phase
		"0b 10 aaaaaaaabbbbccccddddeeeeeeeeeeee", // genesis
		"0c 01 03",                               // generation
		"0d 08 00ff00ff00ff00ff",                 // member id
		"0e 04 ee6b2800",                         // serial
		"0f 20 " + strings.Repeat("ab", 32),      // digest
		"10 01 01",                               // serving
	}, "")
	octets, err := fullRecord().MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	if got, want := hex.EncodeToString(octets), strings.ReplaceAll(want, " ", ""); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestRecordThatCannotBeSaid(t *testing.T) {
	for _, c := range []struct {
		name string
		edit func(*Record)
		want string
	}{
		{"no name", func(r *Record) { r.Name = "" }, `name ""`},
		{"two labels", func(r *Record) { r.Name = "a.b" }, `name "a.b"`},
		{"capitals", func(r *Record) { r.Name = "Infra" }, `name "Infra"`},
		{"escape sequence", func(r *Record) { r.Phase = "\x1b[2J" }, `phase "\x1b[2J"`},
		{"boot", func(r *Record) { r.Boot = strings.ToUpper(r.Genesis) }, "boot"},
		{"genesis", func(r *Record) { r.Genesis = r.Genesis[1:] }, "genesis"},
		{"member id", func(r *Record) { r.MemberID = "123" }, `member id "123"`},
		{"digest", func(r *Record) { r.Digest = "xy" }, `digest "xy"`},
		{"slot", func(r *Record) { r.Slot = 64 }, "slot 64"},
		{"multicast", func(r *Record) { r.Addrs = addrs("224.0.0.1") }, "224.0.0.1"},
		{"link-local", func(r *Record) { r.PeerAddrs = addrs("fe80::1%eth0") }, "fe80::1"},
		{"invalid address", func(r *Record) { r.Addrs = make([]netip.Addr, 1) }, "invalid IP"},
		{"newer", func(r *Record) { r.Format = 0x20 }, "format 2.0"},
		{"too many addresses", func(r *Record) {
			for i := range 40 {
				r.Addrs = append(r.Addrs, netip.MustParseAddr(fmt.Sprintf("fd00::%d", i+1)))
			}
		}, "the longest parts are addresses (705), digest (34), boot (18)"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := fullRecord()
			c.edit(&r)
			if octets, err := r.MarshalBinary(); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %x, %v; want an error with %q", octets, err, c.want)
			}
		})
	}
}

func TestRecordThatCannotBeRead(t *testing.T) {
	start := "10 01 01 61 02 10 11111111222233334444555555555555"
	for _, c := range []struct{ name, octets, want string }{
		{"nothing", "", "0 octets"},
		{"too long", strings.Repeat("10", MaxRecord+1), "513 octets"},
		{"newer major", "20 ffff", "format 2.0; this version understands 1 only"},
		{"older major", "00", "format 0.0"},
		{"no fields", "10", `name ""`},
		{"length cut off", start + "03", "field 3"},
		{"endless length", start + "03 ffffffffffffffffffffff", "field 3"},
		{"huge length", start + "03 ffffffffffffffff7f", "field 3"},
		{"value cut off", start + "03 05 61", "field 3"},
		{"twice", "10 01 01 61 01 01 62", "field 1 after field 1"},
		{"out of order", "10 02 10 11111111222233334444555555555555 01 01 61", "field 1 after field 2"},
		{"field 0", "10 00 00", "field 0 after field 0"},
		{"short boot", "10 01 01 61 02 01 11", "UUID of 1 octets"},
		{"address of 5 octets", start + "04 06 05 0a0001 0a0a", "field 4"},
		{"address cut off", start + "04 03 04 0a00", "field 4"},
		{"unspecified address", start + "04 05 04 00000000", "0.0.0.0"},
		{"IPv4 in IPv6", start + "04 11 10 00000000000000000000ffff0a000101", "10.0.1.1"},
		{"port too large", start + "06 03 010000", "65536 is too large"},
		{"leading zero", start + "06 02 0001", "leading zeros"},
		{"slot too large", start + "09 01 ff", "slot 254"},
		{"generation of 9 octets", start + "0c 09 010000000000000000", "field 12"},
		{"short member id", start + "0d 01 01", "member id"},
		{"long digest", start + "0f 41 " + strings.Repeat("00", 65), "digest"},
	} {
		t.Run(c.name, func(t *testing.T) {
			octets, err := hex.DecodeString(strings.ReplaceAll(c.octets, " ", ""))
			if err != nil {
				t.Fatal(err)
			}
			r := fullRecord()
			if err := r.UnmarshalBinary(octets); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want an error with %q", err, c.want)
			}
			if !reflect.DeepEqual(r, fullRecord()) {
				t.Error("the record changed although reading it failed")
			}
		})
	}
}

// What a later minor version adds is skipped: fields, flags and phases.
func TestRecordOfLaterMinor(t *testing.T) {
	octets, err := hex.DecodeString(strings.ReplaceAll("1f 01 01 61 02 10 11111111222233334444555555555555 0a 03 6e6577 10 02 8001 11 03 abcdef ff 00", " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	var got Record
	if err := got.UnmarshalBinary(octets); err != nil {
		t.Fatal(err)
	}
	if want := (Record{Format: 0x1f, Name: "a", Boot: bootA, Slot: roster.NoSlot, Phase: "new", Serving: true}); !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func FuzzRecord(f *testing.F) {
	for _, r := range []Record{fullRecord(), largestRecord(), {Format: Format + 1, Name: "a", Boot: bootA}} {
		octets, err := r.MarshalBinary()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(octets)
		f.Add(append(octets, 0x7f, 3, 1, 2, 3))
		octets = octets[:len(octets):len(octets)]
		octets[len(octets)/2] ^= 0xff
		f.Add(octets)
	}
	f.Fuzz(func(t *testing.T, octets []byte) {
		var r, again Record
		if r.UnmarshalBinary(octets) != nil {
			return
		}
		encoded, err := r.MarshalBinary()
		if err != nil {
			t.Fatalf("%+v was read and cannot be written: %v", r, err)
		}
		if len(encoded) > len(octets) {
			t.Fatalf("%d octets became %d", len(octets), len(encoded))
		}
		if err := again.UnmarshalBinary(encoded); err != nil || !reflect.DeepEqual(again, r) {
			t.Fatalf("got %+v, %v; want %+v", again, err, r)
		}
	})
}

// A record costs memory in proportion to its octets, whatever it claims.
func TestRecordAllocations(t *testing.T) {
	claims, _ := hex.DecodeString("10ff" + "ffffffffffffffff7f")
	addresses := append([]byte{Format, tagAddrs, 0xfd, 3}, strings.Repeat("\x04\x0a\x00\x00\x01", 101)...)
	for _, octets := range [][]byte{claims, addresses} {
		var r Record
		if n := testing.AllocsPerRun(100, func() { _ = r.UnmarshalBinary(octets) }); n > 30 {
			t.Errorf("%x…: %v allocations, want at most 30", octets[:4], n)
		}
	}
}
