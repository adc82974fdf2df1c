package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/etcd-dns/etcd-dns/node"
)

// statusPoll is how often `status --wait` looks.
const statusPoll = 200 * time.Millisecond

func newStatus() *cobra.Command {
	var p place
	var output string
	var wait bool
	var timeout time.Duration
	cmd := &cobra.Command{
		Use: "status", Short: "Show nodes, members, leader, health, certificates and zone", Args: noArgs,
		Long: "status asks the node that runs here. The exit status is 0 only if all is well.",
		Example: `  etcd-dns status
  etcd-dns status -o json
  etcd-dns status --wait --timeout 2m   # for units that need etcd`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := oneOf("-o", output, "text", "json"); err != nil {
				return err
			}
			o, err := p.running()
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), timeout)
			defer cancel()
			s, err := fetch(ctx, o, wait)
			if err != nil {
				return err
			}
			return showStatus(cmd.OutOrStdout(), s, output)
		},
	}
	p.flags(cmd)
	cmd.Flags().StringVarP(&output, "output", "o", "text", "text or json")
	cmd.Flags().BoolVar(&wait, "wait", false, "wait until all is well")
	cmd.Flags().DurationVar(&timeout, "timeout", 5*time.Minute, "how long to wait")
	return cmd
}

// fetch asks once, or until all is well. When the time is up it returns the last status rather than an error.
func fetch(ctx context.Context, o *node.Options, wait bool) (s node.Status, err error) {
	for {
		s, err = node.Fetch(ctx, o)
		if !wait || err == nil && s.OK {
			return s, err
		}
		select {
		case <-ctx.Done():
			return s, err
		case <-time.After(statusPoll):
		}
	}
}

func showStatus(w io.Writer, s node.Status, output string) error {
	if output == "json" {
		if err := printJSON(w, s); err != nil {
			return err
		}
	} else if err := writeStatus(w, s); err != nil {
		return err
	}
	if !s.OK {
		return exitCode(1)
	}
	return nil
}

// writeStatus prints the status for a person: the verdict first, then the tables.
func writeStatus(w io.Writer, s node.Status) error {
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintf(t, "node\t%s of %s\n", s.Node, strings.TrimSuffix(s.Domain, "."))
	fmt.Fprintf(t, "health\t%s\n", verdict(s))
	fmt.Fprintf(t, "cluster\t%s%s, leader %s, phase %s\n", srvNamePrefix(s.SrvName), orNone(s.Cluster), orNone(s.Leader), s.Phase)
	if s.Size != "" {
		fmt.Fprintf(t, "size\t%s nodes\n", s.Size)
	}
	if s.Plan.Spare {
		fmt.Fprintf(t, "spare\t%s\n", s.Waiting)
	}
	fmt.Fprintf(t, "zone\tserial %d, digest %.12s\n", s.Zone.Serial, s.Zone.Digest)
	fmt.Fprintf(t, "dnssec\t%s\n", dnssecMode(s.DNSSEC))
	for _, c := range s.Certificates {
		fmt.Fprintf(t, "certificate\t%s until %s\n", c.Slot, c.NotAfter.UTC().Format(time.DateTime))
	}
	for _, text := range s.Problems {
		fmt.Fprintf(t, "problem\t%s\n", text)
	}
	if s.Waiting != "" && s.Plan.Hint != "" {
		fmt.Fprintf(t, "hint\t%s\n", s.Plan.Hint)
	}
	for _, text := range s.Warnings {
		fmt.Fprintf(t, "warning\t%s\n", text)
	}
	fmt.Fprintf(t, "\nNODE\tADDRESSES\tREACHABLE\tPHASE\tSERIAL\n")
	for _, n := range s.Nodes {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%d\n", n.Name, strings.Join(n.Addresses, " "), yesNo(n.Reachable), n.Phase, n.Serial)
	}
	if len(s.Members) > 0 {
		fmt.Fprintf(t, "\nMEMBER\tNAME\tPEER URL\tROLE\tSERVING\n")
	}
	for _, m := range s.Members {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", m.ID, m.Name, strings.Join(m.PeerURLs, " "), role(m), yesNo(m.Serving))
	}
	if len(s.Others) > 0 {
		fmt.Fprintf(t, "\nOTHER CLUSTER\tBIRTH\tMEMBERS\tSERVING\n")
	}
	for _, c := range s.Others {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", cmp.Or(c.SrvName, "(default)"), birthWord(c), orNone(strings.Join(c.Members, " ")), orNone(strings.Join(c.Serving, " ")))
	}
	if len(s.Secondaries) > 0 {
		fmt.Fprintf(t, "\nSECONDARY\tTOLD\tACKNOWLEDGED\tHAS\tERROR\n")
	}
	for _, x := range s.Secondaries {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", x.Address, serial(x.Notified), serial(x.Acked), serial(x.Pulled), x.Error)
	}
	for _, d := range s.Deaths {
		fmt.Fprintf(t, "\ndeath\t%s  %s\n", d.At.UTC().Format(time.DateTime), d.Reason)
	}
	return t.Flush()
}

// birthWord is how much is known of a cluster; one that the rack does not run has been seen or not.
func birthWord(c node.ClusterStatus) string {
	if c.Followed == nil {
		return c.Birth
	}
	if c.Followed.ClusterID == "" {
		return "never seen"
	}
	return "followed"
}

// srvNamePrefix tells which cluster of the domain it is about.
func srvNamePrefix(srvName string) string {
	if srvName == "" {
		return ""
	}
	return srvName + ": "
}

// serial is a zone's serial; a dash while there is none.
func serial(s *uint32) string {
	if s == nil {
		return "-"
	}
	return strconv.FormatUint(uint64(*s), 10)
}

func verdict(s node.Status) string {
	if s.OK {
		return "ok"
	}
	if s.Health == "healthy" {
		return "not ok"
	}
	return "not ok: " + s.Health
}

func role(m node.MemberStatus) string {
	switch {
	case m.Learner:
		return "learner"
	case m.Leader:
		return "leader"
	}
	return "voter"
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

// oneOf refuses a value that a flag does not know.
func oneOf(flag, value string, known ...string) error {
	for _, k := range known {
		if value == k {
			return nil
		}
	}
	return &usage{what: fmt.Sprintf("%s %s is not known", flag, value), hint: "one of: " + strings.Join(known, ", ")}
}
