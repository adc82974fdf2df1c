package sockets

import (
	"errors"
	"net"
	"testing"
)

// Both ends of a connection are found, and told from a listener and from what is no socket.
func TestEach(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	accepted, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer accepted.Close()
	ends, listeners := 0, 0
	if err := Each(func(fd int) error {
		switch local, remote := Local(fd).String(), Remote(fd).String(); {
		case local == l.Addr().String() && !Remote(fd).IsValid():
			listeners++
		case local == l.Addr().String() && remote == c.LocalAddr().String(), local == c.LocalAddr().String() && remote == l.Addr().String():
			ends++
		}
		return nil
	}); err != nil || ends != 2 || listeners != 1 {
		t.Errorf("%d ends and %d listeners, %v", ends, listeners, err)
	}
	enough := errors.New("enough")
	calls := 0
	if err := Each(func(int) error { calls++; return enough }); !errors.Is(err, enough) || calls != 1 {
		t.Errorf("%d calls, %v", calls, err)
	}
}
