package gossip

import (
	"cmp"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/etcd-dns/etcd-dns/roster"
)

// A record on the wire is one octet of Format and then fields: a tag of one octet, the value's length as a varint, the
// value. Tags ascend, so each is there at most once; what is zero is left out; integers are big-endian without leading
// zeros. Hence one record has one encoding, a reader skips tags that it does not know, and fields need no types.
const (
	tagName = iota + 1
	tagBoot
	tagCluster
	tagAddrs
	tagPeerAddrs
	tagAdminPort
	tagPeerPort
	tagClientPort
	tagSlot
	tagPhase
	tagGenesis
	tagGeneration
	tagMemberID
	tagSerial
	tagDigest
	tagFlags
)

// tagNames are for the operator who has to shorten something.
var tagNames = [...]string{
	tagName: "name", tagBoot: "boot", tagCluster: "cluster", tagAddrs: "addresses", tagPeerAddrs: "peer addresses",
	tagAdminPort: "admin port", tagPeerPort: "peer port", tagClientPort: "client port", tagSlot: "slot", tagPhase: "phase",
	tagGenesis: "genesis", tagGeneration: "generation", tagMemberID: "member id", tagSerial: "serial", tagDigest: "digest",
	tagFlags: "flags",
}

// The bits of tagFlags. Readers ignore those that they do not know.
const (
	flagServing = 1 << iota
	flagLeaving
)

// MarshalBinary returns the record's encoding, at most MaxRecord octets. It fails when a value is not of the form that
// its field wants, and when the whole is too long; nothing is ever left out to make it fit.
func (r Record) MarshalBinary() ([]byte, error) {
	if major(r.Format) != major(Format) {
		return nil, &formatError{r.Format}
	}
	if err := r.check(); err != nil {
		return nil, err
	}
	var flags uint64
	if r.Serving {
		flags |= flagServing
	}
	if r.leaving {
		flags |= flagLeaving
	}
	w := writer{buf: []byte{r.Format}}
	w.field(tagName, []byte(r.Name))
	w.hex(tagBoot, r.Boot)
	w.field(tagCluster, []byte(r.Cluster))
	w.addrs(tagAddrs, r.Addrs)
	w.addrs(tagPeerAddrs, r.PeerAddrs)
	w.integer(tagAdminPort, uint64(r.AdminPort))
	w.integer(tagPeerPort, uint64(r.PeerPort))
	w.integer(tagClientPort, uint64(r.ClientPort))
	w.integer(tagSlot, uint64(r.Slot-roster.NoSlot))
	w.field(tagPhase, []byte(r.Phase))
	w.hex(tagGenesis, r.Genesis)
	w.integer(tagGeneration, r.Generation)
	w.hex(tagMemberID, r.MemberID)
	w.integer(tagSerial, uint64(r.Serial))
	w.hex(tagDigest, r.Digest)
	w.integer(tagFlags, flags)
	if len(w.buf) > MaxRecord {
		return nil, fmt.Errorf("the record has %d octets, %d at most can be said; the longest parts are %s", len(w.buf), MaxRecord, w.longest())
	}
	return w.buf, nil
}

// UnmarshalBinary reads what MarshalBinary wrote, also in a later minor version. Its errors say what is wrong with which
// field; one of a newer major version is a *formatError.
func (r *Record) UnmarshalBinary(data []byte) error {
	if len(data) == 0 || len(data) > MaxRecord {
		return fmt.Errorf("a record of %d octets: want 1 to %d", len(data), MaxRecord)
	}
	out := Record{Format: data[0], Slot: roster.NoSlot}
	if major(out.Format) != major(Format) {
		return &formatError{out.Format}
	}
	for last, rest := byte(0), data[1:]; len(rest) > 0; {
		tag := rest[0]
		length, n := binary.Uvarint(rest[1:])
		if n <= 0 || length > uint64(len(rest)-1-n) {
			return fmt.Errorf("field %d: its length is not that of the rest", tag)
		}
		if tag <= last {
			return fmt.Errorf("field %d after field %d: want them in ascending order", tag, last)
		}
		if err := out.set(tag, rest[1+n:1+n+int(length)]); err != nil {
			return fmt.Errorf("field %d: %w", tag, err)
		}
		last, rest = tag, rest[1+n+int(length):]
	}
	if err := out.check(); err != nil {
		return err
	}
	*r = out
	return nil
}

