package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/etcd-dns/etcd-dns/node"
	"github.com/etcd-dns/etcd-dns/parent"
)

const (
	// applyWait is how long the parent's secondaries get to follow their primary; NOTIFY takes a second.
	applyWait = 30 * time.Second
	applyPoll = 500 * time.Millisecond
)

// applyFlags are those of `delegation apply`.
type applyFlags struct {
	place
	keyFile, server string
	yes             bool
}

func newDelegationApply() *cobra.Command {
	var f applyFlags
	cmd := &cobra.Command{
		Use: "apply", Short: "Change the parent zone by a signed dynamic update", Args: noArgs,
		Long: "apply makes the parent zone hold what delegation prints, by one dynamic update (RFC 2136) signed with a TSIG\n" +
			"key. It shows what it will change and asks first. Only NS, DS and addresses of the delegation are touched,\n" +
			"record by record; where nothing differs, nothing is sent. Afterwards it asks the parent's servers again.",
		Example: `  etcd-dns delegation apply --key-file parent.key
  etcd-dns delegation apply --key-file parent.key --server 192.0.2.1 --yes`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o, err := f.options()
			if err != nil {
				return err
			}
			return f.run(cmd, o)
		},
	}
	f.flags(cmd)
	fl := cmd.Flags()
	fl.StringVar(&f.keyFile, "key-file", "", "the TSIG key, in the `FILE` that tsig-keygen writes and nsupdate -k reads")
	fl.StringVar(&f.server, "server", "", "the `ADDRESS[:PORT]` that takes updates; default: the MNAME in the parent's SOA")
	fl.BoolVar(&f.yes, "yes", false, "do not ask")
	return cmd
}

// run plans, asks, sends and verifies.
func (f *applyFlags) run(cmd *cobra.Command, o *node.Options) error {
	if f.keyFile == "" {
		return &usage{what: "apply needs --key-file", hint: "tsig-keygen rack1 > parent.key, and the same key in the parent's server"}
	}
	key, err := parent.ReadKeyFile(f.keyFile)
	if err != nil {
		return err
	}
	at, err := serverAddr(f.server)
	if err != nil {
		return err
	}
	a, err := o.Asker()
	if err != nil {
		return err
	}
	w := wanted(cmd.Context(), o)
	if !w.DSKnown {
		say(cmd, "DS is left as it is, because %s", noDS(o, w))
	}
	view, err := a.Ask(cmd.Context(), w.Domain)
	if err != nil {
		return err
	}
	c, err := a.Plan(cmd.Context(), view, w, at)
	if err != nil {
		return err
	}
	if !c.Empty() {
		if err := f.send(cmd, c, key); err != nil {
			return err
		}
	}
	return verify(cmd, a, w, c)
}

// send shows the change, has it confirmed and sends it.
func (f *applyFlags) send(cmd *cobra.Command, c parent.Change, key parent.Key) error {
	for _, rr := range c.Replace {
		fmt.Fprintf(cmd.OutOrStdout(), "replace %s\n", oneLine(rr.String()))
	}
	for _, d := range c.Differences {
		d.Servers = []string{c.At.String()}
		fmt.Fprintln(cmd.OutOrStdout(), d)
	}
	if !f.yes {
		if err := confirm(cmd.InOrStdin(), cmd.ErrOrStderr(), c); err != nil {
			return err
		}
	}
	return c.Send(cmd.Context(), key)
}

// confirm asks a person. Without a terminal there is nobody to ask.
func confirm(in io.Reader, out io.Writer, c parent.Change) error {
	if w, ok := in.(io.Writer); !ok || !isTerminal(w) {
		return &usageErr{what: "nothing was changed: there is no terminal to ask at", hint: "etcd-dns delegation apply --yes does what is shown above"}
	}
	fmt.Fprintf(out, "etcd-dns: change %s at %s? [y/N] ", c.Zone, c.At)
	line, err := bufio.NewReader(in).ReadString('\n')
	if answer := strings.ToLower(strings.TrimSpace(line)); err != nil || answer != "y" && answer != "yes" {
		return &usageErr{what: "nothing was changed", hint: "answer y, or call it with --yes"}
	}
	return nil
}

// verify asks the parent's servers until all that answer agree.
func verify(cmd *cobra.Command, a parent.Asker, w parent.Want, c parent.Change) error {
	ctx, cancel := context.WithTimeout(cmd.Context(), applyWait)
	defer cancel()
	for {
		view, err := a.Ask(cmd.Context(), w.Domain)
		if err != nil {
			return err
		}
		if v := view.Judge(w); v.Word != parent.Differs || ctx.Err() != nil {
			if v.Word == parent.Differs {
				say(cmd, "%s took the update, but not every server of %s has it yet", c.At, c.Zone)
			} else if c.Empty() {
				say(cmd, "nothing to change")
			}
			return tellVerdict(cmd, v, w.Domain)
		}
		select {
		case <-ctx.Done():
		case <-time.After(applyPoll):
		}
	}
}

// serverAddr reads ADDRESS or ADDRESS:PORT; an empty text is no address.
func serverAddr(s string) (netip.AddrPort, error) {
	if s == "" {
		return netip.AddrPort{}, nil
	}
	if addr, err := netip.ParseAddr(strings.Trim(s, "[]")); err == nil {
		return netip.AddrPortFrom(addr, 0), nil
	}
	at, err := netip.ParseAddrPort(s)
	if err != nil || at.Port() == 0 {
		host, _, _ := net.SplitHostPort(s)
		return at, &usage{what: fmt.Sprintf("--server %q is not an address", s), hint: "an address with or without a port; look it up: dig A " + orNone(host)}
	}
	return at, nil
}
