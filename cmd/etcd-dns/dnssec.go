package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/etcd-dns/etcd-dns/node"
)

func newDNSSEC() *cobra.Command {
	cmd := &cobra.Command{
		Use: "dnssec", Short: "Sign the zone, roll its key over, stop signing",
		Long: "dnssec tells the node that runs here; the other nodes follow within seconds. Every change happens in stages, each\n" +
			"as soon as no validator can be hurt by it, and without further commands: status says what the next one waits for.",
		Example: `  etcd-dns dnssec status
  etcd-dns dnssec on`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return nil
			}
			return &usage{what: fmt.Sprintf("dnssec %s is not known", args[0]), hint: "one of: etcd-dns dnssec status, on, rollover, off"}
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newDNSSECStatus(), newDNSSECOn(), newDNSSECRollover(), newDNSSECOff())
	return cmd
}

// dnssecAction asks the node, or tells it something, and returns how it signs.
type dnssecAction func(ctx context.Context, o *node.Options) (node.DNSSECStatus, error)

// dnssecCommand is the part that the four have in common. after is said while the zone is signed as a result.
func dnssecCommand(use string, do dnssecAction, after string) *cobra.Command {
	var p place
	var output string
	cmd := &cobra.Command{Use: use, Args: noArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		if err := oneOf("-o", output, "text", "json"); err != nil {
			return err
		}
		o, err := p.running()
		if err != nil {
			return err
		}
		s, err := do(cmd.Context(), o)
		if err != nil {
			return err
		}
		if after != "" && s.Mode != "off" {
			say(cmd, "%s", after)
		}
		if output == "json" {
			return printJSON(cmd.OutOrStdout(), s)
		}
		return writeDNSSEC(cmd.OutOrStdout(), s)
	}}
	p.flags(cmd)
	cmd.Flags().StringVarP(&output, "output", "o", "text", "text or json")
	return cmd
}

func newDNSSECStatus() *cobra.Command {
	cmd := dnssecCommand("status", node.FetchDNSSEC, "")
	cmd.Short = "Show keys, validity, the DS record to publish, and what the next stage waits for"
	return cmd
}

func newDNSSECOn() *cobra.Command {
	cmd := dnssecCommand("on", func(ctx context.Context, o *node.Options) (node.DNSSECStatus, error) {
		return node.CommandDNSSEC(ctx, o, "on")
	}, "the zone is being signed; the DS record follows when every cache has had the time to see it: etcd-dns dnssec status")
	cmd.Short = "Sign the zone"
	cmd.Long = "on signs the zone at once. When every name server has served it signed for the longest TTL, it publishes CDS and\n" +
		"CDNSKEY for a parent that reads them, and status prints the DS record for one that does not."
	return cmd
}

func newDNSSECRollover() *cobra.Command {
	var finish bool
	cmd := dnssecCommand("rollover", func(ctx context.Context, o *node.Options) (node.DNSSECStatus, error) {
		if finish {
			return node.CommandDNSSEC(ctx, o, "rollover-finish")
		}
		return node.CommandDNSSEC(ctx, o, "rollover")
	}, "follow it with: etcd-dns dnssec status")
	cmd.Short = "Replace the key by the next one"
	cmd.Long = "rollover publishes the next key, signs with it when every cache knows it, asks the parent for its DS by CDS, and drops\n" +
		"the old key when no validator needs it. The parent may take as long as it likes."
	cmd.Flags().BoolVar(&finish, "finish", false, "drop the old key although the nodes cannot ask the parent: you have seen there that the new\nDS has replaced the old one for longer than its TTL")
	return cmd
}

func newDNSSECOff() *cobra.Command {
	var now bool
	cmd := dnssecCommand("off", func(ctx context.Context, o *node.Options) (node.DNSSECStatus, error) {
		if now {
			return node.CommandDNSSEC(ctx, o, "off-now")
		}
		return node.CommandDNSSEC(ctx, o, "off")
	}, "as long as the parent has a DS record, validators refuse an unsigned zone: signing ends by itself when it is gone")
	cmd.Short = "Have the DS record removed, then stop signing"
	cmd.Long = "off asks the parent by CDS to remove the DS record; where the parent does not read CDS, remove it by hand. The zone\n" +
		"stays signed until all servers of the parent have been without it for longer than its TTL. `on` takes it back."
	cmd.Flags().BoolVar(&now, "now", false, "stop at once although the nodes cannot ask the parent: you have seen there that the DS has been\ngone for longer than its TTL")
	return cmd
}

// parentWords say what the parent's servers have.
var parentWords = map[string]string{
	"secure":  "has the DS of the active key",
	"none":    "has no DS",
	"other":   "has a DS, but not that of the active key on all its servers",
	"unknown": "not known",
}

// writeDNSSEC prints it for a person.
func writeDNSSEC(w io.Writer, s node.DNSSECStatus) error {
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintf(t, "zone\t%s\n", s.Domain)
	fmt.Fprintf(t, "dnssec\t%s\n", dnssecMode(s))
	if e := s.Epoch; e != nil {
		fmt.Fprintf(t, "signatures\tvalid from %s to %s, epoch %d\n", e.Inception.UTC().Format(time.DateTime), e.Expiration.UTC().Format(time.DateTime), e.Number)
		if !e.ClockPlausible {
			fmt.Fprintf(t, "clock\tnot believed: this node waits for another one to begin the next epoch\n")
		}
		fmt.Fprintf(t, "parent\t%s\n", parentWords[s.Parent])
	}
	for _, k := range s.Keys {
		fmt.Fprintf(t, "key\t%d, tag %d, algorithm %d, %s since %s\n", k.Number, k.Tag, k.Algorithm, k.Phase, k.Since.UTC().Format(time.DateTime))
	}
	for _, ds := range s.DS {
		fmt.Fprintf(t, "ds\t%s\n", strings.ReplaceAll(ds, "\t", " "))
	}
	if s.Waiting != "" {
		fmt.Fprintf(t, "waiting\t%s\n", s.Waiting)
	}
	for _, text := range s.Problems {
		fmt.Fprintf(t, "problem\t%s\n", text)
	}
	return t.Flush()
}

func dnssecMode(s node.DNSSECStatus) string {
	switch {
	case s.Mode == "going-off":
		return "going off: still signed until the parent's DS is gone"
	case s.Mode == "on" && !s.Announced:
		return "on, not announced to the parent yet: do not publish a DS record now"
	case s.Mode == "on" && len(s.Keys) > 1:
		return "on, a roll-over is under way"
	}
	return string(s.Mode)
}
