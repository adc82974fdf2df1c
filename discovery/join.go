package discovery

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/etcd/server/v3/etcdserver/api/membership"
)

const (
	// requestWithin bounds a request that does not wait, waitWithin one that does: longer than services hold it.
	requestWithin, waitWithin = 10 * time.Second, 5 * time.Minute
	// A service that fails is asked again after a second, then after twice as long each time, up to lastPause.
	firstPause, lastPause = time.Second, 30 * time.Second
	// maxAnswer bounds what is read of an answer.
	maxAnswer = 1 << 20
)

// Errors that end a start. Their texts say what the operator has to do.
var (
	// ErrNoSize is for a token that nobody made, or that has expired.
	ErrNoSize = errors.New("the cluster doesn't have a size configuration value")
	// ErrDuplicate is for two members that are alike in what they have to differ in.
	ErrDuplicate = errors.New("found duplicate member")
	// ErrNotAService is for a URL behind which something else is.
	ErrNotAService = errors.New("this is not a discovery service")
)

// Progress is told who has registered so far whenever that changes, and of trouble with the service, which is retried.
type Progress func(members []string, size int, trouble error)

// Joiner is one member that boots by a token of protocol 2.
type Joiner struct {
	// URL is the whole discovery URL: it is also the cluster's token, from which etcd makes IDs, so that all members must
	// have the very same one.
	URL string
	// Name and Peers are the member's own: --name and --initial-advertise-peer-urls.
	Name  string
	Peers types.URLs
	// Proxy is for all requests (--discovery-proxy); none when empty. Variables like https_proxy are not looked at, as in
	// etcd.
	Proxy string
	// Progress may be nil.
	Progress Progress

	client *http.Client // of a test, else made by Join
	base   *url.URL
}

// Join registers the member and waits until all members of its cluster have: for as long as that takes, also while the
// service does not answer. It returns them in the form of --initial-cluster. A member that registered in an earlier try goes
// on where that ended.
func (j *Joiner) Join(ctx context.Context) (string, error) {
	if err := j.open(); err != nil {
		return "", err
	}
	defer j.client.CloseIdleConnections()
	pause := firstPause
	for {
		cluster, err := j.try(ctx)
		var again *passing
		if ctx.Err() != nil {
			return "", context.Cause(ctx)
		}
		if err == nil || !errors.As(err, &again) {
			return cluster, j.explain(err)
		}
		j.tell(nil, 0, err)
		select {
		case <-ctx.Done():
			return "", context.Cause(ctx)
		case <-time.After(pause/2 + rand.N(pause/2)):
		}
		pause = min(2*pause, lastPause)
	}
}

// explain says what it means that a key is not there: without the token nothing is.
func (j *Joiner) explain(err error) error {
	if e := (&keyError{}); errors.As(err, &e) && e.Code == codeKeyNotFound {
		return fmt.Errorf("%w in %s/_config: nobody made this token, or it has expired", ErrNoSize, j.URL)
	}
	return err
}

func (j *Joiner) tell(members []string, size int, trouble error) {
	if j.Progress != nil {
		j.Progress(members, size, trouble)
	}
}

func (j *Joiner) open() (err error) {
	if j.base, err = url.Parse(j.URL); err != nil {
		return fmt.Errorf("discovery URL: %w", err)
	}
	if j.base.Scheme != "http" && j.base.Scheme != "https" || j.base.Host == "" || strings.Trim(j.base.Path, "/") == "" {
		return fmt.Errorf("discovery URL %q: expected http or https, a host, and a path that ends in a token, such as https://discovery.example.com/TOKEN", j.URL)
	}
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.Proxy = nil
	if j.Proxy != "" {
		p := j.Proxy
		if !strings.HasPrefix(p, "http") {
			p = "http://" + p
		}
		u, err := url.Parse(p)
		if err != nil || u.Host == "" {
			return fmt.Errorf("discovery proxy %q: expected a URL such as http://proxy.example.com:3128", j.Proxy)
		}
		t.Proxy = http.ProxyURL(u)
	}
	if j.client == nil {
		j.client = &http.Client{Transport: t}
	}
	return nil
}

// id is the ID that etcd will give the member (membership.NewClusterFromURLsMap).
func (j *Joiner) id() string { return membership.NewMember(j.Name, j.Peers, j.URL, nil).ID.String() }

// registration is the member's own in the form of --initial-cluster.
func (j *Joiner) registration() string {
	var out []string
	for _, u := range j.Peers.StringSlice() {
		out = append(out, j.Name+"="+u)
	}
	return strings.Join(out, ",")
}

