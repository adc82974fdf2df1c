package stock

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/etcdmain"
	"sigs.k8s.io/yaml"

	"github.com/etcd-dns/etcd-dns/discovery"
)

// Problem ends a start: what is wrong, and what mends it.
type Problem struct {
	What, Fix string
	Err       error
}

func (p *Problem) Error() string { return p.What }
func (p *Problem) Unwrap() error { return p.Err }

// Hint is what to do.
func (p *Problem) Hint() string { return p.Fix }

// Main runs etcd with its arguments, without the program's name, and the environment, and does not return when etcd
// starts: etcd ends the process. say gets progress and warnings, a line each.
func Main(ctx context.Context, args []string, say func(format string, args ...any)) error {
	if len(args) > 0 && (args[0] == "gateway" || args[0] == "grpc-proxy") {
		run(args)
		return nil
	}
	s, ok, err := read(args, os.LookupEnv)
	if err != nil {
		return err
	}
	if ok {
		args, err = prepare(ctx, s, say)
		if ctx.Err() != nil { // as etcd's own end by a signal, this is none of its failures
			say("ended before etcd has started; a member that has registered keeps its place")
			return nil //nolint:nilerr // err is how it ended
		}
		if err != nil {
			return err
		}
	}
	for name := range ours {
		if err := os.Unsetenv(variable(name)); err != nil {
			return err
		}
	}
	if !ok || s.noChecks {
		run(args)
		return nil
	}
	return watched(ctx, s, args)
}

// watched runs etcd, and returns when it turns out that the member cannot become one of its cluster.
func watched(ctx context.Context, s *settings, args []string) error {
	fresh := !s.hasLog()
	found := make(chan error, 1)
	go func() { // ends with the process, if not before
		if err := newWatch(s, fresh).run(ctx); err != nil {
			found <- err
		}
	}()
	ended := make(chan struct{})
	go func() { // etcd ends the process
		defer close(ended)
		run(args)
	}()
	select {
	case err := <-found:
		return err
	case <-ended:
		return nil
	}
}

// run is etcd's own main function. Its subcommands read os.Args, and some leave signals to the system.
func run(args []string) {
	signal.Reset(syscall.SIGINT, syscall.SIGTERM)
	os.Args = append([]string{"etcd"}, args...)
	etcdmain.Main(os.Args)
}

// prepare checks the settings, finds the other members by a discovery token if there is one, and returns etcd's arguments.
func prepare(ctx context.Context, s *settings, say func(string, ...any)) ([]string, error) {
	if err := removed(s); err != nil {
		return nil, err
	}
	if err := unread(s); err != nil {
		return nil, err
	}
	if !s.noChecks {
		if err := check(ctx, s, say); err != nil {
			return nil, err
		}
	}
	switch {
	case s.get("discovery") == "":
		return s.args, nil
	case s.hasLog():
		say("discovery token ignored since a cluster has already been initialized. Valid log found at %s", s.dir())
		return s.args, s.without()
	}
	cluster, err := discover(ctx, s, say)
	if err != nil {
		return nil, err
	}
	if m, err := types.NewURLsMap(cluster); err == nil && !s.noChecks {
		if err := checkClusterID(ctx, s, m, s.get("discovery"), say); err != nil {
			return nil, err
		}
	}
	return s.with(cluster)
}

// removed explains what etcd no longer has.
func removed(s *settings) error {
	if p := s.get("proxy"); p != "" && p != "off" {
		return &Problem{What: fmt.Sprintf("--proxy %s: the proxy of etcd's API 2 is gone, with that API (etcd 3.6)", p),
			Fix: "run etcd-dns etcd grpc-proxy start, or etcd-dns gateway start, with --discovery-srv or --endpoints"}
	}
	if f := s.get("discovery-fallback"); s.get("discovery") != "" && f != "" && f != "exit" {
		return &Problem{What: fmt.Sprintf("--discovery-fallback %s: a member more than the token's cluster has cannot become a proxy, which is gone (etcd 3.6)", f),
			Fix: "leave it out, or write --discovery-fallback exit; for a proxy run etcd-dns etcd grpc-proxy start"}
	}
	return nil
}

// unread: etcd would ignore the URL, as all that stands beside a file, and the member would be born as a cluster of its own.
func unread(s *settings) error {
	if s.unread == "" || s.hasLog() {
		return nil
	}
	for _, way := range []string{"discovery", "initial-cluster", "discovery-srv", "discovery-endpoints"} {
		if s.given[way] {
			return nil
		}
	}
	return &Problem{What: fmt.Sprintf("%s is set beside %s, which names no members: with a file etcd looks at nothing else, and would start a cluster of this member alone", s.unread, s.file),
		Fix: "write discovery: URL into " + s.file}
}