// set gives one field its value. It skips a field that it does not know.
func (r *Record) set(tag byte, value []byte) (err error) {
	switch tag {
	case tagName:
		r.Name = string(value)
	case tagBoot:
		r.Boot, err = readUUID(value)
	case tagCluster:
		r.Cluster = string(value)
	case tagAddrs:
		r.Addrs, err = readAddrs(value)
	case tagPeerAddrs:
		r.PeerAddrs, err = readAddrs(value)
	case tagAdminPort:
		err = readInteger(&r.AdminPort, value)
	case tagPeerPort:
		err = readInteger(&r.PeerPort, value)
	case tagClientPort:
		err = readInteger(&r.ClientPort, value)
	case tagSlot:
		var slot uint8
		err = readInteger(&slot, value)
		r.Slot = int(slot) + roster.NoSlot
	case tagPhase:
		r.Phase = string(value)
	case tagGenesis:
		r.Genesis, err = readUUID(value)
	case tagGeneration:
		err = readInteger(&r.Generation, value)
	case tagMemberID:
		r.MemberID = hex.EncodeToString(value)
	case tagSerial:
		err = readInteger(&r.Serial, value)
	case tagDigest:
		r.Digest = hex.EncodeToString(value)
	case tagFlags:
		var flags uint64
		err = readInteger(&flags, value)
		r.Serving, r.leaving = flags&flagServing != 0, flags&flagLeaving != 0
	}
	return err
}

// writer appends fields to a record.
type writer struct {
	buf   []byte
	sizes []fieldSize
}

type fieldSize struct {
	tag    byte
	octets int
}

// field writes a value, unless it is empty.
func (w *writer) field(tag byte, value []byte) {
	if len(value) == 0 {
		return
	}
	before := len(w.buf)
	w.buf = append(w.buf, tag)
	w.buf = binary.AppendUvarint(w.buf, uint64(len(value)))
	w.buf = append(w.buf, value...)
	w.sizes = append(w.sizes, fieldSize{tag, len(w.buf) - before})
}

func (w *writer) integer(tag byte, v uint64) {
	var octets [8]byte
	binary.BigEndian.PutUint64(octets[:], v)
	short := octets[:]
	for len(short) > 0 && short[0] == 0 {
		short = short[1:]
	}
	w.field(tag, short)
}

// hex writes the octets of a UUID or of hexadecimal digits, which check has seen.
func (w *writer) hex(tag byte, s string) {
	octets, _ := hex.DecodeString(strings.ReplaceAll(s, "-", ""))
	w.field(tag, octets)
}

// addrs writes each address behind its own length, 4 or 16.
func (w *writer) addrs(tag byte, addrs []netip.Addr) {
	var octets []byte
	for _, a := range addrs {
		octets = append(octets, byte(a.BitLen()/8))
		octets = append(octets, a.AsSlice()...)
	}
	w.field(tag, octets)
}

// longest names the three fields that take most room.
func (w *writer) longest() string {
	slices.SortStableFunc(w.sizes, func(a, b fieldSize) int { return cmp.Compare(b.octets, a.octets) })
	var parts []string
	for _, s := range w.sizes[:min(3, len(w.sizes))] {
		parts = append(parts, fmt.Sprintf("%s (%d)", tagNames[s.tag], s.octets))
	}
	return strings.Join(parts, ", ")
}

func readInteger[T uint8 | uint16 | uint32 | uint64](out *T, value []byte) error {
	if len(value) == 0 || len(value) > 8 || value[0] == 0 {
		return errors.New("want an integer without leading zeros")
	}
	var v uint64
	for _, octet := range value {
		v = v<<8 | uint64(octet)
	}
	if *out = T(v); uint64(*out) != v {
		return fmt.Errorf("%d is too large", v)
	}
	return nil
}

func readUUID(value []byte) (string, error) {
	if len(value) != 16 {
		return "", fmt.Errorf("a UUID of %d octets: want 16", len(value))
	}
	return fmt.Sprintf("%x-%x-%x-%x-%x", value[:4], value[4:6], value[6:8], value[8:10], value[10:]), nil
}

func readAddrs(value []byte) (out []netip.Addr, err error) {
	for len(value) > 0 {
		n := int(value[0])
		if n != 4 && n != 16 || len(value) < 1+n {
			return nil, errors.New("want addresses of 4 or 16 octets, each behind its length")
		}
		a, _ := netip.AddrFromSlice(value[1 : 1+n])
		out, value = append(out, a), value[1+n:]
	}
	return out, nil
}

func major(format uint8) uint8 { return format >> 4 }

// formatError says that a record is of another major version.
type formatError struct{ format uint8 }

func (e *formatError) Error() string {
	return fmt.Sprintf("record format %d.%d; this version understands %d only", major(e.format), e.format&0x0f, major(Format))
}
