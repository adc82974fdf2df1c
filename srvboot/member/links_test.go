//go:debug multipathtcp=0

package member

import (
	"fmt"
	"net"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/etcd-dns/etcd-dns/srvboot"
)

// The connections that this process made to members' peer ports, over either family, are probed soon; others, and those that
// it accepted, are left as they are.
func TestProbeLinks(t *testing.T) {
	links := map[string]net.Conn{}
	var members []srvboot.MemberEntry
	for _, host := range []string{"127.0.0.1", "::1"} {
		l, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
		if err != nil {
			t.Logf("%s: %v", host, err)
			continue
		}
		defer l.Close()
		if links["to "+host], err = net.Dial("tcp", l.Addr().String()); err != nil {
			t.Fatal(err)
		}
		if links["from "+host], err = l.Accept(); err != nil {
			t.Fatal(err)
		}
		members = append(members, srvboot.MemberEntry{PeerURLs: []string{fmt.Sprintf("https://n%d.rack.test:%d", len(members), l.Addr().(*net.TCPAddr).Port)}})
	}
	other, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if links["elsewhere"], err = net.Dial("tcp", other.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if err := probeLinks(append(members, srvboot.MemberEntry{PeerURLs: []string{"nonsense", "https://%zz"}})); err != nil {
		t.Fatal(err)
	}
	for name, c := range links {
		got, quick := probing(t, c), [3]int{2, 1, 3}
		if probed := name == "to 127.0.0.1" || name == "to ::1"; (got == quick) != probed {
			t.Errorf("%s: probes after %d s, every %d s, %d of them", name, got[0], got[1], got[2])
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
}

// probing is when a connection is probed: after so many seconds, every so many, so many times.
func probing(t *testing.T, c net.Conn) (out [3]int) {
	t.Helper()
	raw, err := c.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if e := raw.Control(func(fd uintptr) {
		for i, option := range []int{unix.TCP_KEEPIDLE, unix.TCP_KEEPINTVL, unix.TCP_KEEPCNT} {
			if err == nil {
				out[i], err = unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, option)
			}
		}
	}); e != nil || err != nil {
		t.Fatal(e, err)
	}
	return out
}
