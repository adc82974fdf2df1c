package gateway

import (
	"context"
	"net"
	"time"
)

// unheard is how long a peer may leave what it was sent unacknowledged, and probes unanswered, before its connection is ended:
// it has crashed or is cut off. Without it that would take TCP a quarter of an hour (RFC 1122 §4.2.3.5).
const unheard = 10 * time.Second

// keepAlive finds peers that fell silent while nothing is sent (RFC 9293 §3.8.4), within unheard.
var keepAlive = net.KeepAliveConfig{Enable: true, Idle: unheard / 2, Interval: unheard / 10, Count: 5}

// Listen opens the socket for clients.
func Listen(ctx context.Context, address string) (net.Listener, error) {
	l := net.ListenConfig{KeepAliveConfig: keepAlive, Control: userTimeout}
	l.SetMultipathTCP(false) // it has no TCP_USER_TIMEOUT
	return l.Listen(ctx, "tcp", address)
}
