package stock

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/transport"
	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/etcdserver/api/membership"
	"go.uber.org/zap"
)

// peerWithin bounds a question to a peer that may not run yet.
const peerWithin = time.Second

// checkClusterID is the guide's third error. etcd starts such a member, and it and the others log for ever that they do
// not know each other. Of a cluster that is about to be born nobody has another ID: peers that answer with one have been
// born apart from this member, so that it has nothing to lose. While those of other IDs leave it a quorum it may go on, as
// etcd does: they are what is wrong, and watch looks on. The token is what IDs are made from beside the URLs.
func checkClusterID(ctx context.Context, s *settings, cluster types.URLsMap, token string, say func(string, ...any)) error {
	own, err := membership.NewClusterFromURLsMap(zap.NewNop(), token, cluster)
	if err != nil || s.get("initial-cluster-state") != embed.ClusterStateFlagNew {
		return nil //nolint:nilerr // etcd says it
	}
	id := own.ID().String()
	answers := askPeers(ctx, s, cluster)
	strangers, other, at := 0, identity{}, ""
	for _, name := range slices.Sorted(maps.Keys(cluster)) {
		strange := false
		for _, u := range cluster[name].StringSlice() {
			switch got := answers[u]; got.cluster {
			case "":
			case id:
				if err := checkBlank(s, own, got, u); err != nil {
					return err
				}
			default:
				strange, other, at = true, got, u
			}
		}
		if strange {
			strangers++
		}
	}
	if strangers == 0 {
		return nil
	}
	if n := len(cluster); n-strangers >= n/2+1 {
		say("warning: %s is of another cluster (%s) than this member (%s), which starts, since %d of %d members can still be a cluster: correct what runs there, or replace it with etcdctl member remove and add",
			at, other.cluster, id, n-strangers, n)
		return nil
	}
	return &Problem{What: fmt.Sprintf("conflicting cluster ID to the target cluster (%s != %s): %s says the first, and the second is what this member makes of its peers' URLs and its token: %s. Exiting.",
		other.cluster, id, at, differ(cluster.URLs(), other.members)),
		Fix: fmt.Sprintf("to join that cluster: etcdctl member add %s --peer-urls=%s, and start with what it prints; else correct what differs", s.get("name"), s.get("initial-advertise-peer-urls"))}
}

// differ says in what IDs differ: they are made from peer URLs and a token (membership.NewMember).
func differ(own []string, members []membership.Member) string {
	var theirs []string
	for _, m := range members {
		theirs = append(theirs, m.PeerURLs...)
	}
	slices.Sort(theirs)
	slices.Sort(own)
	switch {
	case len(theirs) == 0:
		return "it has " + strings.Join(own, ", ")
	case slices.Equal(theirs, own):
		return "the URLs are the same, so that the token is another one, or the cluster was changed since its birth"
	}
	return fmt.Sprintf("that cluster has %s, and it has %s", strings.Join(theirs, ", "), strings.Join(own, ", "))
}

// checkBlank: a member that has served and lost its disk has forgotten what it acknowledged and whom it voted for. etcd
// refuses it too, as "already bootstrapped" (etcdserver/bootstrap.go), while a peer is there to tell.
func checkBlank(s *settings, own *membership.RaftCluster, peer identity, at string) error {
	self := own.MemberByName(s.get("name"))
	if self == nil {
		return nil
	}
	for _, m := range peer.members {
		if m.ID == self.ID && len(m.ClientURLs) > 0 {
			return &Problem{What: fmt.Sprintf("member %s has already been bootstrapped: %s says that %s is a member of that cluster already, and has served, but its data directory %s is blank",
				m.ID, at, s.get("name"), s.dir()),
				Fix: fmt.Sprintf("etcdctl member remove %s; etcdctl member add %s --peer-urls=%s, and start with what it prints", m.ID, s.get("name"), s.get("initial-advertise-peer-urls"))}
		}
	}
	return nil
}

// askPeers asks all other members at once for their cluster.
func askPeers(ctx context.Context, s *settings, cluster types.URLsMap) map[string]identity {
	var urls []string
	for name, of := range cluster {
		if name != s.get("name") {
			urls = append(urls, of.StringSlice()...)
		}
	}
	ask, err := newAsker(s, s.checksDomain(cluster.URLs()))
	if err != nil {
		return nil // etcd says what is wrong with its files
	}
	defer ask.CloseIdleConnections()
	return ask.all(ctx, urls)
}

// asker asks peers as etcd does.
type asker struct{ *http.Transport }

// newAsker makes one with the member's own certificate; domain says that the discovery domain has to be in those of peers.
func newAsker(s *settings, domain bool) (asker, error) {
	info := transport.TLSInfo{CertFile: s.get("peer-cert-file"), KeyFile: s.get("peer-key-file"), TrustedCAFile: s.get("peer-trusted-ca-file"),
		InsecureSkipVerify: s.get("peer-auto-tls") == "true"}
	if domain {
		info.ServerName = s.get("discovery-srv")
	}
	tr, err := transport.NewTransport(info, peerWithin)
	return asker{tr}, err
}

// identity is what a peer says of its cluster; empty when it says nothing.
type identity struct {
	cluster string
	members []membership.Member
}

// all asks peers at once, within two seconds.
func (a asker) all(ctx context.Context, urls []string) map[string]identity {
	ctx, cancel := context.WithTimeout(ctx, 2*peerWithin)
	defer cancel()
	var mu sync.Mutex
	var wg sync.WaitGroup
	out := map[string]identity{}
	for _, u := range urls {
		wg.Go(func() {
			id := a.one(ctx, u)
			mu.Lock()
			defer mu.Unlock()
			out[u] = id
		})
	}
	wg.Wait()
	return out
}

func (a asker) one(ctx context.Context, u string) (id identity) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(u, "/")+"/members", nil)
	if err != nil {
		return id
	}
	resp, err := a.RoundTrip(req)
	if err != nil {
		return id
	}
	defer func() { _ = resp.Body.Close() }()
	id.cluster = resp.Header.Get("X-Etcd-Cluster-ID")
	if err := json.NewDecoder(io.LimitReader(resp.Body, 1<<20)).Decode(&id.members); err != nil {
		id.members = nil // the ID is good without them
	}
	return id
}
