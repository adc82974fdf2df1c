package follow

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"

	"github.com/etcd-dns/etcd-dns/roster"
)

const (
	// maxAtOnce bounds how many members are asked at once.
	maxAtOnce = 32
	// maxAnswer bounds an answer, in octets: a member list within roster's bounds takes less.
	maxAnswer = 128 << 10
	// maxText bounds what is kept of a text that a member tells about itself, in octets.
	maxText = 300
)

// conns are the connections to the members, one for each URL, kept from round to round.
type conns struct {
	o       Options
	clients map[string]*clientv3.Client
	// files are the digest of the PEM files that the connections were made with.
	files [sha256.Size]byte
}

// look is what one URL answered.
type look struct {
	url                          string
	clusterID, memberID, version string
	leader, learner, leads       bool
	corrupt                      bool
	// denied says that it serves, and tells of itself to users of its own alone: there are no IDs then.
	denied bool
	err    error
}

// why says why the member does not serve clients; empty when it does.
func (l look) why() string {
	switch {
	case l.err != nil:
		return short(l.err.Error())
	case l.learner:
		return "it is a learner, which serves no clients"
	case !l.leads:
		return "it knows no leader"
	case l.corrupt:
		return "it has an alarm about corruption"
	}
	return ""
}

// look asks all URLs at once, and forgets connections to others. Its error is about the PEM files.
func (c *conns) look(ctx context.Context, urls []string) ([]look, error) {
	out := make([]look, len(urls))
	config, err := c.tls()
	if err != nil {
		for i, u := range urls {
			out[i] = look{url: u, err: err}
		}
		return out, err
	}
	for url, client := range c.clients {
		if !slices.Contains(urls, url) {
			_ = client.Close()
			delete(c.clients, url)
		}
	}
	var all sync.WaitGroup
	room := make(chan struct{}, maxAtOnce)
	for i, u := range urls {
		client, err := c.client(u, config)
		if err != nil {
			out[i] = look{url: u, err: err}
			continue
		}
		all.Go(func() {
			room <- struct{}{}
			out[i] = status(ctx, c.o.Timeout, u, client)
			<-room
		})
	}
	all.Wait()
	return out, nil
}

// status asks a member of itself alone, which costs it nothing.
func status(ctx context.Context, timeout time.Duration, url string, client *clientv3.Client) look {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	s, err := pb.NewMaintenanceClient(client.ActiveConnection()).Status(ctx, &pb.StatusRequest{})
	if denied(err) {
		return health(ctx, url, client)
	}
	if err != nil {
		return look{url: url, err: err}
	}
	h := s.GetHeader() // a stranger may leave it out
	return look{url: url, clusterID: hex(h.GetClusterId()), memberID: hex(h.GetMemberId()), version: short(s.Version), learner: s.IsLearner, leads: s.Leader != 0,
		leader: s.Leader == h.GetMemberId(), corrupt: slices.ContainsFunc(s.Errors, func(e string) bool { return strings.Contains(e, "CORRUPT") })}
}

// health looks at a member that tells strangers nothing, in etcdctl's way (endpoint health): a linearizable read that is
// denied by etcd's authentication went through a leader.
func health(ctx context.Context, url string, client *clientv3.Client) look {
	_, err := pb.NewKVClient(client.ActiveConnection()).Range(ctx, &pb.RangeRequest{Key: []byte("health")})
	if err != nil && !denied(err) {
		return look{url: url, err: err}
	}
	return look{url: url, leads: true, denied: true}
}

// denied reports whether etcd's authentication is why there is no answer.
func denied(err error) bool {
	etcds := rpctypes.Error(err)
	return slices.ContainsFunc([]error{rpctypes.ErrUserEmpty, rpctypes.ErrUserNotFound, rpctypes.ErrPermissionDenied, rpctypes.ErrInvalidAuthToken, rpctypes.ErrAuthOldRevision},
		func(e error) bool { return errors.Is(etcds, e) })
}

// explain says what to do about an error that a member answered with.
func explain(err error) error {
	if denied(err) {
		return fmt.Errorf("%w: with authentication on it tells its member list to its users alone; give a client certificate whose common name is one of its users, "+
			"with cert and key in the cluster's block (its servers need --client-cert-auth)", err)
	}
	return cut(err)
}

