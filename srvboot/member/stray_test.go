package member

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/etcd-dns/etcd-dns/srvboot"
)

// Connections with other members, made or accepted, end when their local address is gone; other connections do not.
func TestEndStray(t *testing.T) {
	listen := func(at string) (net.Listener, srvboot.MemberEntry) {
		l, err := net.Listen("tcp", at)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = l.Close() })
		return l, srvboot.MemberEntry{PeerURLs: []string{fmt.Sprintf("https://n.rack.test:%d", l.Addr().(*net.TCPAddr).Port)}}
	}
	pair := func(l net.Listener, from string) (here, there net.Conn) {
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
		here, err := d.Dial("tcp", l.Addr().String())
		if err == nil {
			there, err = l.Accept()
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _, _ = here.Close(), there.Close() })
		return here, there
	}
	peers, one := listen("127.0.0.1:0")
	moved, two := listen("127.7.7.7:0")
	others, _ := listen("127.7.7.7:0")
	dialed, _ := pair(peers, "127.7.7.7")
	_, accepted := pair(moved, "127.0.0.1")
	stays, alsoStays := pair(peers, "127.0.0.1")
	client, served := pair(others, "127.0.0.1")

	asked := map[netip.Addr]int{}
	if err := endStray([]srvboot.MemberEntry{one, two}, func(a netip.Addr) bool {
		asked[a]++
		return a == netip.MustParseAddr("127.7.7.7")
	}); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]net.Conn{"dialed": dialed, "accepted": accepted} {
		_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Errorf("the one that was %s goes on: %v", name, err)
		}
	}
	for i, c := range []net.Conn{stays, alsoStays, client, served} {
		_ = c.SetReadDeadline(time.Now().Add(time.Millisecond))
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("connection %d ended: %v", i, err)
		}
	}
	for a, n := range asked {
		if n != 1 {
			t.Errorf("asked %d times about %s", n, a)
		}
	}
}

func TestIsGone(t *testing.T) {
	for at, want := range map[string]bool{"127.0.0.1": false, "127.7.7.7": false, "192.0.2.7": true} {
		if got := isGone(netip.MustParseAddr(at)); got != want {
			t.Errorf("%s: %v", at, got)
		}
	}
}