// discover registers the member and waits for the others.
func discover(ctx context.Context, s *settings, say func(string, ...any)) (string, error) {
	for _, other := range []string{"initial-cluster", "discovery-srv", "discovery-endpoints", "discovery-token"} {
		if s.given[other] {
			return "", &Problem{What: fmt.Sprintf("--discovery and --%s are both given, and each names the cluster's members", other), Fix: "leave one of them out"}
		}
	}
	if s.get("initial-cluster-state") != embed.ClusterStateFlagNew {
		return "", &Problem{What: "discovery URL should not be set when joining existing initial cluster",
			Fix: "for a member of a cluster that runs: etcdctl member add, and its --initial-cluster instead of --discovery"}
	}
	peers, err := s.urls("initial-advertise-peer-urls")
	if err != nil {
		return "", err
	}
	j := &discovery.Joiner{URL: s.get("discovery"), Name: s.get("name"), Peers: peers, Proxy: s.get("discovery-proxy"),
		Progress: func(members []string, size int, trouble error) {
			if trouble != nil {
				say("the discovery service does not answer, and is asked again: %v", trouble)
				return
			}
			say("%d of %d members have registered: %s", len(members), size, strings.Join(members, ", "))
		}}
	if len(s.shadowed) > 0 { // before the token's place is taken
		return "", &Problem{What: fmt.Sprintf("%s is set beside its flag, on which etcd ends", strings.Join(s.shadowed, ", ")), Fix: "unset " + strings.Join(s.shadowed, " ")}
	}
	cluster, err := j.Join(ctx)
	if err != nil {
		return "", &Problem{What: err.Error(), Fix: discoveryFix(err), Err: err}
	}
	return cluster, nil
}

func discoveryFix(err error) string {
	switch {
	case errors.Is(err, discovery.ErrNoSize):
		return "make a token: curl 'http://SERVICE/new?size=3', or curl -X PUT URL/_config/size -d value=3"
	case errors.Is(err, discovery.ErrFull):
		return "a token is for one birth of one cluster: make a new one, or join that cluster with etcdctl member add"
	case errors.Is(err, discovery.ErrDuplicate):
		return "give each member --name and --initial-advertise-peer-urls of its own, and all of them a new token"
	case errors.Is(err, discovery.ErrNotAService):
		return "look at the URL: curl -i URL/_config/size says JSON if a discovery service is there"
	}
	return "--discovery takes the URL that SERVICE/new?size=N answered with, the same on every member"
}

// with returns the arguments with the members that were found. The URL is the cluster's token, as it was in etcd: IDs are
// made from it.
func (s *settings) with(cluster string) ([]string, error) {
	members := map[string]string{"initial-cluster": cluster, "initial-cluster-token": s.get("discovery"), "initial-cluster-state": embed.ClusterStateFlagNew}
	if s.file != "" {
		return s.args, s.rewrite(members)
	}
	args := slices.DeleteFunc(slices.Clone(s.args), func(a string) bool {
		name, _, _ := strings.Cut(strings.TrimPrefix(a, "--"), "=")
		return members[name] != ""
	})
	for _, name := range []string{"initial-cluster", "initial-cluster-token", "initial-cluster-state"} {
		args = append(args, "--"+name+"="+members[name])
		// etcd ends on a flag whose variable is set, too, be it blank (flags.SetFlagsFromEnv).
		if err := os.Unsetenv(variable(name)); err != nil {
			return nil, err
		}
	}
	return args, nil
}

// without drops the token from the configuration file; among the arguments it is not.
func (s *settings) without() error {
	if s.file == "" {
		return nil
	}
	return s.rewrite(nil)
}

// rewrite makes etcd read a copy of the configuration file with other settings, which stays in the data directory.
func (s *settings) rewrite(settings map[string]string) error {
	values, err := readYAML(s.file)
	if err != nil {
		return err
	}
	for name := range ours {
		delete(values, name)
	}
	for name, v := range settings {
		values[name] = v
	}
	text, err := yaml.Marshal(values)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(s.dir(), 0o700); err != nil {
		return err
	}
	path := filepath.Join(s.dir(), "discovered.conf.yml")
	if err := os.WriteFile(path, text, 0o600); err != nil {
		return err
	}
	s.args = []string{"--config-file=" + path}
	return nil
}
