package gossip

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/etcd-dns/etcd-dns/roster"
)

// MaxRecord is the size in octets that an encoded Record may have: memberlist's limit for metadata (net.go MetaMaxSize).
const MaxRecord = 512

// Format is the version of the records that this package says: the major version in the high four bits, the minor in
// the low ones. A new field is a new minor version, since readers skip fields that they do not know. What changes the
// meaning of a field is a new major version, and a reader uses nothing of it.
const Format uint8 = 0x10

// Record is what one run of a node says of itself.
type Record struct {
	// Format is the version that the record was said in, see the constant.
	Format uint8
	// Name is the node's host label: lower case, 1 to 63 octets.
	Name string
	// Boot is the nonce of this run, a UUID in lower case. Another run of the node has another one.
	Boot string
	// Cluster is the srv-name of the cluster that the node belongs to; the default cluster has none.
	Cluster string
	// Addrs are the node's addresses, and PeerAddrs those of its raft traffic when it has such. Both hold unicast addresses
	// without zone, in the order of configuration.
	Addrs, PeerAddrs []netip.Addr
	// AdminPort, PeerPort and ClientPort are TCP ports; 0 means none.
	AdminPort, PeerPort, ClientPort uint16
	// Slot is the node's number in the roster, roster.NoSlot to roster.MaxSlot.
	Slot int
	// Phase is how far the node has come in its cluster's life, a word of lower-case letters. Words that the reader does
	// not know come from newer versions.
	Phase string
	// Genesis is the UUID of the cluster's birth and Generation its number; empty and 0 while there is none.
	Genesis    string
	Generation uint64
	// MemberID is the etcd member's ID, 16 hexadecimal digits, or empty.
	MemberID string
	// Serial is the zone's serial, and Digest stands for its content: up to 64 octets in hexadecimal.
	Serial uint32
	Digest string
	// Serving says that the node's member answers clients now.
	Serving bool

	// leaving is set in the last record of a run that ends in order: memberlist does not tell a listener whether a node
	// left or died.
	leaving bool
}

// nodeName is the record's name in memberlist. A fast restart at another address, two machines with one name, and a
// clone are thus different nodes there, none of which can block another.
func (r Record) nodeName() string { return r.Name + "." + r.Boot }

// check returns what is wrong with the record's values, so that neither a mistake here nor garbage from outside gets
// into logs, status or a zone.
func (r Record) check() error {
	for _, word := range []struct {
		name, value string
		ok          bool
		want        string
	}{
		{"name", r.Name, isLabel(r.Name), "a lower-case host label"},
		{"boot", r.Boot, isUUID(r.Boot), "a lower-case UUID"},
		{"cluster", r.Cluster, r.Cluster == "" || isLabel(r.Cluster), "a lower-case host label, or nothing"},
		{"phase", r.Phase, isPhase(r.Phase), "at most 16 lower-case letters"},
		{"genesis", r.Genesis, r.Genesis == "" || isUUID(r.Genesis), "a lower-case UUID, or nothing"},
		{"member id", r.MemberID, r.MemberID == "" || len(r.MemberID) == 16 && isHex(r.MemberID), "16 hexadecimal digits, or nothing"},
		{"digest", r.Digest, len(r.Digest) <= 128 && isHex(r.Digest), "at most 64 octets in hexadecimal"},
	} {
		if !word.ok {
			return fmt.Errorf("%s %q: want %s", word.name, word.value, word.want)
		}
	}
	if r.Slot < roster.NoSlot || r.Slot > roster.MaxSlot {
		return fmt.Errorf("slot %d: want %d to %d", r.Slot, roster.NoSlot, roster.MaxSlot)
	}
	for _, list := range [][]netip.Addr{r.Addrs, r.PeerAddrs} {
		for _, a := range list {
			if !isUnicast(a) {
				return fmt.Errorf("address %s: want a unicast address without zone", a)
			}
		}
	}
	return nil
}

// isUnicast reports whether a can be a node's address as others see it: not link-local, whose zone means nothing to
// them.
func isUnicast(a netip.Addr) bool {
	return a.IsValid() && !a.Is4In6() && a.Zone() == "" && (a.IsGlobalUnicast() || a.IsLoopback())
}

// isLabel reports whether s has the form of a host name's label (RFC 1123 §2.1, RFC 1035 §2.3.4) in lower case.
func isLabel(s string) bool {
	return len(s) >= 1 && len(s) <= 63 && s[0] != '-' && s[len(s)-1] != '-' && only(s, "abcdefghijklmnopqrstuvwxyz0123456789-")
}

func isPhase(s string) bool { return len(s) <= 16 && only(s, "abcdefghijklmnopqrstuvwxyz") }

// isHex reports whether s is whole octets in lower-case hexadecimal.
func isHex(s string) bool { return len(s)%2 == 0 && only(s, "0123456789abcdef") }

func isUUID(s string) bool {
	if len(s) != 36 {
		return false
	}
	for i := range len(s) {
		switch i {
		case 8, 13, 18, 23:
			if s[i] != '-' {
				return false
			}
		default:
			if !isHex(s[i:i+1] + "0") {
				return false
			}
		}
	}
	return true
}

func only(s, alphabet string) bool { return strings.Trim(s, alphabet) == "" }
