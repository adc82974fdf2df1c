//go:build !linux

package front

import (
	"errors"
	"net"
)

// group, udpSocket and batch are Linux's: elsewhere a front does not open, and the full server answers alone.
type group struct {
	udp []*udpSocket
	tcp net.Listener
}

type udpSocket struct {
	conn  net.PacketConn
	batch *batch
	done  chan struct{}
}

type batch struct{}

func openGroup(*Config, func(string) error) (*group, error) { return nil, errors.ErrUnsupported }

func (*group) steer(_, _ bool) error { return errors.ErrUnsupported }
func (*group) handOver() error       { return errors.ErrUnsupported }
func (*group) close() error          { return nil }

func newBatch(*udpSocket, *Front) *batch { return nil }

func (*udpSocket) serve() error { return errors.ErrUnsupported }
func (*udpSocket) drain()       {}
func (*udpSocket) stop()        {}
