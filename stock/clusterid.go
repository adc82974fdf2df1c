package stock

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/transport"
	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/etcd/server/v3/etcdserver/api/membership"
	"go.uber.org/zap"
)

// peerWithin bounds a question to a peer that may not run yet.
const peerWithin = time.Second

// checkClusterID is the guide's third error. etcd starts such a member, and it and the others log for ever that they do
// not know each other. Of a cluster that is about to be born nobody has another ID: peers that answer with one have been
// born apart from this member, so that it has nothing to lose. One that is not alone with its ID may go on: then the other
// one is wrong.
func checkClusterID(ctx context.Context, s *settings, cluster types.URLsMap) error {
	own, err := membership.NewClusterFromURLsMap(zap.NewNop(), s.get("initial-cluster-token"), cluster)
	if err != nil || s.get("initial-cluster-state") != "new" {
		return nil //nolint:nilerr // etcd says it
	}
	id := own.ID().String()
	same, other, at := 0, "", ""
	for u, got := range peerIDs(ctx, s, cluster) {
		switch got {
		case "":
		case id:
			same++
		default:
			other, at = got, u
		}
	}
	if other == "" || same > 0 {
		return nil
	}
	return &Problem{What: fmt.Sprintf("conflicting cluster ID to the target cluster (%s != %s): %s says the first, and the second follows from --initial-cluster and --initial-cluster-token here. Exiting.", other, id, at),
		Fix: fmt.Sprintf("to join that cluster: etcdctl member add %s --peer-urls=%s, and start with what it prints; else correct --initial-cluster", s.get("name"), s.get("initial-advertise-peer-urls"))}
}

// peerIDs asks all other members at once for their cluster's ID.
func peerIDs(ctx context.Context, s *settings, cluster types.URLsMap) map[string]string {
	tr, err := transport.NewTransport(transport.TLSInfo{CertFile: s.get("peer-cert-file"), KeyFile: s.get("peer-key-file"), TrustedCAFile: s.get("peer-trusted-ca-file"),
		InsecureSkipVerify: s.get("peer-auto-tls") == "true"}, peerWithin)
	if err != nil {
		return nil // etcd says what is wrong with its files
	}
	defer tr.CloseIdleConnections()
	ctx, cancel := context.WithTimeout(ctx, 2*peerWithin)
	defer cancel()
	var mu sync.Mutex
	var wg sync.WaitGroup
	out := map[string]string{}
	for name, urls := range cluster {
		if name == s.get("name") {
			continue
		}
		for _, u := range urls.StringSlice() {
			wg.Go(func() {
				id := clusterIDAt(ctx, tr, u)
				mu.Lock()
				defer mu.Unlock()
				out[u] = id
			})
		}
	}
	wg.Wait()
	return out
}

// clusterIDAt is the ID that a peer says its cluster has; empty when it says nothing.
func clusterIDAt(ctx context.Context, tr http.RoundTripper, u string) string {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(u, "/")+"/members", nil)
	if err != nil {
		return ""
	}
	resp, err := tr.RoundTrip(req)
	if err != nil {
		return ""
	}
	defer func() { _ = resp.Body.Close() }()
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 1<<20))
	return resp.Header.Get("X-Etcd-Cluster-ID")
}
