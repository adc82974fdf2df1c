package front

import (
	"io"
	"net"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// quickConn is a TCP connection whose system calls do not tell Go's scheduler, since they do not block. Its watchdog
// would otherwise wake every 20 µs to see whether they do, for a quarter of the CPU time of a busy server. One
// goroutine reads; one at a time writes.
type quickConn struct {
	net.Conn
	raw syscall.RawConn

	// The functions are made once, so that a call of them allocates nothing.
	readFrom func(fd uintptr) bool
	writeTo  func(fd uintptr)
	in, out  []byte
	got, put int
	readErr  unix.Errno
}

// quick makes a connection quick if it can be.
func quick(conn net.Conn) net.Conn {
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return conn
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return conn // it is closed, which the next Read tells
	}
	q := &quickConn{Conn: conn, raw: raw}
	q.readFrom, q.writeTo = q.recv, q.send
	return q
}

// Read is net.Conn's, deadline included.
func (q *quickConn) Read(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	q.in = b
	if err := q.raw.Read(q.readFrom); err != nil {
		return 0, err
	}
	switch {
	case q.readErr != 0:
		return 0, os.NewSyscallError("recvfrom", q.readErr)
	case q.got == 0:
		return 0, io.EOF
	}
	return q.got, nil
}

// recv is false when there is nothing to read yet.
func (q *quickConn) recv(fd uintptr) bool {
	for {
		n, _, errno := unix.RawSyscall6(unix.SYS_RECVFROM, fd, uintptr(unsafe.Pointer(&q.in[0])), uintptr(len(q.in)), unix.MSG_DONTWAIT, 0, 0)
		switch errno {
		case unix.EAGAIN:
			return false
		case unix.EINTR:
			continue
		}
		q.got, q.readErr = int(n), errno
		return true
	}
}

// writeNow writes what the kernel takes of b at once and returns how much that is. What goes wrong is for Write, which
// comes next, to find.
func (q *quickConn) writeNow(b []byte) int {
	q.out, q.put = b, 0
	if len(b) > 0 {
		_ = q.raw.Control(q.writeTo)
	}
	q.out = nil
	return q.put
}

func (q *quickConn) send(fd uintptr) {
	n, _, errno := unix.RawSyscall6(unix.SYS_SENDTO, fd, uintptr(unsafe.Pointer(&q.out[0])), uintptr(len(q.out)), unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, 0, 0)
	if errno == 0 {
		q.put = int(n)
	}
}

// gather waits a moment for more queries, with this processor: Go's timers take a millisecond at least.
func gather() {
	wait := unix.NsecToTimespec(gatherTime.Nanoseconds())
	_, _, _ = unix.RawSyscall(unix.SYS_NANOSLEEP, uintptr(unsafe.Pointer(&wait)), 0, 0) // a signal ends it early, which is no harm
}
