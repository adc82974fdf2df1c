package gossip

import (
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"
	"go.uber.org/zap"
)

// unharmed fails unless the nodes have not missed each other since the call before, and still hear what one says.
func unharmed(t *testing.T, nodes ...*runNode) func() {
	t.Helper()
	since := map[string]time.Time{}
	for _, n := range nodes {
		for _, o := range nodes {
			if n != o {
				since[n.own+o.own] = n.wait(o.own, Alive).Since
			}
		}
	}
	return func() {
		t.Helper()
		serial := rand.Uint32()
		nodes[0].Say(Record{Serial: serial})
		for _, n := range nodes[1:] {
			wait(t, "the others hear what the node says", func() bool {
				p, _ := n.peer(nodes[0].own)
				return p.Serial == serial
			})
		}
		for _, n := range nodes {
			for _, o := range nodes {
				if p, _ := n.peer(o.own); n != o && !p.Since.Equal(since[n.own+o.own]) {
					t.Errorf("%s missed %s in between", n.o.Name, o.o.Name)
				}
			}
		}
	}
}

// Whatever strangers send to the port, the nodes stay together.
func TestGarbage(t *testing.T) {
	t.Parallel()
	nodes := rack(t, 2, nil)
	check := unharmed(t, nodes...)
	label := nodes[0].o.Domain
	header := string([]byte{244, byte(len(label))}) + label
	begin := []string{"", header, header + "\x00", header + "\x01", header[:9], "\xf4\x00", "\xf4\xff", "\x0a", "\x09", "\x07\xff"}
	random := rand.NewChaCha8([32]byte{1})
	from := net.UDPAddrFromAddrPort(netip.AddrPortFrom(ownAddr(), 0))
	udp, err := net.DialUDP("udp", from, net.UDPAddrFromAddrPort(nodes[0].o.at()))
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	noise := func(max int) []byte {
		body := make([]byte, random.Uint64()%uint64(max))
		_, _ = random.Read(body)
		return append([]byte(begin[random.Uint64()%uint64(len(begin))]), body...)
	}
	for i := range 1000 {
		max := 1500
		if i%100 == 0 {
			max = 60000
		}
		if _, err := udp.Write(noise(max)); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 60 {
		// Its own address, since the nodes' streams all come from another one here.
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: from.IP}, Timeout: within}
		conn, err := d.Dial("tcp", nodes[0].o.at().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		sent := noise(5000)
		if i%2 == 0 { // promises 20 MiB, and then says nothing until memberlist gives up
			sent = binary.BigEndian.AppendUint32([]byte(header+"\x0a"), 20<<20)
		}
		_, _ = conn.Write(sent) // it may be closed already
	}
	check()
	if lines := nodes[0].logs.FilterLevelExact(zap.WarnLevel).Len(); lines > 20 {
		t.Errorf("%d lines of warnings, want each kind once: %v", lines, nodes[0].logs.FilterLevelExact(zap.WarnLevel).All())
	}
}

// liar is memberlist with the right key and domain, and whatever name and record.
type liar struct {
	speaker
	record []byte
}

func (l liar) NodeMeta(int) []byte { return l.record }

// elsewhere says that it listens at a multicast address.
type elsewhere struct{ *transport }

func (elsewhere) FinalAdvertiseAddr(string, int) (net.IP, int, error) {
	return net.IPv4(224, 0, 0, 1), port, nil
}

// What holders of the key say wrongly is refused, or shown with the reason; the others stay together.
func TestFalseRecords(t *testing.T) {
	t.Parallel()
	nodes := rack(t, 2, nil)
	check := unharmed(t, nodes...)
	encode := func(r Record) []byte {
		r.Format = Format
		octets, err := r.MarshalBinary()
		if err != nil {
			t.Fatal(err)
		}
		return octets
	}
	good := encode(Record{Name: "liar", Boot: bootA})
	for _, l := range []struct {
		what, name string
		record     []byte
		edit       func(*memberlist.Config)
	}{
		{what: "an empty record", name: "liar." + bootA},
		{what: "a record of noise", name: "liar." + bootA, record: []byte(strings.Repeat("\x10\xff", 256))},
		{what: "another node's record", name: "liar." + bootA, record: encode(Record{Name: "infra0", Boot: bootA})},
		{what: "another run's record", name: "liar." + bootA, record: encode(Record{Name: "liar", Boot: bootB})},
		{what: "a name of one part", name: "liar", record: good},
		{what: "a running node's name", name: nodes[0].own, record: encode(Record{Name: nodes[0].o.Name, Boot: nodes[0].o.Boot})},
		{what: "a newer record without a boot", name: "newer.x", record: []byte{0x20}},
		{what: "an older protocol", name: "liar." + bootA, record: good, edit: func(c *memberlist.Config) { c.ProtocolVersion = 2 }},
		{what: "versions of its own", name: "liar." + bootA, record: good, edit: func(c *memberlist.Config) {
			c.DelegateProtocolMin, c.DelegateProtocolVersion, c.DelegateProtocolMax = 7, 7, 7
		}},
		{what: "a group's address", name: "liar." + bootA, record: good, edit: func(c *memberlist.Config) {
			c.Transport = elsewhere{c.Transport.(*transport)}
		}},
		{what: "a newer major version", name: "newer." + bootA, record: []byte("\x23what will be")},
	} {
		lie(t, nodes[0], l.what, l.name, l.record, l.edit)
	}
	for _, n := range nodes {
		p := n.wait("newer."+bootA, Alive)
		want := Peer{Record: Record{Format: 0x23, Name: "newer", Boot: bootA}, Problem: "record format 2.3; this version understands 1 only", Addr: p.Addr, Since: p.Since}
		if !reflect.DeepEqual(p, want) {
			t.Errorf("%s has %+v, want %+v", n.o.Name, p, want)
		}
	}
	holds(t, "nobody else is listed", time.Second, func() bool { return len(nodes[0].Peers()) == 2 && len(nodes[1].Peers()) == 2 })
	check()
}

