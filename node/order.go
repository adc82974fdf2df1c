package node

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/etcd-dns/etcd-dns/srvboot"
)

const (
	// orderTimeout bounds an order with all its hops; etcd changes its membership within milliseconds, or not at all.
	orderTimeout = 4 * time.Second
	// orderHops is how often an order is handed on: to a member, to the leader, and to the next one after a hand-over.
	orderHops = 4
)

// order gives an operator's word to the node whose member leads.
func (n *Node) order(ctx context.Context, o srvboot.Order) (r srvboot.OrderReply, err error) {
	ctx, cancel := context.WithTimeout(ctx, orderTimeout)
	defer cancel()
	at := n.name
	for range orderHops {
		if at == n.name {
			r, err = n.boot.HandleOrder(ctx, o)
		} else {
			r, err = n.peers.Order(ctx, at, o)
		}
		if err != nil || r.Leader == "" {
			return r, err
		}
		at = r.Leader
	}
	return r, fmt.Errorf("the leader changes too fast: the last one was %s", at)
}

// Order gives an order to a node, which carries it out if its member leads.
func (p *peers) Order(ctx context.Context, node string, o srvboot.Order) (r srvboot.OrderReply, err error) {
	return r, p.call(ctx, call{node: node, method: http.MethodPost, path: "/v1/order", body: o, answer: &r, timeout: orderTimeout})
}

// serveOrder takes an order of this machine's operator.
func (a *admin) serveOrder(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	o := srvboot.Order{Format: srvboot.Format, Op: srvboot.OrderOp(q.Get("op")), Node: q.Get("node"), Force: q.Has("force")}
	answer, err := a.order(r.Context(), o)
	if err != nil {
		answer = srvboot.OrderReply{Text: err.Error(), Hint: "etcd-dns status; whether it took place: etcd-dns member list"}
	}
	if !answer.Done {
		refuseWith(w, answer.Text, answer.Hint)
		return
	}
	reply(w, answer)
}

// CommandMember has the node that runs on this configuration see to an order, and returns what came of it.
func CommandMember(ctx context.Context, o *Options, order srvboot.Order) (r srvboot.OrderReply, err error) {
	q := url.Values{"op": {string(order.Op)}, "node": {order.Node}}
	if order.Force {
		q.Set("force", "")
	}
	return r, askOwnNode(ctx, o, http.MethodPost, "/v1/order?"+q.Encode(), &r)
}

// KnowsNode says whether an order about a node can be meant: it has a line in this cluster, or a member.
func (o *Options) KnowsNode(name string, s Status) error {
	if n, ok := o.node(name); ok && n.Cluster != s.SrvName {
		return &usageError{what: fmt.Sprintf("%s is a node of %s, and %s of %s", name, clusterWord(n.Cluster), s.Node, clusterWord(s.SrvName)),
			hint: "run this command on a node of that cluster, such as " + name}
	}
	if _, ok := o.node(name); ok || slices.ContainsFunc(s.Members, func(m MemberStatus) bool { return m.Name == name }) {
		return nil
	}
	return &usageError{what: fmt.Sprintf("no node line and no member is called %q; there are %s", name, strings.Join(o.names(), ", ")),
		hint: "add a line to the Corefile of every node and reload it: node " + name + " ADDRESS"}
}
