package member

import (
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/etcd-dns/etcd-dns/internal/sockets"
	"github.com/etcd-dns/etcd-dns/srvboot"
)

const (
	// linksEvery is how often connections to other members are looked for that have no probes yet.
	linksEvery = time.Second
	// A connection that brought nothing for silentFor is probed every probeEvery, and ended when maxProbes had no answer.
	// That is five seconds, which etcd means to have as its read timeout (server/etcdserver/api/rafthttp ConnReadTimeout)
	// and has not: its http.Transport dials with DialContext, not with the Dial that sets it (client/pkg/transport
	// timeout_transport.go). Members send something every 1.7 s. Go's own probes begin after 30 s and take two more minutes.
	silentFor, probeEvery, maxProbes = 2 * time.Second, time.Second, 3
)

// probeLinks has the kernel find out which connections to other members lead nowhere any more. Without that a member that
// loses one address family, and with it the leader, waits for minutes on connections of that family, though it would be
// heard over the other one: etcd dials again, by whatever address answers, only when a connection ends.
func probeLinks(members []srvboot.MemberEntry) error {
	ports := peerPorts(members)
	return sockets.Each(func(fd int) error {
		if !slices.Contains(ports, int(sockets.Remote(fd).Port())) {
			return nil
		}
		for option, value := range map[int]int{unix.TCP_KEEPIDLE: int(silentFor.Seconds()), unix.TCP_KEEPINTVL: int(probeEvery.Seconds()), unix.TCP_KEEPCNT: maxProbes} {
			if err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, option, value); err != nil && sockets.Remote(fd).IsValid() {
				return fmt.Errorf("have the kernel probe a connection to another member: %w", err)
			}
		}
		return nil
	})
}

// peerPorts are where members listen to each other.
func peerPorts(members []srvboot.MemberEntry) (ports []int) {
	for _, m := range members {
		for _, raw := range m.PeerURLs {
			u, err := url.Parse(raw)
			if err != nil {
				continue
			}
			if p, err := strconv.ParseUint(u.Port(), 10, 16); err == nil && p > 0 {
				ports = append(ports, int(p))
			}
		}
	}
	return ports
}
