//go:build linux

package lab

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// historyHost may transfer the zone from the nodes, and is no secondary.
const historyHost = "history"

var historyAddr = netip.MustParseAddr("10.0.2.14")

// history is what every host ever handed out of the zone: one serial names one content, wherever it comes from.
type history struct {
	*serials
	// contents are the zones by serial, transfers how often each host handed one out; serials.mu guards both.
	contents  map[uint32]content
	transfers map[string]int
	nsdLog    string
}

// content is a zone's records in master format, sorted, and the host that handed it out first.
type content struct {
	host string
	zone []string
}

// watch follows the zone at every node and secondary: its serial 50 times a second, its content ten times.
func (s *secondaries) watch() *history {
	w := &history{serials: s.watchSerials(s.Domain, s.hosts()...), contents: map[uint32]content{}, transfers: map[string]int{},
		nsdLog: filepath.Join(s.host(nsdHost).dir, "nsd.log")}
	for _, h := range s.hosts() {
		w.every(100*time.Millisecond, func() {
			// A host may be down, not ready or cut off; judge wants that it was not always.
			if zone, err := s.zoneAt(h); err == nil {
				w.take(h, zone)
			}
		})
	}
	return w
}

// zoneAt transfers the zone from a host: from a node with the bundle's key, if there is one, at the time that the node's
// clock shows; from a secondary from itself.
func (s *secondaries) zoneAt(h string) ([]dns.RR, error) {
	if _, ok := s.nodes[h]; !ok {
		return s.axfr(h, h, "", time.Now())
	}
	return s.axfr(historyHost, h, s.key, s.Clock(h))
}

// axfr transfers a zone that fits one message. miekg's own client refuses what is signed at another time than its own.
func (s *secondaries) axfr(from, at, key string, now time.Time) (zone []dns.RR, err error) {
	err = inNetns(s.host(from).ns, func() error {
		c, err := net.DialTimeout("tcp", net.JoinHostPort(s.Addr(at), "53"), queryLimit)
		if err != nil {
			return err
		}
		conn := &dns.Conn{Conn: c}
		defer func() { _ = conn.Close() }()
		q := new(dns.Msg).SetAxfr(dns.Fqdn(s.Domain))
		if key != "" {
			conn.TsigSecret = map[string]string{key: s.secret}
			q.SetTsig(key, dns.HmacSHA256, 300, now.Unix())
		}
		if err := errors.Join(conn.SetDeadline(time.Now().Add(3*queryLimit)), conn.WriteMsg(q)); err != nil {
			return err
		}
		m, err := conn.ReadMsg()
		if err != nil && !errors.Is(err, dns.ErrTime) {
			return err
		}
		if n := len(m.Answer); n < 2 || m.Answer[0].Header().Rrtype != dns.TypeSOA || m.Answer[n-1].Header().Rrtype != dns.TypeSOA {
			return fmt.Errorf("%s has no whole zone in one message: %s, %d records", at, dns.RcodeToString[m.Rcode], n)
		}
		zone = m.Answer[:len(m.Answer)-1]
		return nil
	})
	return zone, err
}

// take notes a zone that begins with its SOA record.
func (w *history) take(h string, zone []dns.RR) {
	serial, lines := zone[0].(*dns.SOA).Serial, canonical(zone)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.transfers[h]++
	was, ok := w.contents[serial]
	if !ok {
		w.contents[serial] = content{h, lines}
	} else if !slices.Equal(was.zone, lines) {
		w.faultLocked("serial %d names one content at %s and another at %s:\n%s", serial, was.host, h, difference(was.zone, lines))
	}
}

// canonical makes zones comparable: names in lower case, single spaces, sorted.
func canonical(zone []dns.RR) (lines []string) {
	for _, rr := range zone {
		rr.Header().Name = dns.CanonicalName(rr.Header().Name)
		lines = append(lines, strings.Join(strings.Fields(rr.String()), " "))
	}
	slices.Sort(lines)
	return lines
}

// difference lists the lines that only one of two sorted zones has.
func difference(a, b []string) string {
	var out strings.Builder
	for _, side := range []struct {
		sign       string
		these, not []string
	}{{"-", a, b}, {"+", b, a}} {
		for _, line := range side.these {
			if _, found := slices.BinarySearch(side.not, line); !found {
				fmt.Fprintf(&out, "%s %s\n", side.sign, line)
			}
		}
	}
	return out.String()
}

