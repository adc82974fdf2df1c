//go:build linux

package lab

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"
)

// mobHolds is how many connections a mob keeps open at most; it closes the oldest for a new one. It is twice what a node
// holds, and far below the descriptors that a process may have.
const mobHolds = 2048

// mob is a crowd of bad TCP clients on one host. They are descriptors, not goroutines: nobody waits for
// what a node does, but for a connection, and that for a tenth of a second at most. It belongs to one goroutine.
type mob struct {
	h    *hostile
	host string // whose descriptors they are
	to   netip.AddrPort
	held []int
	// made and failed count connections.
	made, failed int
}

// mob returns one on the attacker's host that attacks a port of the target; its connections are the caller's to close.
func (h *hostile) mob(port uint16) *mob {
	return &mob{h: h, host: attackerHost, to: netip.AddrPortFrom(h.host(h.target).in(ipv4), port)}
}

// connect makes connections, client i from the address from(i), and hands each to do.
func (m *mob) connect(t *testing.T, count int, from func(i int) netip.Addr, do func(i, fd int)) {
	t.Helper()
	if err := inNetns(m.h.host(m.host).ns, func() error {
		for i := range count {
			fd, err := m.dial(from(i))
			if errors.Is(err, errNoConnection) {
				m.failed++
				continue
			}
			if err != nil {
				return err
			}
			m.made++
			m.hold(fd)
			do(i, fd)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

var errNoConnection = errors.New("no connection")

// dial connects from an address, with a small receive buffer.
func (m *mob) dial(from netip.Addr) (fd int, err error) {
	fd, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	err = errors.Join(
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 2048),
		unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1),
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &unix.Timeval{Usec: 100_000}),
		unix.Bind(fd, &unix.SockaddrInet4{Addr: from.As4()}))
	if err == nil {
		if e := unix.Connect(fd, &unix.SockaddrInet4{Addr: m.to.Addr().As4(), Port: int(m.to.Port())}); e != nil {
			err = fmt.Errorf("%w: %w", errNoConnection, e)
		}
	}
	if err != nil {
		_ = unix.Close(fd)
	}
	return fd, err
}

func (m *mob) hold(fd int) {
	if m.held = append(m.held, fd); len(m.held) > mobHolds {
		_ = unix.Close(m.held[0])
		m.held = m.held[1:]
	}
}

// reset closes a connection that is held with a reset (socket(7), SO_LINGER).
func (m *mob) reset(fd int) {
	_ = unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	m.held = slices.DeleteFunc(m.held, func(h int) bool { return h == fd })
	_ = unix.Close(fd)
}

// leave closes everything.
func (m *mob) leave() {
	for _, fd := range m.held {
		_ = unix.Close(fd)
	}
	m.held = nil
}

// say writes what the kernel takes at once.
func say(fd int, b []byte) {
	_, _ = unix.SendmsgN(fd, b, nil, nil, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
}

// crowd is the i-th of so many addresses of the attacker's network.
func crowd(many int) func(i int) netip.Addr {
	return func(i int) netip.Addr {
		b := crowdNet.Addr().As4()
		b[3] = byte(1 + i%many)
		return netip.AddrFrom4(b)
	}
}

// framedQuery is a query with its length before it (RFC 1035 §4.2.2).
func framedQuery(t *testing.T, q *dns.Msg) []byte {
	t.Helper()
	b, err := q.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return append(binary.BigEndian.AppendUint16(nil, uint16(len(b))), b...)
}
