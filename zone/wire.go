package zone

import (
	"bytes"
	"hash/maphash"

	"github.com/miekg/dns"
)

// maxWire is the longest name on the wire in octets (RFC 1035 §2.3.4).
const maxWire = 255

// seed makes the places in the tables, and hence their collisions, unpredictable. It lives as long as the process.
var seed = maphash.MakeSeed()

func hash(wire []byte) uint64 { return maphash.Bytes(seed, wire) }

// appendWire appends a name's wire form in lower case (RFC 4343 §3), uncompressed. ok is false for what is no name.
func appendWire(buf []byte, name string) (wire []byte, ok bool) {
	var scratch [maxWire + 1]byte
	n, err := dns.PackDomainName(name, scratch[:], 0, nil, false)
	if err != nil || n > maxWire {
		return buf, false
	}
	lower(scratch[:n])
	return append(buf, scratch[:n]...), true
}

// lower folds the ASCII letters of a wire name; a label's length is at most 63 and so is no letter.
func lower(wire []byte) {
	for i, c := range wire {
		if 'A' <= c && c <= 'Z' {
			wire[i] = c | 0x20
		}
	}
}

// prefix returns what stands before apex in a wire name, and whether the name is at or below it.
func prefix(wire, apex []byte) (labels []byte, ok bool) {
	cut := len(wire) - len(apex)
	if cut < 0 || !bytes.Equal(wire[cut:], apex) {
		return nil, false
	}
	// Label by label: "a\.rack1.example.com." ends like "rack1.example.com." and is not below it.
	at := 0
	for at < cut {
		at += 1 + int(wire[at])
	}
	return wire[:cut], at == cut
}

// compareLabels orders names below one apex canonically (RFC 4034 §6.1): label by label from the right, absent labels
// first. Both are what stands before the apex.
func compareLabels(a, b []byte) int {
	var la, lb [maxWire / 2]uint8
	na, nb := labelStarts(a, &la), labelStarts(b, &lb)
	for na > 0 && nb > 0 {
		na, nb = na-1, nb-1
		x, y := a[la[na]:], b[lb[nb]:]
		if c := bytes.Compare(x[1:1+x[0]], y[1:1+y[0]]); c != 0 {
			return c
		}
	}
	return na - nb
}

func labelStarts(labels []byte, starts *[maxWire / 2]uint8) (n int) {
	for at := 0; at < len(labels); at += 1 + int(labels[at]) {
		starts[n] = uint8(at)
		n++
	}
	return n
}

// packRR is dns.PackRR for records that others read: dns.PackRR writes the length of the data into the record's header.
func packRR(rr dns.RR, msg []byte, off int, seen map[string]int, compress bool) (int, error) {
	return dns.PackRR(&shielded{rr, *rr.Header()}, msg, off, seen, compress)
}

// shielded is a record with a header of its own.
type shielded struct {
	dns.RR
	header dns.RR_Header
}

// Header is the copy.
func (s *shielded) Header() *dns.RR_Header { return &s.header }