// try goes through the protocol once.
func (j *Joiner) try(ctx context.Context) (string, error) {
	size, err := j.size(ctx)
	if err != nil {
		return "", err
	}
	members, _, err := j.members(ctx)
	if err != nil {
		return "", err
	}
	if err := j.place(members, size); err != nil {
		return "", err
	}
	if err := j.register(ctx); err != nil {
		return "", err
	}
	told := -1
	for {
		members, index, err := j.members(ctx)
		if err != nil {
			return "", err
		}
		if err := j.place(members, size); err != nil {
			return "", err
		}
		members = members[:min(size, len(members))]
		if len(members) != told {
			told = len(members)
			j.tell(names(members), size, nil)
		}
		if len(members) == size {
			return clusterOf(members)
		}
		if err := j.wait(ctx, index+1); err != nil {
			return "", err
		}
	}
}

// wait waits until somebody registers. Who that is, the list says.
func (j *Joiner) wait(ctx context.Context, from int64) error {
	_, _, err := j.get(ctx, "", url.Values{"recursive": {"true"}, "wait": {"true"}, "waitIndex": {strconv.FormatInt(from, 10)}}, waitWithin)
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
		return nil // a service that has nothing to say for longer than we wait
	}
	return err
}

// size asks how many members the cluster has.
func (j *Joiner) size(ctx context.Context) (int, error) {
	a, _, err := j.get(ctx, "_config/size", nil, requestWithin)
	if err != nil {
		return 0, err
	}
	if a == nil || a.Node == nil || a.Node.Value == nil {
		return 0, fmt.Errorf("%w: %s/_config/size has no value", ErrNotAService, j.URL)
	}
	n, err := strconv.Atoi(*a.Node.Value)
	if err != nil || n < 1 {
		return 0, fmt.Errorf("the size in %s/_config/size is %.20q: expected a number above 0", j.URL, *a.Node.Value)
	}
	return n, nil
}

// members lists who has registered, in order, and the index of the service that this is true for.
func (j *Joiner) members(ctx context.Context) ([]*node, int64, error) {
	a, index, err := j.get(ctx, "", nil, requestWithin)
	if err != nil {
		return nil, 0, err
	}
	if a == nil || a.Node == nil || !a.Node.Dir {
		return nil, 0, fmt.Errorf("%w: %s is no directory", ErrNotAService, j.URL)
	}
	var out []*node
	for _, n := range a.Node.Nodes {
		if n != nil && path.Base(n.Key) != "_config" && n.Value != nil {
			out = append(out, n)
		}
	}
	slices.SortFunc(out, func(a, b *node) int { return int(min(max(a.CreatedIndex-b.CreatedIndex, -1), 1)) })
	return out, index, nil
}

// place fails when the cluster has its members, and this is none of them.
func (j *Joiner) place(members []*node, size int) error {
	if len(members) < size {
		return nil
	}
	for _, m := range members[:size] {
		if path.Base(m.Key) == j.id() {
			return nil
		}
	}
	return fmt.Errorf("%w: %s is for %d members, and these have registered: %s", ErrFull, j.URL, size, strings.Join(names(members[:size]), ", "))
}

func names(members []*node) (out []string) {
	for _, m := range members {
		name, _, _ := strings.Cut(*m.Value, "=")
		out = append(out, name)
	}
	return out
}

// register adds this member, or finds that an earlier try of its own has.
func (j *Joiner) register(ctx context.Context) error {
	form := url.Values{"value": {j.registration()}}
	_, _, err := j.call(ctx, http.MethodPut, j.id(), url.Values{"prevExist": {"false"}}, form, requestWithin)
	if e := (&keyError{}); !errors.As(err, &e) || e.Code != codeNodeExist {
		return err
	}
	a, _, err := j.get(ctx, j.id(), nil, requestWithin)
	if err != nil {
		return err
	}
	if a == nil || a.Node == nil || a.Node.Value == nil || *a.Node.Value != j.registration() {
		was := ""
		if a != nil && a.Node != nil && a.Node.Value != nil {
			was = *a.Node.Value
		}
		return fmt.Errorf("%w: ID %s of %s is registered as %q, and this member is %q: each needs peer URLs of its own", ErrDuplicate, j.id(), j.URL, was, j.registration())
	}
	return nil
}

// clusterOf joins the registrations. Two of one name would be one member with both URLs.
func clusterOf(members []*node) (string, error) {
	var values []string
	owner := map[string]string{}
	for _, m := range members {
		one, err := types.NewURLsMap(*m.Value)
		if err != nil || len(one) != 1 {
			return "", fmt.Errorf("member %s registered %.100q: expected NAME=URL (%w)", path.Base(m.Key), *m.Value, errors.Join(err))
		}
		for name := range one {
			if owner[name] != "" {
				return "", fmt.Errorf("%w: two members have the name %q, %s and %s: give each its own --name, and a new token", ErrDuplicate, name, owner[name], *m.Value)
			}
			owner[name] = *m.Value
		}
		values = append(values, *m.Value)
	}
	return strings.Join(values, ","), nil
}
