package node

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/etcd-dns/etcd-dns/srvboot"
)

// orderBirth gives an operator's word about a birth to every node that it concerns. Each makes its part durable; a second
// call does what is missing.
func (n *Node) orderBirth(ctx context.Context, o srvboot.BirthOrder) (srvboot.OrderReply, error) {
	ctx, cancel := context.WithTimeout(ctx, orderTimeout)
	defer cancel()
	tell, r, err := n.boot.PlanBirthOrder(ctx, o)
	if err != nil || len(tell) == 0 {
		return r, err
	}
	var done, failed []string
	for _, at := range tell {
		var part srvboot.Reply
		if at == n.name {
			part, err = n.boot.HandleBirthOrder(ctx, n.name, o)
		} else {
			part, err = n.peers.BirthOrder(ctx, at, o)
		}
		switch {
		case err != nil:
			failed = append(failed, fmt.Sprintf("%s: %v", at, err))
		case !part.OK:
			failed = append(failed, part.Reason)
		default:
			done = append(done, at)
		}
	}
	n.boot.Prompt()
	if len(failed) > 0 {
		return srvboot.OrderReply{Text: fmt.Sprintf("written down by [%s], but not by all: %s", strings.Join(done, " "), strings.Join(failed, "; ")),
			Hint: "give the same command again; what waits for what: etcd-dns status"}, nil
	}
	return srvboot.OrderReply{Done: true, Text: fmt.Sprintf("written down by %s", strings.Join(done, ", ")), Hint: "etcd-dns status"}, nil
}

// BirthOrder has a node carry its part of an order out.
func (p *peers) BirthOrder(ctx context.Context, node string, o srvboot.BirthOrder) (r srvboot.Reply, err error) {
	err = p.call(ctx, call{node: node, method: http.MethodPost, path: "/v1/birth", body: o, answer: &r})
	return r, checkState(r.State, node, p.bundle, err)
}

// serveBirthOrder takes an order of this machine's operator.
func (a *admin) serveBirthOrder(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	o := srvboot.BirthOrder{Format: srvboot.Format, Op: srvboot.BirthOp(q.Get("op")), Genesis: q.Get("genesis"), Without: q["without"]}
	answer, err := a.orderBirth(r.Context(), o)
	if err != nil {
		answer = srvboot.OrderReply{Text: err.Error(), Hint: "give the same command again; what waits for what: etcd-dns status"}
	}
	if !answer.Done {
		refuseWith(w, answer.Text, answer.Hint)
		return
	}
	reply(w, answer)
}

// CommandBirth has the node that runs on this configuration see to an order about the birth of its cluster.
func CommandBirth(ctx context.Context, o *Options, order srvboot.BirthOrder) (r srvboot.OrderReply, err error) {
	q := url.Values{"op": {string(order.Op)}, "genesis": {order.Genesis}, "without": order.Without}
	return r, askOwnNode(ctx, o, http.MethodPost, "/v1/birth?"+q.Encode(), &r)
}
