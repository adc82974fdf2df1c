package front

import (
	"fmt"
	"syscall"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"
)

// randomWord is where a classic BPF program loads a random word from: SKF_AD_OFF + SKF_AD_RANDOM of linux/filter.h.
const randomWord = 0xfffff000 + 56

// maxServerQuery is how many octets of a packet CoreDNS reads over UDP: it leaves dns.Server.UDPSize at its default.
const maxServerQuery = dns.MinMsgSize

// onlyServer is the program that chooses one socket of a group for everything.
func onlyServer(index uint32) []unix.SockFilter {
	return []unix.SockFilter{{Code: unix.BPF_RET | unix.BPF_K, K: index}}
}

// usual is the program that chooses one of the first n sockets of a group for usual queries and the next one, the full
// server's, for everything else: other opcodes (UPDATE, NOTIFY), other numbers of questions than one, records in the
// answer or authority section (IXFR), more than one in the additional section (TSIG beside OPT), and what is shorter
// than a header. The packet begins with the DNS header (RFC 1035 §4.1.1).
//
// What is longer than the server reads over UDP goes to the sockets in front all the same, which read more (maxQuery): the
// server would see it cut off, and call it malformed.
func usual(n uint32) []unix.SockFilter {
	const load, half, octet = unix.BPF_LD | unix.BPF_W, unix.BPF_LD | unix.BPF_H | unix.BPF_ABS, unix.BPF_LD | unix.BPF_B | unix.BPF_ABS
	const equal, less, greater = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K, unix.BPF_JMP | unix.BPF_JGT | unix.BPF_K
	return []unix.SockFilter{
		{Code: load | unix.BPF_LEN},
		{Code: less, K: headerLen, Jf: 13},
		{Code: greater, K: maxServerQuery, Jt: 9},
		{Code: octet, K: 2},
		{Code: unix.BPF_ALU | unix.BPF_AND | unix.BPF_K, K: flagOpcode},
		{Code: equal, K: 0, Jf: 9},
		{Code: half, K: 4}, // QDCOUNT
		{Code: equal, K: 1, Jf: 7},
		{Code: load | unix.BPF_ABS, K: 6}, // ANCOUNT and NSCOUNT
		{Code: equal, K: 0, Jf: 5},
		{Code: half, K: 10}, // ARCOUNT
		{Code: greater, K: 1, Jt: 3},
		{Code: load | unix.BPF_ABS, K: randomWord},
		{Code: unix.BPF_ALU | unix.BPF_MOD | unix.BPF_K, K: n},
		{Code: unix.BPF_RET | unix.BPF_A},
		{Code: unix.BPF_RET | unix.BPF_K, K: n},
	}
}

func program(f []unix.SockFilter) *unix.SockFprog {
	return &unix.SockFprog{Len: uint16(len(f)), Filter: &f[0]}
}

// attach gives a socket's group a program in the place of the one it has.
func (g *group) attach(c syscall.Conn, p *unix.SockFprog) error {
	err := g.fail("SO_ATTACH_REUSEPORT_CBPF")
	raw, e := c.SyscallConn()
	if e != nil {
		return e
	}
	if e := raw.Control(func(fd uintptr) {
		if err == nil {
			err = unix.SetsockoptSockFprog(int(fd), unix.SOL_SOCKET, unix.SO_ATTACH_REUSEPORT_CBPF, p)
		}
	}); e != nil {
		return e
	}
	if err != nil {
		return fmt.Errorf("set SO_ATTACH_REUSEPORT_CBPF: %w", err)
	}
	return nil
}
