package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/etcd-dns/etcd-dns/node"
	"github.com/etcd-dns/etcd-dns/srvboot"
)

// memberWait is how long add and replace wait until the node votes. A gigabyte crosses a rack in less.
const memberWait = 2 * time.Minute

func newMember() *cobra.Command {
	cmd := &cobra.Command{
		Use: "member", Short: "List, add, remove, replace, promote and drain members; DNS follows",
		Long: "member tells the node that runs here, which sees to it that the leader's node does it. New nodes join by themselves\n" +
			"when the Corefile of the leader's node has a line for them, and nodes that lost their disk are replaced by themselves.",
		Example: `  etcd-dns member list
  etcd-dns member remove infra2
  etcd-dns member add infra2`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return nil
			}
			return &usage{what: fmt.Sprintf("member %s is not known", args[0]), hint: "one of: etcd-dns member list, add, remove, replace, promote, drain"}
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newMemberList(),
		newOrder(srvboot.OrderAdd, "Let a node in, also one that was removed",
			"add waits until NAME is a voter. A node whose line is in the Corefile of the leader's node needs no add, unless it was removed."),
		newOrder(srvboot.OrderRemove, "Remove a node's member, and keep the node out",
			"remove takes the node's member out of the cluster and out of DNS. The node keeps serving DNS, sets its data aside, and stays\n"+
				"out until add. A removal that would leave no quorum connected is refused."),
		newOrder(srvboot.OrderReplace, "Let a node back in that lost its disk, without waiting for an unknown machine",
			"replace is for a node whose machine is new, which otherwise waits for five minutes, for `replace manual`, and when no\n"+
				"snapshot can be taken. All other conditions hold: nobody hears the old member, and the others have a quorum."),
		newOrder(srvboot.OrderPromote, "Make a learner a voter now", "promote is for a learner that etcd agrees has caught up. It happens by itself a second later."),
		newOrder(srvboot.OrderDrain, "Have a node's member hand its leadership over", "drain is for before a node is stopped; a node that is stopped drains by itself."))
	return cmd
}

func newMemberList() *cobra.Command {
	var p place
	var output string
	cmd := &cobra.Command{Use: "list", Short: "List the members, and why who waits to become one", Args: noArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		if err := oneOf("-o", output, "text", "json"); err != nil {
			return err
		}
		o, err := p.running()
		if err != nil {
			return err
		}
		s, err := node.Fetch(cmd.Context(), o)
		if err != nil {
			return err
		}
		if output == "json" {
			return printJSON(cmd.OutOrStdout(), s.Members)
		}
		return writeMembers(cmd.OutOrStdout(), s)
	}}
	p.flags(cmd)
	cmd.Flags().StringVarP(&output, "output", "o", "text", "text or json")
	return cmd
}

func writeMembers(w io.Writer, s node.Status) error {
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	var waits []string
	fmt.Fprintf(t, "MEMBER\tNAME\tPEER URL\tROLE\tSERVING\n")
	for _, m := range s.Members {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", m.ID, m.Name, strings.Join(m.PeerURLs, " "), role(m), yesNo(m.Serving))
	}
	for _, n := range s.Nodes {
		member := slices.ContainsFunc(s.Members, func(m node.MemberStatus) bool { return m.Name == n.Name })
		if !member {
			fmt.Fprintf(t, "-\t%s\t\t%s\tno\n", n.Name, orNone(n.Plan))
		}
		if !member || n.Reason != "" { // a listed one that does not run may have lost its data
			waits = append(waits, fmt.Sprintf("\n%s: %s", n.Name, orNone(n.Reason+n.Error)))
		}
	}
	for _, text := range waits {
		fmt.Fprintln(t, text)
	}
	return t.Flush()
}

// newOrder is the command for one word about a node.
func newOrder(op srvboot.OrderOp, short, long string) *cobra.Command {
	var p place
	order := srvboot.Order{Op: op}
	wait := time.Duration(0)
	cmd := &cobra.Command{
		Use: string(op) + " NAME", Short: short, Long: long,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return &usage{what: fmt.Sprintf("%s takes the name of one node", cmd.CommandPath()), hint: "etcd-dns member list"}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			order.Node = args[0]
			o, err := p.running()
			if err != nil {
				return err
			}
			s, err := node.Fetch(cmd.Context(), o)
			if err == nil {
				err = o.KnowsNode(order.Node, s)
			}
			if err != nil {
				return err
			}
			r, err := node.CommandMember(cmd.Context(), o, order)
			if err != nil {
				return err
			}
			say(cmd, "%s", r.Text)
			if wait == 0 {
				return nil
			}
			return awaitVoter(cmd, o, order.Node, wait)
		},
	}
	p.flags(cmd)
	switch op {
	case srvboot.OrderRemove:
		cmd.Flags().BoolVar(&order.Force, "force", false, "remove it although no quorum would be left connected")
	case srvboot.OrderAdd, srvboot.OrderReplace:
		cmd.Flags().DurationVar(&wait, "wait", memberWait, "how long to wait until it is a voter; 0 to not wait")
	}
	return cmd
}

// awaitVoter says what the node waits for until it is a voter.
func awaitVoter(cmd *cobra.Command, o *node.Options, name string, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(cmd.Context(), limit)
	defer cancel()
	tick := time.NewTicker(statusPoll)
	defer tick.Stop()
	last := ""
	for {
		s, err := node.Fetch(ctx, o)
		if err == nil {
			i := slices.IndexFunc(s.Members, func(m node.MemberStatus) bool { return m.Name == name })
			if i >= 0 && !s.Members[i].Learner && s.Members[i].Serving {
				say(cmd, "%s is a voter", name)
				return nil
			}
			if now := whatFor(s, name); now != last && now != "" {
				last = now
				say(cmd, "%s: %s", name, now)
			}
		}
		select {
		case <-ctx.Done():
			return &usageErr{what: fmt.Sprintf("%s is not a voter after %v: %s", name, limit, orNone(last)), hint: "etcd-dns status, on " + name}
		case <-tick.C:
		}
	}
}

// whatFor is what a node does on its way to be a member.
func whatFor(s node.Status, name string) string {
	for _, n := range s.Nodes {
		switch {
		case n.Name != name:
		case !n.Reachable:
			return "not reachable: " + n.Error
		default:
			return n.Reason
		}
	}
	return ""
}
