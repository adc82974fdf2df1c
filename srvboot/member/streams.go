package member

import (
	"slices"
	"strconv"
	"sync"

	"go.uber.org/zap/zapcore"
)

// streams knows the other members that this one is connected with, from what etcd logs of each change
// (server/etcdserver/api/rafthttp peer_status.go, peer.go). The metric etcd_network_active_peers does not do: it counts a member twice,
// and never again as gone, whose peer is started anew, as after a join and with each snapshot from the leader (remote.go,
// Transport.RemoveAllPeers). A connection that leads nowhere ends after five seconds, see probeLinks.
type streams struct {
	mu     sync.Mutex
	active map[string]bool // by member ID
}

var _ zapcore.Core = (*streams)(nil)

// streamChange says, of the messages that count, whether the peer is connected then. Those of rafthttp's remotes, which
// lead a joiner until it knows its peers, come before the peer's start.
var streamChange = map[string]bool{
	"starting remote peer":                               false,
	"peer became active":                                 true,
	"peer became inactive (message send to peer failed)": false,
	"stopping remote peer":                               false,
}

// connected are the IDs, sorted.
func (s *streams) connected() (ids []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, active := range s.active {
		if active {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

// Enabled has etcd log changes for the streams even when the operator's level is above them.
func (s *streams) Enabled(l zapcore.Level) bool { return l >= zapcore.InfoLevel }

// With returns the same core: no context says whom a message is about.
func (s *streams) With([]zapcore.Field) zapcore.Core { return s }

// Check takes the messages that count.
func (s *streams) Check(e zapcore.Entry, ce *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if _, counts := streamChange[e.Message]; counts {
		return ce.AddCore(e, s)
	}
	return ce
}

// Write notes a change.
func (s *streams) Write(e zapcore.Entry, fields []zapcore.Field) error {
	for _, f := range fields {
		if f.Key != "peer-id" && f.Key != "remote-peer-id" {
			continue
		}
		id, err := strconv.ParseUint(f.String, 16, 64)
		if err != nil {
			continue
		}
		s.mu.Lock()
		if s.active == nil {
			s.active = map[string]bool{}
		}
		s.active[hexID(id)] = streamChange[e.Message]
		s.mu.Unlock()
	}
	return nil
}

// Sync has nothing to write.
func (s *streams) Sync() error { return nil }
