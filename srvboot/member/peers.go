package member

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/etcdserver/api/membership"
	"go.etcd.io/etcd/server/v3/etcdserver/api/rafthttp"
	"go.etcd.io/etcd/server/v3/features"
	"go.uber.org/zap"

	"github.com/etcd-dns/etcd-dns/srvboot"
)

const (
	// peerDial and peerAnswer bound one question to one peer; a living peer of a rack answers within milliseconds.
	peerDial   = time.Second
	peerAnswer = 2 * time.Second
	// hashPatience is what a restart may lose on finding out whether peers can be asked for their hashes.
	hashPatience = 300 * time.Millisecond
	// joinPatience is how long a joiner waits for lagging peers to have applied its own addition; after it, the
	// parent decides anew.
	joinPatience = 15 * time.Second
	joinRetry    = 200 * time.Millisecond
	// firstPatience is how long a birth waits for its first member, firstRetry is between two looks at its port.
	firstPatience = 2 * time.Second
	firstRetry    = 5 * time.Millisecond
	// maxMembers bounds the answer of a peer.
	maxMembers = 1 << 20
)

// peerAnswers is what one peer says at /members, which etcd serves to every peer without asking for a quorum.
type peerAnswers struct {
	url     string
	cluster string
	members []*membership.Member
	err     error
}

// askPeers asks all urls at once and returns their answers in the same order.
func askPeers(ctx context.Context, cfg *embed.Config, urls []string) ([]peerAnswers, error) {
	rt, err := rafthttp.NewRoundTripper(cfg.PeerTLSInfo, peerDial)
	if err != nil {
		return nil, fmt.Errorf("set up TLS to the peers: %w", err)
	}
	client := &http.Client{Transport: rt, Timeout: peerAnswer}
	defer client.CloseIdleConnections()
	out := make([]peerAnswers, len(urls))
	var wg sync.WaitGroup
	for i, u := range urls {
		wg.Go(func() { out[i] = askPeer(ctx, client, u) })
	}
	wg.Wait()
	return out, nil
}

func askPeer(ctx context.Context, client *http.Client, u string) peerAnswers {
	a := peerAnswers{url: u}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u+"/members", nil)
	if err != nil {
		a.err = err
		return a
	}
	resp, err := client.Do(req)
	if err != nil {
		a.err = err
		return a
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		a.err = fmt.Errorf("%s/members answers %s", u, resp.Status)
		return a
	}
	id, err := types.IDFromString(resp.Header.Get("X-Etcd-Cluster-ID"))
	if err != nil {
		a.err = fmt.Errorf("%s/members tells no cluster ID: %w", u, err)
		return a
	}
	a.cluster = hexID(uint64(id))
	a.err = json.NewDecoder(io.LimitReader(resp.Body, maxMembers)).Decode(&a.members)
	if a.err == nil && slices.Contains(a.members, nil) {
		a.err = fmt.Errorf("%s/members has a null in the place of a member", u)
	}
	return a
}

// afterFirst lets the member with the first peer URL start ahead of the others (safety.md T5). etcd opens its peer
// port before it serves there, and at a birth asks the others, in the order of their URLs, whether they have been
// bootstrapped (etcd server/etcdserver/bootstrap.go, isMemberBootstrapped): members that start together stall on each
// other's silent ports for a second each. When the first one does not serve in time, the stall is the lesser evil.
func (c *child) afterFirst(ctx context.Context, cfg *embed.Config, first string) error {
	if cfg.AdvertisePeerUrls[0].String() == first {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, firstPatience)
	defer cancel()
	for {
		answers, err := askPeers(ctx, cfg, []string{first})
		if err != nil || answers[0].err == nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(firstRetry):
		}
	}
}

// beforeExisting lets a member join only once every peer that can be reached lists it under the expected ID. etcd
// itself believes the first peer that answers, and a lagging one still lists the ID that was removed (safety.md C10).
func (c *child) beforeExisting(ctx context.Context, cfg *embed.Config, members []srvboot.GenesisMember) error {
	own := cfg.AdvertisePeerUrls[0].String()
	var others []string
	for _, m := range members {
		if m.PeerURL != own {
			others = append(others, m.PeerURL)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, joinPatience)
	defer cancel()
	for {
		answers, err := askPeers(ctx, cfg, others)
		if err != nil {
			return err
		}
		err = c.listedByAll(answers, own)
		if err == nil {
			return nil
		}
		c.log.Info("waiting for the peers to list this member", zap.Error(err))
		select {
		case <-ctx.Done():
			return wrongIdentity("the peers did not list this member within %v: %w", joinPatience, err)
		case <-time.After(joinRetry):
		}
	}
}

// listedByAll checks the answers of the peers that gave one; at least one has to.
func (c *child) listedByAll(answers []peerAnswers, own string) error {
	var silent []error
	for _, a := range answers {
		if a.err != nil {
			silent = append(silent, a.err)
			continue
		}
		i := slices.IndexFunc(a.members, func(m *membership.Member) bool { return slices.Contains(m.PeerURLs, own) })
		if i < 0 {
			return fmt.Errorf("%s does not list %s", a.url, own)
		}
		got := identity{cluster: a.cluster, member: hexID(uint64(a.members[i].ID))}
		if err := c.expect(a.url, got); err != nil {
			return err
		}
	}
	if len(silent) == len(answers) {
		return fmt.Errorf("no peer answers: %w", errors.Join(silent...))
	}
	return nil
}

// maybeCompareHashes turns on etcd's comparison of key-value hashes before a restarted member serves, when all other
// members answer. etcd asks one peer after the other for up to 7 s each, and accepts connections itself long before
// it answers any: after a power cut two members would wait for each other (measured: 6.8 s instead of 0.6 s). With a
// member missing, the leader's periodic check has to do.
func (c *child) maybeCompareHashes(ctx context.Context, cfg *embed.Config) error {
	ctx, cancel := context.WithTimeout(ctx, hashPatience)
	defer cancel()
	urls := c.peerURLsBySRV(cfg)
	answers, err := askPeers(ctx, cfg, urls)
	if err != nil {
		return err
	}
	for _, a := range answers {
		if a.err != nil {
			return nil
		}
	}
	if len(urls) == 0 {
		return nil
	}
	return setGates(cfg, features.CompactHashCheck, features.InitialCorruptCheck)
}

// peerURLsBySRV lists the other members' peer URLs, as far as the view tells.
func (c *child) peerURLsBySRV(cfg *embed.Config) []string {
	found, _ := cfg.GetDNSClusterNames()
	var urls []string
	for _, nameURL := range found {
		_, raw, _ := strings.Cut(nameURL, "=")
		u, err := url.Parse(raw)
		if err == nil && raw != cfg.AdvertisePeerUrls[0].String() {
			urls = append(urls, u.String())
		}
	}
	return urls
}
