package front

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// socketBuffer is the size in octets of a UDP socket's receive and send buffers: some ten thousand queries, which is
// what comes in while the machine does something else for a few hundredths of a second. NSD takes as much.
const socketBuffer = 4 << 20

// group are the front's sockets, in the order that the kernel knows them by; the full server's socket comes behind.
type group struct {
	udp []*udpSocket
	tcp net.Listener
	// fail is Front's.
	fail func(call string) error
}

// udpSocket is one UDP socket.
type udpSocket struct {
	conn *net.UDPConn
	raw  syscall.RawConn
	// wildcard sockets learn from each message which address was asked, and answer from there.
	wildcard bool
	// batch is set before the reader starts and belongs to it, then to Run.
	batch *batch
	// stopping ends the reader, which closes done.
	stopping atomic.Bool
	done     chan struct{}
}

// openGroup opens the sockets of an address. The choice of families is Go's own and so the same as CoreDNS's: sockets
// share an address only when they are of one family.
func openGroup(c *Config, fail func(string) error) (*group, error) {
	host := ""
	if !c.Address.Addr().IsUnspecified() {
		host = c.Address.Addr().String()
	}
	address := net.JoinHostPort(host, strconv.Itoa(int(c.Address.Port())))
	g := &group{fail: fail}
	err := g.openUDP(address, c.Sockets, host == "")
	if err == nil {
		err = g.openTCP(address)
	}
	if err == nil {
		err = g.steer(false, false)
	}
	if err != nil {
		return nil, errors.Join(err, g.close())
	}
	return g, nil
}

func (g *group) openUDP(address string, n int, wildcard bool) error {
	for range n {
		lc := net.ListenConfig{Control: control(func(network string, fd int) error { return g.setUDP(network, fd, wildcard) })}
		if err := g.fail("bind"); err != nil {
			return err
		}
		p, err := lc.ListenPacket(context.Background(), "udp", address)
		if err != nil {
			return err
		}
		conn := p.(*net.UDPConn)
		raw, err := conn.SyscallConn()
		if err != nil {
			return errors.Join(err, conn.Close())
		}
		g.udp = append(g.udp, &udpSocket{conn: conn, raw: raw, wildcard: wildcard, done: make(chan struct{})})
		if err := g.probe(raw); err != nil {
			return err
		}
	}
	return nil
}

func (g *group) openTCP(address string) error {
	lc := net.ListenConfig{Control: control(func(_ string, fd int) error { return g.reusePort(fd) })}
	lc.SetMultipathTCP(false) // queries are too short for it, and it costs memory and CPU for each connection
	l, err := lc.Listen(context.Background(), "tcp", address)
	if err != nil {
		return err
	}
	g.tcp = l
	return nil
}

// control makes a ListenConfig's Control of a function that sets options.
func control(set func(network string, fd int) error) func(string, string, syscall.RawConn) error {
	return func(network, _ string, c syscall.RawConn) error {
		var err error
		if e := c.Control(func(fd uintptr) { err = set(network, int(fd)) }); e != nil {
			return e
		}
		return err
	}
}

func (g *group) reusePort(fd int) error {
	return g.setInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1, "SO_REUSEPORT")
}

// setUDP sets the options of a UDP socket. Those that only make it better may fail.
func (g *group) setUDP(network string, fd int, wildcard bool) error {
	if err := g.reusePort(fd); err != nil {
		return err
	}
	for force, plain := range map[int]int{unix.SO_RCVBUFFORCE: unix.SO_RCVBUF, unix.SO_SNDBUFFORCE: unix.SO_SNDBUF} {
		if unix.SetsockoptInt(fd, unix.SOL_SOCKET, force, socketBuffer) != nil {
			_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, plain, socketBuffer) // up to net.core.rmem_max
		}
	}
	// Path MTU discovery is off for answers: forged ICMP must not make them fragments (RFC 9715 §3.1).
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_OMIT)
	if network != "udp4" {
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_OMIT)
	}
	switch {
	case !wildcard:
		return nil
	case network == "udp4":
		return g.setInt(fd, unix.IPPROTO_IP, unix.IP_PKTINFO, 1, "IP_PKTINFO")
	}
	// The kernel gives and takes IPv4-mapped addresses with it as well.
	return g.setInt(fd, unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1, "IPV6_RECVPKTINFO")
}

func (g *group) setInt(fd, level, option, value int, name string) error {
	err := g.fail(name)
	if err == nil {
		err = unix.SetsockoptInt(fd, level, option, value)
	}
	if err != nil {
		return fmt.Errorf("set %s: %w", name, err)
	}
	return nil
}

// probe finds out whether a seccomp filter, or a very old kernel, refuses the calls that readers make.
func (g *group) probe(raw syscall.RawConn) (err error) {
	e := raw.Control(func(fd uintptr) {
		var none mmsghdr
		if err = g.fail("recvmmsg"); err == nil {
			if _, errno := recvmmsg(fd, &none, 0); errno != 0 && errno != unix.EAGAIN {
				err = errno
			}
		}
		if err != nil {
			err = fmt.Errorf("recvmmsg: %w", err)
			return
		}
		if err = g.fail("sendmmsg"); err == nil {
			if _, errno := sendmmsg(fd, &none, 0); errno != 0 {
				err = errno
			}
		}
		if err != nil {
			err = fmt.Errorf("sendmmsg: %w", err)
		}
	})
	return errors.Join(e, err)
}

// steer attaches the programs that choose the socket of a query and of a connection: with udp, the usual queries come to
// the front, and with tcp all connections, else everything goes to the full server.
func (g *group) steer(udp, tcp bool) error {
	n := uint32(len(g.udp))
	queries, connections := program(onlyServer(n)), program(onlyServer(1))
	if udp {
		queries = program(usual(n))
	}
	if tcp {
		connections = program(onlyServer(0))
	}
	err := g.attach(g.tcp.(*net.TCPListener), connections)
	if errors.Is(err, net.ErrClosed) {
		err = nil // it failed and is the reason to leave; the server's listener is alone then
	}
	return errors.Join(g.attach(g.udp[0].conn, queries), err)
}

// handOver is for when the first UDP socket is closed and the full server's has its place.
func (g *group) handOver() error {
	if len(g.udp) == 1 {
		return nil // the server's socket is alone: whatever the program says, it gets everything
	}
	return g.attach(g.udp[1].conn, program(onlyServer(0)))
}

// close closes all sockets that are open.
func (g *group) close() (err error) {
	for _, s := range g.udp {
		err = errors.Join(err, s.conn.Close())
	}
	if g.tcp != nil {
		err = errors.Join(err, g.tcp.Close())
	}
	return err
}

// stop makes the reader end soon.
func (s *udpSocket) stop() {
	s.stopping.Store(true)
	_ = s.conn.SetReadDeadline(time.Unix(1, 0)) // wakes it; it fails only when the socket is closed, which wakes it too
}
