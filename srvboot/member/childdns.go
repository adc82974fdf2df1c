package member

import (
	"context"
	"fmt"
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// resolverDial bounds the connection to the parent, which is on the same host.
const resolverDial = time.Second

// useParentResolver makes every lookup of this process ask the parent. etcd resolves at some thirty places, all of
// which end in net.DefaultResolver. A stream connection makes Go speak DNS with the two-octet length of RFC 1035
// §4.2.2, whatever transport it asks for (net/dnsclient_unix.go exchange). StrictErrors keeps half an answer, A
// without AAAA, from being taken for all of it.
func useParentResolver(socket string) {
	net.DefaultResolver = &net.Resolver{
		PreferGo:     true,
		StrictErrors: true,
		Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
			c, err := dialAbstract(ctx, socket)
			if err != nil {
				return nil, err
			}
			return stream{c}, nil
		},
	}
}

// stream hides that a UnixConn has the methods of a PacketConn. To what has not, Go speaks DNS with the two-octet
// length of RFC 1035 §4.2.2, whatever transport it asked for (net/dnsclient_unix.go exchange).
type stream struct{ net.Conn }

// abstract turns a name into the address of a Linux abstract socket, which needs no file and so knows no limit of
// 108 octets for data directories.
func abstract(name string) *net.UnixAddr { return &net.UnixAddr{Net: "unix", Name: "@" + name} }

// dialAbstract connects to a socket of a process of the same user.
func dialAbstract(ctx context.Context, name string) (net.Conn, error) {
	d := net.Dialer{Timeout: resolverDial}
	conn, err := d.DialContext(ctx, "unix", abstract(name).Name)
	if err != nil {
		return nil, err
	}
	if err := sameUser(conn.(*net.UnixConn)); err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}

// sameUser checks who is at the other end: abstract sockets have no permissions.
func sameUser(c *net.UnixConn) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return fmt.Errorf("look at the peer of a unix socket: %w", err)
	}
	var cred *unix.Ucred
	var credErr error
	if err := raw.Control(func(fd uintptr) {
		cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil {
		return fmt.Errorf("look at the peer of a unix socket: %w", err)
	}
	if credErr != nil {
		return fmt.Errorf("look at the peer of a unix socket: %w", credErr)
	}
	if int(cred.Uid) != unix.Geteuid() {
		return fmt.Errorf("a process of user %d is at the other end of a unix socket, want user %d", cred.Uid, unix.Geteuid())
	}
	return nil
}
