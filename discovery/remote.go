package discovery

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/etcdserver/api/membership"
	"go.uber.org/zap"
)

// lookWithin bounds a look at a token of protocol 3, as long as etcd gives a dial (--discovery-dial-timeout).
const lookWithin = 2 * time.Second

// Remote is a cluster of etcd 3 whose keys members find each other by, protocol 3, and how to reach it.
type Remote struct {
	Endpoints []string
	// Cert, Key and CA are files for TLS; InsecureTransport is without, InsecureSkipVerify takes any certificate.
	Cert, Key, CA                         string
	InsecureTransport, InsecureSkipVerify bool
	User, Password                        string
}

// Look asks whether a token has a place for a member, and returns ErrNoSize or ErrFull if not. With any other error only a start
// can tell.
func (r *Remote) Look(ctx context.Context, token, name string, peers types.URLs) error {
	ctx, cancel := context.WithTimeout(ctx, lookWithin)
	defer cancel()
	spec := &clientv3.ConfigSpec{Endpoints: r.Endpoints, DialTimeout: lookWithin,
		Secure: &clientv3.SecureConfig{Cert: r.Cert, Key: r.Key, Cacert: r.CA, InsecureTransport: r.InsecureTransport, InsecureSkipVerify: r.InsecureSkipVerify}}
	if r.User != "" {
		spec.Auth = &clientv3.AuthConfig{Username: r.User, Password: r.Password}
	}
	cfg, err := clientv3.NewClientConfig(spec, zap.NewNop())
	if err != nil {
		return err
	}
	cfg.Context, cfg.Logger = ctx, zap.NewNop()
	c, err := clientv3.New(*cfg)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }() // it only read
	return place(ctx, NewRegistry(c), token, membership.NewMember(name, peers, token, nil).ID.String())
}

// place looks for a member's place, as etcd will (v3discovery.checkCluster).
func place(ctx context.Context, r *Registry, token, id string) error {
	e, err := r.Size(ctx, token)
	if errors.Is(err, ErrNoToken) {
		return fmt.Errorf("%w in %s", ErrNoSize, strings.TrimSuffix(sizeKey(token), "/size"))
	}
	if err != nil {
		return err
	}
	size, err := strconv.Atoi(e.Value)
	if err != nil || size < 1 {
		return fmt.Errorf("%w: %s is %.20q, expected a number above 0", ErrNoSize, sizeKey(token), e.Value)
	}
	members, _, err := r.Members(ctx, token)
	if err != nil {
		return err
	}
	var names []string
	for _, m := range members[:min(size, len(members))] {
		name, _, _ := strings.Cut(m.Value, "=")
		if names = append(names, name); m.Name == id {
			return nil
		}
	}
	if len(names) < size {
		return nil
	}
	return fmt.Errorf("%w: %s is for %d members, and these have registered: %s", ErrFull, token, size, strings.Join(names, ", "))
}
