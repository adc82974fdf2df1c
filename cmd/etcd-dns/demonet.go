package main

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/etcd-dns/etcd-dns/node"
	"github.com/etcd-dns/etcd-dns/srvboot"
)

// network is the loopback /24 that a demo lives in: 127.0.1.0, or the next one when another demo has it.
type network struct {
	third byte
	// lock is an abstract socket that keeps other demos out; the kernel frees it when this process ends.
	lock net.Listener
	note string
}

// demoNetworks is how many demos can run beside each other.
const demoNetworks = 50

// addr is the address of node i: 127.0.1.10 and up.
func (n network) addr(i int) netip.Addr {
	return netip.AddrFrom4([4]byte{127, 0, n.third, byte(10 + i)})
}

// domain differs between demos at once, because a name of a domain runs once on a machine.
func (n network) domain() string {
	if n.third == 1 {
		return demoDomain
	}
	return fmt.Sprintf("demo%d.example.com", n.third)
}

// earlierNetwork finds the network of the demo that a directory holds; 0 when it holds none.
func earlierNetwork(dir string) (third byte) {
	text, err := os.ReadFile(filepath.Join(dir, "Corefile"))
	if err != nil {
		return 0
	}
	if _, after, ok := strings.Cut(string(text), "node infra0 127.0."); ok {
		_, _ = fmt.Sscanf(after, "%d.", &third)
	}
	return third
}

// pickNetwork finds a network whose etcd ports are free, or takes the one that is given. The DNS port was chosen by
// the user, so it must be free in the first network: two demos at once take two ports.
func pickNetwork(only byte, nodes int, dnsPort uint16) (network, error) {
	var held error
	for third := byte(1); third <= demoNetworks; third++ {
		if only != 0 && third != only {
			continue
		}
		n := network{third: third}
		if err := n.free(nodes, dnsPort); err != nil {
			return n, err
		}
		l, err := net.Listen("unix", fmt.Sprintf("@etcd-dns-demo/127.0.%d.0", third))
		if err != nil {
			continue // another demo has this network
		}
		n.lock = l
		if err := n.free(nodes, node.DefaultAdminPort, node.DefaultClientPort, node.DefaultPeerPort, 9153); err != nil {
			held = errors.Join(held, err, l.Close())
			continue
		}
		if third > 1 {
			n.note = fmt.Sprintf("127.0.1.0/24 is in use, so this demo lives at %s and up", n.addr(0))
			if held != nil {
				n.note += ": " + oneLine(held.Error())
			}
		}
		return n, nil
	}
	return network{}, fmt.Errorf("no loopback network is free for a demo: %w", errors.Join(held, errors.New("all are in use")))
}

// free tries to bind the ports of every node.
func (n network) free(nodes int, ports ...uint16) error {
	for i := range nodes {
		for _, port := range ports {
			if err := tryBind(netip.AddrPortFrom(n.addr(i), port)); err != nil {
				return err
			}
		}
	}
	return nil
}

func tryBind(at netip.AddrPort) error {
	l, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(at))
	if err != nil {
		return bindError("tcp", at, err)
	}
	defer l.Close()
	p, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(at))
	if err != nil {
		return bindError("udp", at, err)
	}
	return p.Close()
}

func bindError(proto string, at netip.AddrPort, err error) error {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return &usageErr{what: fmt.Sprintf("%s port %s is taken by %s", proto, at, srvboot.PortHolder(proto, at.String())),
			hint: fmt.Sprintf("stop it, or choose another port: etcd-dns demo --dns-port %d", at.Port()+100)}
	case errors.Is(err, os.ErrPermission):
		return &usageErr{what: fmt.Sprintf("no permission to bind %s port %s", proto, at), hint: "choose a port above 1023, or run as root"}
	}
	return fmt.Errorf("bind %s port %s: %w", proto, at, err)
}

// usageErr is an error with a hint that is not the command line's fault: exit status 1.
type usageErr struct{ what, hint string }

func (e *usageErr) Error() string { return e.what }
func (e *usageErr) Hint() string  { return e.hint }

// lockDir keeps a second demo out of the directory until the file is closed.
func lockDir(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, ".lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock the demo's directory: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = f.Close()
		return nil, &usageErr{what: "another demo runs in " + dir, hint: "choose another --dir, or stop it"}
	}
	return f, nil
}
