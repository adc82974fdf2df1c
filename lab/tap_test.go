//go:build linux

package lab

import (
	"encoding/binary"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"
)

// tap hears the DNS queries over UDP that pass the hub, so that a test can tell what resolvers ask whom.
type tap struct {
	mu    sync.Mutex
	heard map[sighting]bool
}

// sighting is a query, with its name as it was written.
type sighting struct {
	from, to netip.Addr
	Question
}

// tap listens until the test ends.
func (l *Lab) tap() *tap {
	l.t.Helper()
	w := &tap{heard: map[sighting]bool{}}
	var wire *os.File
	if err := inNetns(l.net.hub(), func() error {
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, int(htons(unix.ETH_P_ALL)))
		if err == nil {
			wire = os.NewFile(uintptr(fd), "hub")
		}
		return err
	}); err != nil {
		l.t.Fatal(err)
	}
	done := make(chan struct{})
	l.t.Cleanup(func() {
		_ = wire.Close()
		<-done
	})
	go func() {
		defer close(done)
		packet := make([]byte, 65536)
		for {
			n, err := wire.Read(packet)
			if err != nil {
				return
			}
			if s, ok := queryIn(packet[:n]); ok {
				w.mu.Lock()
				w.heard[s] = true
				w.mu.Unlock()
			}
		}
	}()
	return w
}

func htons(v uint16) uint16 { return binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, v)) }

// queryIn reads an IP packet, which is not fragmented and has no options of IPv6.
func queryIn(p []byte) (s sighting, ok bool) {
	const udp = 17
	var protocol byte
	switch {
	case len(p) > 40 && p[0]>>4 == 4:
		protocol = p[9]
		s.from, s.to = netip.AddrFrom4([4]byte(p[12:16])), netip.AddrFrom4([4]byte(p[16:20]))
		p = p[min(len(p), int(p[0]&15)*4):]
	case len(p) > 40 && p[0]>>4 == 6:
		protocol = p[6]
		s.from, s.to = netip.AddrFrom16([16]byte(p[8:24])), netip.AddrFrom16([16]byte(p[24:40]))
		p = p[40:]
	}
	if protocol != udp || len(p) < 8 || binary.BigEndian.Uint16(p[2:]) != 53 {
		return s, false
	}
	var m dns.Msg
	if m.Unpack(p[8:]) != nil || m.Response || len(m.Question) != 1 {
		return s, false
	}
	s.Question = Question{m.Question[0].Name, m.Question[0].Qtype}
	return s, true
}

// asked are the questions of one host to another.
func (l *Lab) asked(w *tap, from, to string) (out []Question) {
	sender, receiver := l.both(from), l.both(to)
	w.mu.Lock()
	defer w.mu.Unlock()
	for s := range w.heard {
		if slices.Contains(sender[:], s.from) && slices.Contains(receiver[:], s.to) {
			out = append(out, s.Question)
		}
	}
	return out
}

// both are a host's IPv4 address and the IPv6 address beside it, 10.0.1.10 and fd00::10:0:1:10.
func (l *Lab) both(name string) [2]netip.Addr {
	four := l.Addr(name)
	return [2]netip.Addr{netip.MustParseAddr(four), netip.MustParseAddr("fd00::" + strings.ReplaceAll(four, ".", ":"))}
}

// nameTricks shows what resolvers that come by delegation do to names on their way to the answers of the other tests: those that
// minimise tell the parent nothing below the rack's name, and ask a node about _tcp first; those that shuffle letter case do.
func (f *front) nameTricks(t *testing.T, w *tap) {
	for _, r := range f.resolvers {
		if r.Stub || r.Upstream.IsValid() {
			continue
		}
		told := slices.ContainsFunc(f.asked(w, r.name, parentHost), func(q Question) bool {
			return strings.HasSuffix(strings.ToLower(q.Name), "."+f.Domain+".")
		})
		var questions []Question
		for _, n := range f.names {
			questions = append(questions, f.asked(w, r.name, n)...)
		}
		down := slices.ContainsFunc(questions, func(q Question) bool {
			return strings.EqualFold(q.Name, "_tcp."+f.Domain+".") && (q.Type == dns.TypeA || q.Type == dns.TypeNS)
		})
		shuffled := slices.ContainsFunc(questions, func(q Question) bool {
			return q.Name != strings.ToLower(q.Name) && q.Name != strings.ToUpper(q.Name)
		})
		if r.minimises && (told || !down) || shuffled != r.shuffles {
			t.Errorf("%s: told the parent of names in the rack: %v; asked for _tcp: %v; shuffled letter case: %v", r.name, told, down, shuffled)
		}
	}
}
