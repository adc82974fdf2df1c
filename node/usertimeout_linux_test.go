//go:debug multipathtcp=0

package node

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A connection that a door accepts has the limit of a peer that does not read.
func TestUserTimeout(t *testing.T) {
	for _, host := range []string{"127.0.0.1:0", "[::1]:0"} {
		l, err := net.Listen("tcp", host)
		if err != nil {
			t.Logf("%s: %v", host, err)
			continue
		}
		at := netip.MustParseAddrPort(l.Addr().String())
		if err := setUserTimeout(at, stuckLimit); err != nil {
			t.Fatal(err)
		}
		client, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		server, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		raw, err := server.(*net.TCPConn).SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		var got int
		var failed error
		if err := raw.Control(func(fd uintptr) {
			got, failed = unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT)
		}); err != nil || failed != nil || time.Duration(got)*time.Millisecond != stuckLimit {
			t.Errorf("%s: TCP_USER_TIMEOUT is %d ms (%v, %v), want %v", host, got, err, failed, stuckLimit)
		}
		for _, c := range []interface{ Close() error }{client, server, l} {
			if err := c.Close(); err != nil {
				t.Error(err)
			}
		}
	}
	if err := setUserTimeout(netip.MustParseAddrPort("127.0.0.1:1"), stuckLimit); err == nil {
		t.Error("a limit was set where nobody listens")
	}
}

// A peer that asks for much and reads nothing is cut by the kernel.
func TestStuckPeerIsCut(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := setUserTimeout(netip.MustParseAddrPort(l.Addr().String()), 200*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	client, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	server, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	cut := make(chan error, 1)
	go func() {
		buf := make([]byte, 64<<10)
		for {
			if _, err := server.Write(buf); err != nil {
				cut <- err
				return
			}
		}
	}()
	select {
	case <-cut:
	case <-time.After(30 * time.Second):
		t.Error("a peer that reads nothing is never cut")
	}
}