// lie lets a memberlist with the right key and domain talk to a node until the test ends.
func lie(t *testing.T, to *runNode, what, name string, record []byte, edit func(*memberlist.Config)) {
	t.Helper()
	tr := newTransport([]netip.Addr{ownAddr()}, port, func(string) []netip.Addr { return nil })
	if _, err := tr.listen(); err != nil {
		t.Fatal(err)
	}
	config := to.config(tr)
	ring, err := memberlist.NewKeyring(nil, keyA)
	if err != nil {
		t.Fatal(err)
	}
	config.Name, config.Delegate, config.Alive, config.Events, config.Keyring = name, liar{record: record}, nil, nil, ring
	if edit != nil {
		edit(config)
	}
	list, err := memberlist.Create(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = list.Shutdown() })
	// A push/pull, which it may refuse itself, and packets.
	_, err = list.Join([]string{to.o.at().String()})
	t.Logf("%s: %v", what, err)
	_ = list.UpdateNode(time.Millisecond)
}

// A run that gets a processor only half of the time is never missed.
func TestStarvedNode(t *testing.T) {
	t.Parallel()
	timing := func(o *Options) { o.Timing.Suspicion = 3 } // as ever, and times one second
	nodes := rack(t, 2, timing)
	slow := spawn(t, options("slow").with(timing), nodes[0].o.at())
	since := map[*runNode]time.Time{}
	for _, n := range nodes {
		since[n] = n.wait(slow.own, Alive).Since
	}
	alive := func() bool {
		for _, n := range nodes {
			if p, _ := n.peer(slow.own); p.Status != Alive || !p.Since.Equal(since[n]) {
				return false
			}
		}
		return true
	}
	for range 3 {
		slow.signal(t, syscall.SIGSTOP)
		holds(t, "the node is alive while it is stopped", time.Second, alive)
		slow.signal(t, syscall.SIGCONT)
		holds(t, "the node is alive when it goes on", time.Second, alive)
	}
}

// One stranger cannot take all streams, and nobody more than there are.
func TestStreamLimits(t *testing.T) {
	own := ownAddr()
	tr := newTransport([]netip.Addr{own}, port, nil)
	if _, err := tr.listen(); err != nil {
		t.Fatal(err)
	}
	defer tr.Shutdown()
	dial := func(from netip.Addr) net.Conn {
		d := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(from, 0))}
		conn, err := d.Dial("tcp", netip.AddrPortFrom(own, port).String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		return conn
	}
	refused := func(conn net.Conn) bool {
		_ = conn.SetReadDeadline(time.Now().Add(within))
		_, err := conn.Read(make([]byte, 1))
		return err != nil && !errors.Is(err, os.ErrDeadlineExceeded)
	}
	var streams []net.Conn
	for len(streams) < maxStreams {
		from := ownAddr()
		for range maxStreamsFrom {
			dial(from)
			streams = append(streams, <-tr.streams)
		}
		if len(streams) < maxStreams && !refused(dial(from)) {
			t.Errorf("stream %d from %s was taken, want %d at most", maxStreamsFrom+1, from, maxStreamsFrom)
		}
	}
	if !refused(dial(ownAddr())) {
		t.Errorf("stream %d was taken, want %d at most", maxStreams+1, maxStreams)
	}
	if err := streams[0].Close(); err != nil {
		t.Fatal(err)
	}
	client := dial(ownAddr())
	s := <-tr.streams
	go func() {
		_, _ = client.Write(make([]byte, maxStream+1000))
	}()
	buf, got := make([]byte, 1<<16), 0
	for {
		n, err := s.Read(buf)
		got += n
		if errors.Is(err, errStreamTooLong) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if got != maxStream {
		t.Errorf("%d octets were read, want %d", got, maxStream)
	}
}