// list has a member tell the member list, linearizably where it can (etcd 3.5 and later): without a quorum there is no
// answer. A list that is not the known one is dated: told twice, with a status in between, it was the applied list at
// that status's index.
func (c *conns) list(ctx context.Context, url string, known roster.Followed) (out roster.Followed, err error) {
	client := c.clients[url]
	if client == nil {
		return out, errors.New("there is no connection")
	}
	for range 3 { // a list that changes in between is told anew
		if out, err = c.told(ctx, client); err != nil || out.Same(known) {
			return out, err
		}
		ctxStatus, cancel := context.WithTimeout(ctx, c.o.Timeout)
		s, err := pb.NewMaintenanceClient(client.ActiveConnection()).Status(ctxStatus, &pb.StatusRequest{})
		cancel()
		if err != nil {
			return out, explain(err)
		}
		if s.RaftAppliedIndex == 0 {
			return out, fmt.Errorf("it runs etcd %s, which does not tell how far its data go: 3.4 or later is needed", s.Version)
		}
		again, err := c.told(ctx, client)
		if err != nil {
			return out, err
		}
		if out.Index = s.RaftAppliedIndex; out.Same(again) {
			return out, nil
		}
	}
	return out, errors.New("its member list changes all the time")
}

func (c *conns) told(ctx context.Context, client *clientv3.Client) (out roster.Followed, err error) {
	ctx, cancel := context.WithTimeout(ctx, c.o.Timeout)
	defer cancel()
	r, err := client.MemberList(ctx)
	if err != nil {
		return out, explain(err)
	}
	out.ClusterID = hex((*pb.MemberListResponse)(r).GetHeader().GetClusterId())
	for _, m := range r.Members {
		out.Members = append(out.Members, roster.FollowedMember{ID: hex(m.ID), Name: m.Name, PeerURLs: m.PeerURLs, ClientURLs: m.ClientURLs, Learner: m.IsLearner})
	}
	slices.SortFunc(out.Members, func(a, b roster.FollowedMember) int { return strings.Compare(a.ID, b.ID) })
	return out, out.Check()
}

// short cuts a text that a member tells.
func short(text string) string {
	if len(text) > maxText {
		return strings.ToValidUTF8(text[:maxText], "") + "…"
	}
	return text
}

func cut(err error) error {
	if text := err.Error(); len(text) > maxText {
		return errors.New(short(text))
	}
	return err
}

func hex(id uint64) string { return fmt.Sprintf("%016x", id) }

// tls reads the PEM files. When they changed, connections are made anew: a certificate is renewed by replacing its file.
func (c *conns) tls() (*tls.Config, error) {
	sum := sha256.New()
	read := func(path string) ([]byte, error) {
		if path == "" {
			return nil, nil
		}
		text, err := os.ReadFile(path)
		fmt.Fprintf(sum, "%d ", len(text))
		sum.Write(text)
		return text, err
	}
	ca, errCA := read(c.o.CA)
	cert, errCert := read(c.o.Cert)
	key, errKey := read(c.o.Key)
	if err := errors.Join(errCA, errCert, errKey); err != nil {
		return nil, err
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if len(ca) > 0 {
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(ca) {
			return nil, fmt.Errorf("%s holds no certificate in PEM format", c.o.CA)
		}
	}
	if c.o.Cert != "" {
		pair, err := tls.X509KeyPair(cert, key)
		if err != nil {
			return nil, fmt.Errorf("%s with %s: %w", c.o.Cert, c.o.Key, err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	if now := [sha256.Size]byte(sum.Sum(nil)); now != c.files {
		c.close()
		c.files = now
	}
	return config, nil
}

// client returns the connection to a URL, which is made when it is used, and again soon after it broke.
func (c *conns) client(url string, config *tls.Config) (*clientv3.Client, error) {
	if client := c.clients[url]; client != nil {
		return client, nil
	}
	if strings.HasPrefix(url, "http://") {
		config = nil
	}
	soon := backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: time.Second}
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{url}, TLS: config, Logger: zap.NewNop(), MaxCallRecvMsgSize: maxAnswer, DialKeepAliveTime: 2 * time.Second,
		DialKeepAliveTimeout: 2 * time.Second, DialOptions: []grpc.DialOption{
			grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxAnswer)),
			grpc.WithNoProxy(), // a proxy of the environment must not stand between a node and what it publishes
			grpc.WithConnectParams(grpc.ConnectParams{Backoff: soon, MinConnectTimeout: c.o.Timeout}),
		}})
	if err != nil {
		return nil, err
	}
	if c.clients == nil {
		c.clients = map[string]*clientv3.Client{}
	}
	c.clients[url] = client
	return client, nil
}

func (c *conns) close() {
	for url, client := range c.clients {
		_ = client.Close()
		delete(c.clients, url)
	}
}