// judge ends the watch and fails the test for what no host may ever do.
func (w *history) judge(t *testing.T) {
	t.Helper()
	for _, f := range w.stop() {
		t.Error(f)
	}
	t.Logf("%d serials; transfers %v", len(w.contents), w.transfers)
	if text, err := os.ReadFile(w.nsdLog); err != nil {
		t.Error(err)
	} else if err := judgeNSD(string(text)); err != nil {
		t.Error(err)
	}
	for _, h := range slices.Sorted(maps.Keys(w.last)) {
		if w.transfers[h] < 10 {
			t.Errorf("the zone was transferred from %s only %d times", h, w.transfers[h])
		}
	}
}

// nsdUpdate is what NSD logs when it takes over a zone.
var nsdUpdate = regexp.MustCompile(`serial (\d+) is updated to (\d+)`)

// judgeNSD reads NSD's log: it went back only where NSD itself had lost track. NSD 4.6 that gets two transfers before it
// reloads takes one of them for failed, forgets both, and fetches the zone again from whoever has a later one than it thinks
// that it serves.
func judgeNSD(log string) error {
	updates, lost := 0, false
	for line := range strings.Lines(log) {
		lost = lost || strings.Contains(line, "update failed, restarting transfer")
		m := nsdUpdate.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		if from, to := number(m[1]), number(m[2]); int32(to-from) < 0 && !lost {
			return fmt.Errorf("NSD went from serial %d to %d", from, to)
		}
		updates, lost = updates+1, false
	}
	if updates == 0 {
		return errors.New("NSD's log tells of no update")
	}
	return nil
}

func number(s string) uint32 {
	n, _ := strconv.ParseUint(s, 10, 32) // digits, as nsdUpdate says
	return uint32(n)
}

// The history finds what it is for.
func TestHarnessHistory(t *testing.T) {
	soa := func(serial uint32) *dns.SOA {
		return &dns.SOA{Hdr: dns.RR_Header{Name: "z.example.", Rrtype: dns.TypeSOA, Class: dns.ClassINET}, Ns: "n.", Mbox: "m.", Serial: serial}
	}
	txt := func(s string) dns.RR {
		return &dns.TXT{Hdr: dns.RR_Header{Name: "Z.example.", Rrtype: dns.TypeTXT, Class: dns.ClassINET}, Txt: []string{s}}
	}
	says := func(serial uint32) *dns.Msg { return &dns.Msg{Answer: []dns.RR{soa(serial)}} }
	for _, tt := range []struct {
		name string
		do   func(w *history)
		want string
	}{
		{"one content, from two hosts in two orders", func(w *history) {
			w.take("a", []dns.RR{soa(1), txt("x"), txt("y")})
			w.take("b", []dns.RR{soa(1), txt("y"), txt("x")})
		}, ""},
		{"two contents", func(w *history) {
			w.take("a", []dns.RR{soa(1), txt("x")})
			w.take("b", []dns.RR{soa(1), txt("y")})
		}, "serial 1 names one content at a and another at b"},
		{"a record less", func(w *history) {
			w.take("a", []dns.RR{soa(1), txt("x")})
			w.take("a", []dns.RR{soa(1)})
		}, "serial 1 names"},
		{"forth, and over the end of the numbers", func(w *history) {
			w.note("a", says(1<<32-1), nil)
			w.note("a", nil, errors.New("silent"))
			w.note("a", says(5), nil)
			w.note("b", says(3), nil)
		}, ""},
		{"back", func(w *history) { w.note("a", says(5), nil); w.note("a", says(4), nil) }, "a goes back from serial 5 to 4"},
		{"back after silence", func(w *history) {
			w.note("a", says(5), nil)
			w.note("a", nil, errors.New("silent"))
			w.note("a", says(4), nil)
		}, "back"},
		{"not ready yet", func(w *history) { w.note("a", &dns.Msg{MsgHdr: dns.MsgHdr{Rcode: dns.RcodeServerFailure}}, nil) }, ""},
		{"not ready any more", func(w *history) {
			w.note("a", says(5), nil)
			w.note("a", &dns.Msg{MsgHdr: dns.MsgHdr{Rcode: dns.RcodeServerFailure}}, nil)
		}, "a answers SERVFAIL after serial 5"},
	} {
		w := &history{serials: (&Lab{}).watchSerials(""), contents: map[uint32]content{}, transfers: map[string]int{}}
		tt.do(w)
		if got := strings.Join(w.stop(), "; "); tt.want == "" && got != "" || !strings.Contains(got, tt.want) {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
	const forth, back, lost = "serial 4294967295 is updated to 5\n", "serial 5 is updated to 4\n", "soa serial 3 update failed, restarting transfer (notified zone)\n"
	for log, ok := range map[string]bool{"": false, forth: true, forth + back: false, forth + lost + back: true, lost + forth + back: false} {
		if err := judgeNSD(log); (err == nil) != ok {
			t.Errorf("%q: %v", log, err)
		}
	}
}
