package front

import (
	"encoding/binary"
	"net/netip"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// batchSize is how many messages one system call takes at most.
	batchSize = MaxBatch
	// maxQuery is how many octets of a query are read. RFC 6891 §6.2.5 names 4096 as the size to aim for; a query with
	// one question and its options comes nowhere near.
	maxQuery = 4096
	// controlSize is the room for one control message with an in6_pktinfo, or the shorter in_pktinfo, rounded up as
	// CMSG_SPACE does.
	controlSize = unix.SizeofCmsghdr + unix.SizeofInet6Pktinfo + 4
)

// mmsghdr is struct mmsghdr of recvmmsg(2). Go pads it as C does.
type mmsghdr struct {
	hdr unix.Msghdr
	n   uint32
}

// recvmmsg and sendmmsg do not tell Go's scheduler: they do not block, and a batch takes as long as many a function.
func recvmmsg(fd uintptr, first *mmsghdr, n int) (int, unix.Errno) {
	r, _, errno := unix.RawSyscall6(unix.SYS_RECVMMSG, fd, uintptr(unsafe.Pointer(first)), uintptr(n), unix.MSG_DONTWAIT, 0, 0)
	return int(r), errno
}

func sendmmsg(fd uintptr, first *mmsghdr, n int) (int, unix.Errno) {
	r, _, errno := unix.RawSyscall6(unix.SYS_SENDMMSG, fd, uintptr(unsafe.Pointer(first)), uintptr(n), unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, 0, 0)
	return int(r), errno
}

// batch is the memory that a reader's system calls work on. It is made once, is wired to itself, and belongs to one
// goroutine.
type batch struct {
	socket   *udpSocket
	front    *Front
	engine   *engine
	rx, tx   [batchSize]mmsghdr
	rxIov    [batchSize]unix.Iovec
	txIov    [batchSize]unix.Iovec
	names    [batchSize]unix.RawSockaddrInet6 // or RawSockaddrInet4, which is shorter
	controls [batchSize]struct {
		_ [0]uintptr // aligned as the kernel's headers are
		b [controlSize]byte
	}
	in  [batchSize][maxQuery]byte
	out [batchSize][MaxUDPSize]byte

	warmer    Warmer // nil if the answerer is none
	questions [batchSize][]byte

	errors int // of recvmmsg, one after the other
}

func newBatch(s *udpSocket, f *Front) *batch {
	b := &batch{socket: s, front: f, engine: newEngine(f.config.Shared, f.config.Shared.newCounters())}
	b.warmer, _ = f.config.Shared.Answerer.(Warmer)
	for i := range b.rx {
		b.rxIov[i].Base, b.txIov[i].Base = &b.in[i][0], &b.out[i][0]
		b.rxIov[i].SetLen(maxQuery)
		b.rx[i].hdr.Name = (*byte)(unsafe.Pointer(&b.names[i]))
		b.rx[i].hdr.Iov, b.tx[i].hdr.Iov = &b.rxIov[i], &b.txIov[i]
		b.rx[i].hdr.SetIovlen(1)
		b.tx[i].hdr.SetIovlen(1)
		if s.wildcard {
			b.rx[i].hdr.Control = &b.controls[i].b[0]
		}
		b.arm(i)
	}
	return b
}

// arm makes slot i ready to receive again.
func (b *batch) arm(i int) {
	h := &b.rx[i].hdr
	h.Namelen = unix.SizeofSockaddrInet6
	if h.Control != nil {
		h.SetControllen(controlSize)
	}
}

// send sends the first n answers. One that cannot be sent is left out: its asker asks again (RFC 1035 §4.2.1). So a
// full buffer, a firewall or a client that is gone costs one system call, and no answer is tried twice.
func (b *batch) send(fd uintptr, n int) {
	for done := 0; done < n; {
		sent, errno := sendmmsg(fd, &b.tx[done], n-done)
		switch {
		case errno == unix.EINTR:
		case errno != 0 || sent <= 0:
			b.front.unsent.Add(1)
			done++
		default:
			done += sent
		}
	}
}

// from returns who sent message i.
func (b *batch) from(i int) netip.AddrPort {
	n := &b.names[i]
	port := (*[2]byte)(unsafe.Pointer(&n.Port)) // in network byte order, in both families at the same place
	at := binary.BigEndian.Uint16(port[:])
	if n.Family == unix.AF_INET {
		return netip.AddrPortFrom(netip.AddrFrom4((*unix.RawSockaddrInet4)(unsafe.Pointer(n)).Addr), at)
	}
	return netip.AddrPortFrom(netip.AddrFrom16(n.Addr), at)
}

// zoned adds the zone that a link-local address needs to be answered.
func (b *batch) zoned(i int, a netip.AddrPort) netip.AddrPort {
	if n := &b.names[i]; n.Family == unix.AF_INET6 && n.Scope_id != 0 {
		return netip.AddrPortFrom(a.Addr().WithZone(strconv.Itoa(int(n.Scope_id))), a.Port())
	}
	return a
}

// control returns message i's control message, made into the one that has the answer leave from the address that was
// asked; nil when there is none. The route back is the routing table's choice, not the way that the query came.
func (b *batch) control(i int) []byte {
	h := &b.rx[i].hdr
	n := int(h.Controllen)
	if h.Control == nil || n < unix.SizeofCmsghdr || n > controlSize {
		return nil
	}
	c := b.controls[i].b[:n]
	data := c[unix.CmsgLen(0):]
	switch m := (*unix.Cmsghdr)(unsafe.Pointer(&c[0])); {
	case m.Level == unix.IPPROTO_IPV6 && m.Type == unix.IPV6_PKTINFO && len(data) >= unix.SizeofInet6Pktinfo:
		(*unix.Inet6Pktinfo)(unsafe.Pointer(&data[0])).Ifindex = 0
	case m.Level == unix.IPPROTO_IP && m.Type == unix.IP_PKTINFO && len(data) >= unix.SizeofInet4Pktinfo:
		(*unix.Inet4Pktinfo)(unsafe.Pointer(&data[0])).Ifindex = 0
	default:
		return nil
	}
	return c
}

// asked returns the address that a control message of control names.
func asked(c []byte) netip.Addr {
	data := c[unix.CmsgLen(0):]
	if len(data) >= unix.SizeofInet6Pktinfo {
		return netip.AddrFrom16((*unix.Inet6Pktinfo)(unsafe.Pointer(&data[0])).Addr).Unmap()
	}
	return netip.AddrFrom4((*unix.Inet4Pktinfo)(unsafe.Pointer(&data[0])).Addr)
}
