package node

import (
	"net"
	"net/netip"
	"slices"
	"sync"

	"github.com/etcd-dns/etcd-dns/zone/front"
)

const (
	// lobbySize and lobbyPerSource bound the connections to the admin port whose other end has not shown yet that it is
	// a node: of all, and of one IPv4 address or IPv6 /64. A rack has 64 nodes at most, which do so at once.
	lobbySize, lobbyPerSource = 64, 8
)

// lobby is a listener's connections that nothing is known of. One that comes when there are too many takes the place of
// the oldest of the source that has the most, so that nodes get in whatever others do.
type lobby struct {
	net.Listener

	mu      sync.Mutex
	waiting []*visitor // guarded by mu; the oldest first
}

// visitor is a connection. It leaves the lobby when it is closed or welcome.
type visitor struct {
	net.Conn
	lobby  *lobby
	source netip.Addr
}

// Accept lets the next one in.
func (l *lobby) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	v := &visitor{Conn: c, lobby: l}
	if from, ok := c.RemoteAddr().(*net.TCPAddr); ok {
		v.source = front.SourceOf(from.AddrPort().Addr())
	}
	if out := l.enter(v); out != nil {
		_ = out.Conn.Close() // whoever serves it finds it closed
	}
	return v, nil
}

// enter adds a connection, and returns the one that has to go for it; nil for none.
func (l *lobby) enter(v *visitor) (out *visitor) {
	l.mu.Lock()
	defer l.mu.Unlock()
	count := map[netip.Addr]int{}
	for _, w := range l.waiting {
		count[w.source]++
	}
	crowd := v.source
	switch {
	case count[crowd] >= lobbyPerSource:
	case len(l.waiting) < lobbySize:
		l.waiting = append(l.waiting, v)
		return nil
	default:
		for _, w := range l.waiting {
			if count[w.source] > count[crowd] {
				crowd = w.source
			}
		}
	}
	i := slices.IndexFunc(l.waiting, func(w *visitor) bool { return w.source == crowd })
	out = l.waiting[i]
	l.waiting = append(slices.Delete(l.waiting, i, i+1), v)
	return out
}

// welcome takes a connection out of the lobby: its other end is a node. Once more does nothing.
func (v *visitor) welcome() {
	v.lobby.mu.Lock()
	defer v.lobby.mu.Unlock()
	if i := slices.Index(v.lobby.waiting, v); i >= 0 {
		v.lobby.waiting = slices.Delete(v.lobby.waiting, i, i+1)
	}
}

// Close ends the connection.
func (v *visitor) Close() error {
	v.welcome()
	return v.Conn.Close()
}
