package gossip

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
)

const (
	// maxPacket is more than memberlist puts in a packet (1400 octets and what the label and encryption add). What is longer
	// is not of ours.
	maxPacket = 2048
	// packetBacklog is how many octets of packets the kernel should keep while this process does not get to run.
	packetBacklog = 1 << 20
)

// transport carries memberlist's packets and streams over the node's own addresses. memberlist's own one would send
// everything from the first socket, which cannot reach the other family; it takes any number of streams of 20 MiB from
// whoever connects, and leaves them open when it ends.
type transport struct {
	addrs []netip.Addr
	port  uint16
	// addrsOf returns further addresses of a node by its memberlist name.
	addrsOf func(node string) []netip.Addr
	// cut, in tests, reports whether the wire to and from an address is broken.
	cut func(netip.Addr) bool

	packets chan *memberlist.Packet // never closed
	streams chan net.Conn           // never closed
	// ctx ends with Shutdown, which waits for wg: one goroutine per socket.
	ctx context.Context
	end context.CancelFunc
	wg  sync.WaitGroup

	mu sync.Mutex
	// guarded by mu
	sockets []socket
	open    openStreams
}

// socket is one own address that is listened on.
type socket struct {
	addr netip.Addr
	udp  *net.UDPConn
	tcp  *net.TCPListener
}

var _ memberlist.NodeAwareTransport = (*transport)(nil)

func newTransport(addrs []netip.Addr, port uint16, addrsOf func(string) []netip.Addr) *transport {
	t := &transport{addrs: addrs, port: port, addrsOf: addrsOf, packets: make(chan *memberlist.Packet), streams: make(chan net.Conn), open: openStreams{}}
	t.ctx, t.end = context.WithCancel(context.Background())
	return t
}

// listen opens what is not open yet. It returns how many own addresses are listened on, and why others are not.
func (t *transport) listen() (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	var errs []error
	for _, a := range t.addrs {
		if t.ctx.Err() != nil || slices.ContainsFunc(t.sockets, func(s socket) bool { return s.addr == a }) {
			continue
		}
		s, err := openSocket(netip.AddrPortFrom(a, t.port))
		if err != nil {
			errs = append(errs, err)
			continue
		}
		t.sockets = append(t.sockets, s)
		t.wg.Go(func() { t.receive(s.udp) })
		t.wg.Go(func() { t.accept(s.tcp) })
	}
	return len(t.sockets), errors.Join(errs...)
}

func openSocket(at netip.AddrPort) (socket, error) {
	tcp, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(at))
	if err != nil {
		return socket{}, err
	}
	udp, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(at))
	if err != nil {
		return socket{}, errors.Join(err, tcp.Close())
	}
	_ = udp.SetReadBuffer(packetBacklog) // the kernel's default will do
	return socket{at.Addr(), udp, tcp}, nil
}

func (t *transport) receive(udp *net.UDPConn) {
	buf := make([]byte, maxPacket+1)
	for {
		n, from, err := udp.ReadFromUDPAddrPort(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			t.pause()
		}
		if err != nil || n == 0 || n > maxPacket || t.isCut(from) {
			continue
		}
		p := &memberlist.Packet{Buf: slices.Clone(buf[:n]), From: net.UDPAddrFromAddrPort(unmapped(from)), Timestamp: time.Now()}
		select {
		case t.packets <- p:
		case <-t.ctx.Done():
			return
		}
	}
}

func (t *transport) accept(tcp *net.TCPListener) {
	for {
		conn, err := tcp.AcceptTCP()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // no descriptors left, most likely
			t.pause()
			continue
		}
		from := unmapped(conn.RemoteAddr().(*net.TCPAddr).AddrPort())
		if t.isCut(from) {
			_ = conn.Close()
			continue
		}
		s := t.track(conn, from.Addr(), true)
		if s == nil {
			_ = conn.Close()
			continue
		}
		select {
		case t.streams <- s:
		case <-t.ctx.Done():
			_ = s.Close()
		}
	}
}

