package stock

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/etcd-dns/etcd-dns/discovery"
)

// checkProtocol3 looks at a token that etcd itself will use. Of all that can be wrong with it etcd says that the token was
// used already, and of a cluster that does not answer nothing but that it asks again.
func checkProtocol3(ctx context.Context, s *settings, say func(string, ...any)) error {
	peers, err := s.urls("initial-advertise-peer-urls")
	if token := s.get("discovery-token"); err != nil || token == "" || s.get("discovery-user") != "" && s.get("discovery-password") == "" {
		return nil //nolint:nilerr // only etcd can tell, or it says it
	}
	at := s.get("discovery-endpoints")
	r := &discovery.Remote{Endpoints: strings.Split(at, ","), Cert: s.get("discovery-cert"), Key: s.get("discovery-key"), CA: s.get("discovery-cacert"),
		InsecureTransport: s.get("discovery-insecure-transport") == "true", InsecureSkipVerify: s.get("discovery-insecure-skip-tls-verify") == "true",
		User: s.get("discovery-user"), Password: s.get("discovery-password")}
	err = r.Look(ctx, s.get("discovery-token"), s.get("name"), peers)
	switch {
	case errors.Is(err, discovery.ErrNoSize):
		return &Problem{What: fmt.Sprintf("%v at %s", err, at), Err: err, Fix: fmt.Sprintf("etcdctl --endpoints %s put /_etcd/registry/%s/_config/size 3", at, s.get("discovery-token"))}
	case errors.Is(err, discovery.ErrFull):
		return &Problem{What: err.Error(), Err: err, Fix: discoveryFix(err)}
	case err != nil:
		say("warning: --discovery-endpoints %s: %v; etcd asks again for as long as it takes", at, err)
	}
	return nil
}
