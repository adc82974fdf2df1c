package gateway

import (
	"net"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"
)

// Both connections of a client find a peer that is cut off within unheard: that to the member, and the client's.
func TestSocketOptions(t *testing.T) {
	l, err := Listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	at := netip.MustParseAddrPort(l.Addr().String())
	member, err := Endpoint{Host: "a", Port: at.Port(), Addrs: []netip.Addr{at.Addr()}}.Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = member.Close() }()
	client, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = client.Close() }()
	for side, conn := range map[string]net.Conn{"member": member, "client": client} {
		raw, err := conn.(*net.TCPConn).SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		for name, o := range map[string]struct{ level, option, want int }{
			"TCP_USER_TIMEOUT, ms": {unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, 10_000},
			"SO_KEEPALIVE":         {unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1},
			"TCP_KEEPIDLE, s":      {unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, 5},
			"TCP_KEEPINTVL, s":     {unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, 1},
			"TCP_KEEPCNT":          {unix.IPPROTO_TCP, unix.TCP_KEEPCNT, 5},
		} {
			var got int
			var failed error
			if err := raw.Control(func(fd uintptr) { got, failed = unix.GetsockoptInt(int(fd), o.level, o.option) }); err != nil || failed != nil {
				t.Fatal(err, failed)
			}
			if got != o.want {
				t.Errorf("%s of the connection to the %s is %d, want %d", name, side, got, o.want)
			}
		}
	}
}