// pause keeps a socket that fails from keeping a processor busy.
func (t *transport) pause() {
	select {
	case <-time.After(50 * time.Millisecond):
	case <-t.ctx.Done():
	}
}

// route returns where to reach a node: the address that memberlist knows, or, when no own address is of its family,
// another one from the node's record.
func (t *transport) route(a memberlist.Address) (*net.UDPConn, netip.AddrPort, error) {
	at, err := netip.ParseAddrPort(a.Addr) // never a name: gossip asks no DNS
	if err != nil {
		return nil, at, fmt.Errorf("address of %s: %w", a.Name, err)
	}
	at = unmapped(at)
	if udp := t.from(at.Addr()); udp != nil {
		return udp, at, nil
	}
	for _, other := range t.addrsOf(a.Name) {
		if udp := t.from(other); udp != nil {
			return udp, netip.AddrPortFrom(other, at.Port()), nil
		}
	}
	return nil, at, fmt.Errorf("no own address is of the family of %s", at)
}

// from returns the socket to send to that address from: the first of its family.
func (t *transport) from(to netip.Addr) *net.UDPConn {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, s := range t.sockets {
		if s.addr.Is4() == to.Is4() {
			return s.udp
		}
	}
	return nil
}

// FinalAdvertiseAddr returns the one address that memberlist tells others of.
func (t *transport) FinalAdvertiseAddr(string, int) (net.IP, int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, a := range t.addrs {
		if slices.ContainsFunc(t.sockets, func(s socket) bool { return s.addr == a }) {
			return a.AsSlice(), int(t.port), nil
		}
	}
	return nil, 0, errors.New("no address is listened on")
}

// WriteToAddress sends a packet.
func (t *transport) WriteToAddress(b []byte, a memberlist.Address) (time.Time, error) {
	udp, to, err := t.route(a)
	if err == nil && !t.isCut(to) {
		_, err = udp.WriteToUDPAddrPort(b, to)
	}
	return time.Now(), err
}

// DialAddressTimeout opens a stream.
func (t *transport) DialAddressTimeout(a memberlist.Address, timeout time.Duration) (net.Conn, error) {
	_, to, err := t.route(a)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(t.ctx, timeout)
	defer cancel()
	if t.isCut(to) {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", to.String())
	if err != nil {
		return nil, err
	}
	if s := t.track(conn, to.Addr(), false); s != nil {
		return s, nil
	}
	return nil, errors.Join(net.ErrClosed, conn.Close())
}

// WriteTo is WriteToAddress for a node whose name is not known.
func (t *transport) WriteTo(b []byte, addr string) (time.Time, error) {
	return t.WriteToAddress(b, memberlist.Address{Addr: addr})
}

// DialTimeout is DialAddressTimeout for a node whose name is not known.
func (t *transport) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	return t.DialAddressTimeout(memberlist.Address{Addr: addr}, timeout)
}

// PacketCh returns the channel of received packets.
func (t *transport) PacketCh() <-chan *memberlist.Packet { return t.packets }

// StreamCh returns the channel of accepted streams.
func (t *transport) StreamCh() <-chan net.Conn { return t.streams }

// Shutdown closes all sockets and streams, so that nothing that memberlist runs on them has to wait for a deadline, and
// returns when the own goroutines have ended. It may be called again.
func (t *transport) Shutdown() error {
	t.end()
	t.mu.Lock()
	for _, s := range t.sockets {
		_, _ = s.udp.Close(), s.tcp.Close()
	}
	t.open.closeAll()
	t.mu.Unlock()
	t.wg.Wait()
	return nil
}

func (t *transport) isCut(a netip.AddrPort) bool { return t.cut != nil && t.cut(a.Addr()) }

func unmapped(a netip.AddrPort) netip.AddrPort { return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()) }
