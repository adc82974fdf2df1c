package member

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/etcdserver/api/membership"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3client"
	etcdserver "go.etcd.io/etcd/server/v3/etcdserver/errors"
	"golang.org/x/sys/unix"

	"github.com/etcd-dns/etcd-dns/srvboot"
)

const (
	// changePatience bounds one change of membership: etcd's own bound is 5 s plus two elections.
	changePatience = 7 * time.Second
	// maxChange bounds the text of a change, in octets.
	maxChange = 64 << 10
)

// control answers the parent on the inherited socket: metrics from the first moment, changes of membership and snapshots
// while etcd runs.
type control struct {
	etcd atomic.Pointer[embed.Etcd]
}

// serve answers until stop is called.
func (c *control) serve() (stop func(), err error) {
	f, err := inherited(fdControl, unix.S_IFSOCK)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	l, err := net.FileListener(f)
	if err != nil {
		return nil, fmt.Errorf("listen for the parent: %w", err)
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", metricsHandler())
	mux.HandleFunc("POST /change", c.change)
	mux.HandleFunc("GET /snapshot", c.snapshot)
	srv := &http.Server{Handler: mux, ReadTimeout: metricsPatience}
	go func() { _ = srv.Serve(sameUserListener{l}) }() // ends with srv
	return func() { _ = srv.Close() }, nil
}

// change carries out one step, if the member list is still the one that it was derived from.
func (c *control) change(w http.ResponseWriter, r *http.Request) {
	var want srvboot.Change
	e := c.etcd.Load()
	if err := json.NewDecoder(io.LimitReader(r.Body, maxChange)).Decode(&want); err != nil || e == nil {
		http.Error(w, fmt.Sprintf("no etcd runs, or the change cannot be read: %v", err), http.StatusServiceUnavailable)
		return
	}
	ctx, cancel := context.WithTimeout(e.Server.AuthStore().WithRoot(r.Context()), changePatience)
	defer cancel()
	id, err := carryOut(ctx, e, want)
	switch {
	case errors.Is(err, srvboot.ErrRefused):
		http.Error(w, err.Error(), http.StatusConflict)
	case err != nil:
		http.Error(w, err.Error(), http.StatusGatewayTimeout)
	default:
		_, _ = io.WriteString(w, id) // the parent is gone if this fails
	}
}

// carryOut takes the step against a list that no other leader can have changed: the read is linearizable, and etcd
// refuses a second change while one is under way (raft, pendingConfIndex).
func carryOut(ctx context.Context, e *embed.Etcd, c srvboot.Change) (id string, err error) {
	if err := e.Server.LinearizableReadNotify(ctx); err != nil {
		return "", fmt.Errorf("%w: read the member list: %w", srvboot.ErrRefused, err)
	}
	// A follower's read succeeds, too, and etcd hands on what is proposed to it (raft.go stepFollower).
	if s := e.Server; s.Leader() != s.MemberID() || s.Term() != c.Term {
		return "", fmt.Errorf("%w: this member led in term %d; it is term %d, and the leader is %s", srvboot.ErrRefused, c.Term, s.Term(), s.Leader())
	}
	if now := srvboot.ListIDs(entries(e)); !slices.Equal(now, c.Members) {
		return "", fmt.Errorf("%w: the members are %v, the change was derived from %v", srvboot.ErrRefused, now, c.Members)
	}
	switch c.Op {
	case srvboot.AddLearner:
		urls, err := types.NewURLs([]string{c.PeerURL})
		if err != nil {
			return "", fmt.Errorf("peer URL %s: %w", c.PeerURL, err)
		}
		now := time.Now()
		m := membership.NewMemberAsLearner("", urls, "", &now)
		_, err = e.Server.AddMember(ctx, *m)
		return hexID(uint64(m.ID)), wrapChange(c, err)
	case srvboot.RemoveMember, srvboot.PromoteLearner, srvboot.MoveLeader:
		n, err := strconv.ParseUint(c.ID, 16, 64)
		if err != nil {
			return "", fmt.Errorf("member ID %q: %w", c.ID, err)
		}
		switch c.Op {
		case srvboot.RemoveMember:
			if c.Force {
				if !slices.ContainsFunc(entries(e), func(m srvboot.MemberEntry) bool { return !m.IsLearner && m.ID != c.ID }) {
					return "", fmt.Errorf("%w: %s is the last voter, and no member could ever apply its removal (raft/v3 raft.go applyConfChange)", srvboot.ErrRefused, c.ID)
				}
				defer unprotected(e)()
			}
			_, err = e.Server.RemoveMember(ctx, n)
		case srvboot.PromoteLearner:
			_, err = e.Server.PromoteMember(ctx, n)
		default:
			err = e.Server.MoveLeader(ctx, uint64(e.Server.MemberID()), n)
		}
		return c.ID, wrapChange(c, err)
	}
	return "", fmt.Errorf("unknown change %q", c.Op)
}

// unprotected lifts etcd's own protection of the quorum (etcdserver/server.go, mayRemoveMember) until it is called back: there is
// no other way by it for a removal that a person forces. etcd looks at the setting only when a change of the membership is asked
// for, and takes one change at a time.
func unprotected(e *embed.Etcd) (again func()) {
	e.Server.Cfg.StrictReconfigCheck = false
	return func() { e.Server.Cfg.StrictReconfigCheck = true }
}

func wrapChange(c srvboot.Change, err error) error {
	if err == nil {
		return nil
	}
	err = fmt.Errorf("%s %s%s: %w", c.Op, c.ID, c.PeerURL, err)
	for _, r := range refusals {
		if errors.Is(err, r.err) {
			return fmt.Errorf("%w: %w: %s", srvboot.ErrRefused, err, r.means)
		}
	}
	return err
}

// refusals are what etcd says before it proposes a change, and of one that it found void when it applied it (etcdserver/server.go
// mayAddMember, mayRemoveMember, mayPromoteMember; api/membership/cluster.go ValidateConfigurationChange), with what that means.
var refusals = []struct {
	err   error
	means string
}{
	{etcdserver.ErrNotEnoughStartedMembers, "the members that have started would be no quorum"},
	{etcdserver.ErrUnhealthy, "too few voters have been connected with the leader for five seconds"},
	{etcdserver.ErrLearnerNotReady, "it has less than nine tenths of what the leader has"},
	{etcdserver.ErrBadLeaderTransferee, "it is no voter, and cannot lead"},
	{membership.ErrIDRemoved, "it was removed before, and etcd takes no ID twice"},
	{membership.ErrIDExists, "a member has that ID already"},
	{membership.ErrIDNotFound, "no member has that ID any more"},
	{membership.ErrPeerURLexists, "a member is at that URL already"},
	{membership.ErrMemberNotLearner, "it votes already"},
	{membership.ErrTooManyLearners, "etcd has one learner at a time"},
}

// entries is the applied member list.
func entries(e *embed.Etcd) (out []srvboot.MemberEntry) {
	for _, m := range e.Server.Cluster().Members() {
		out = append(out, srvboot.MemberEntry{
			ID: hexID(uint64(m.ID)), Name: m.Name, PeerURLs: m.PeerURLs, ClientURLs: m.ClientURLs, IsLearner: m.IsLearner,
		})
	}
	return out
}

// snapshotFailed is the trailer that says what cut a snapshot short.
const snapshotFailed = "Snapshot-Failed"

// snapshot streams the database as etcd's own snapshot service does. A failure on the way is told by the trailer, since
// the status has been sent by then.
func (c *control) snapshot(w http.ResponseWriter, r *http.Request) {
	e := c.etcd.Load()
	if e == nil {
		http.Error(w, errNotRunning.Error(), http.StatusServiceUnavailable)
		return
	}
	client := v3client.New(e.Server)
	defer client.Close()
	rc, err := client.Snapshot(e.Server.AuthStore().WithRoot(r.Context()))
	if err != nil {
		http.Error(w, err.Error(), http.StatusConflict)
		return
	}
	defer rc.Close()
	w.Header().Set("Trailer", snapshotFailed)
	if _, err := io.Copy(w, rc); err != nil {
		w.Header().Set(snapshotFailed, err.Error())
	}
}

// Change changes the membership through the running member; see srvboot.Member.
func (p *Process) Change(ctx context.Context, c srvboot.Change) (id string, err error) {
	body, err := json.Marshal(c)
	if err != nil {
		return "", fmt.Errorf("encode the change: %w", err)
	}
	var answer []byte
	err = p.call(ctx, http.MethodPost, "/change", body, func(resp *http.Response) (err error) {
		answer, err = io.ReadAll(io.LimitReader(resp.Body, maxChange))
		return err
	})
	if at := (*statusError)(nil); errors.As(err, &at) && at.code == http.StatusConflict {
		return "", fmt.Errorf("%w: %s", srvboot.ErrRefused, strings.TrimPrefix(at.text, srvboot.ErrRefused.Error()+": "))
	}
	return string(answer), err
}

// Snapshot writes a snapshot of the running member; see srvboot.Member.
func (p *Process) Snapshot(ctx context.Context, w io.Writer) error {
	return p.call(ctx, http.MethodGet, "/snapshot", nil, func(resp *http.Response) error {
		if _, err := io.Copy(w, resp.Body); err != nil {
			return fmt.Errorf("read the snapshot: %w", err)
		}
		if why := resp.Trailer.Get(snapshotFailed); why != "" {
			return errors.New("the snapshot was cut short: " + why)
		}
		return nil
	})
}
