package srvboot

import (
	"bufio"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// PortHolder names the process that listens on addr (an address and port, such as "10.0.1.10:53" or "[::]:2380") of
// network "tcp" or "udp", such as "etcd (pid 123)". It is "another process (not visible to this user)" when the
// socket is there and its owner cannot be seen, and empty when nothing listens there. A socket that listens on all
// addresses holds the port on each of them.
func PortHolder(network, addr string) string {
	want, err := netip.ParseAddrPort(addr)
	if err != nil {
		port, perr := strconv.ParseUint(strings.TrimPrefix(addr, ":"), 10, 16)
		if perr != nil {
			return ""
		}
		want = netip.AddrPortFrom(netip.IPv6Unspecified(), uint16(port))
	}
	network = strings.TrimRight(network, "46")
	var inodes []string
	for _, suffix := range []string{"", "6"} {
		inodes = append(inodes, listeners("/proc/net/"+network+suffix, want)...)
	}
	if len(inodes) == 0 {
		return ""
	}
	return socketHolders(inodes)
}

// The states of /proc/net/tcp and udp (Linux include/net/tcp_states.h): a bound UDP socket is "closed".
const (
	procTCPListen = "0A"
	procUDPBound  = "07"
)

// listeners returns the inodes of the sockets in a table of /proc/net that hold the address.
func listeners(table string, want netip.AddrPort) []string {
	f, err := os.Open(table)
	if err != nil {
		return nil
	}
	defer f.Close() // read only
	state := procTCPListen
	if strings.Contains(table, "udp") {
		state = procUDPBound
	}
	var inodes []string
	for lines := bufio.NewScanner(f); lines.Scan(); {
		// sl local_address rem_address st tx:rx tr:when retrnsmt uid timeout inode …
		field := strings.Fields(lines.Text())
		if len(field) < 10 || field[3] != state {
			continue
		}
		have, err := procAddr(field[1])
		if err == nil && have.Port() == want.Port() && overlaps(have.Addr(), want.Addr()) {
			inodes = append(inodes, field[9])
		}
	}
	return inodes
}

func overlaps(a, b netip.Addr) bool {
	return a.IsUnspecified() || b.IsUnspecified() || a.Unmap() == b.Unmap().WithZone("")
}

// procAddr reads an address as /proc/net prints it: 32-bit words of the machine's byte order, then the port.
func procAddr(s string) (netip.AddrPort, error) {
	host, port, _ := strings.Cut(s, ":")
	b, err := hex.DecodeString(host)
	if err != nil {
		return netip.AddrPort{}, err
	}
	for w := b; len(w) >= 4; w = w[4:] {
		binary.BigEndian.PutUint32(w, binary.NativeEndian.Uint32(w))
	}
	a, ok := netip.AddrFromSlice(b)
	p, err := strconv.ParseUint(port, 16, 16)
	if err != nil || !ok {
		return netip.AddrPort{}, fmt.Errorf("address %q", s)
	}
	return netip.AddrPortFrom(a, uint16(p)), nil
}

// unseenHolder stands for a process whose descriptors this user may not list.
const unseenHolder = "another process (not visible to this user)"

// socketHolders names the processes that have a socket of these inodes open.
func socketHolders(inodes []string) string {
	return fdHolders(func(_, link string) bool {
		inode, ok := strings.CutPrefix(link, "socket:[")
		return ok && slices.Contains(inodes, strings.TrimSuffix(inode, "]"))
	})
}

// fdHolders names the processes with an open descriptor whose link matches.
func fdHolders(match func(pid, link string) bool) string {
	fds, err := filepath.Glob("/proc/[0-9]*/fd/*")
	if err != nil {
		return unseenHolder
	}
	var names []string
	for _, fd := range fds {
		owner := strings.Split(fd, "/")[2] // "", "proc", PID, "fd", N
		link, err := os.Readlink(fd)
		if err != nil || !match(owner, link) {
			continue
		}
		pid, err := strconv.Atoi(owner)
		if name := processName(pid); err == nil && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return unseenHolder
	}
	return strings.Join(names, ", ")
}

// processName is the command of a process with its pid.
func processName(pid int) string {
	comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	if err != nil {
		return fmt.Sprintf("a process (pid %d)", pid)
	}
	return fmt.Sprintf("%s (pid %d)", strings.TrimSpace(string(comm)), pid)
}
