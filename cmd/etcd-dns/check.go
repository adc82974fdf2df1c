package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/etcd-dns/etcd-dns/node"
	"github.com/etcd-dns/etcd-dns/srvboot"
)

func newCheck() *cobra.Command {
	var p place
	var t srvboot.Target
	var files srvboot.CertFiles
	var output string
	cmd := &cobra.Command{
		Use: "check [DOMAIN]", Short: "Run every pre-flight check, each with a hint",
		Long: "check runs the checks that a node runs before it starts its member. With DOMAIN or --cert it looks at a domain or\n" +
			"a certificate that etcd-dns did not make. It changes nothing. The exit status is 1 if a check fails.",
		Example: `  etcd-dns check
  etcd-dns check example.com --srv-name foo
  etcd-dns check example.com --cert member.crt --ca ca.crt`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 1 {
				return noArgs(cmd, args[1:])
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := oneOf("-o", output, "text", "json"); err != nil {
				return err
			}
			target, err := checkTarget(cmd.Context(), checkFlags{place: p, foreign: t, files: files}, args)
			if err != nil {
				return err
			}
			return showChecks(cmd.OutOrStdout(), srvboot.RunChecks(cmd.Context(), target), output)
		},
	}
	p.flags(cmd)
	cmd.Flags().StringVar(&t.SrvName, "srv-name", "", "the srv-name `SUFFIX` of a foreign domain")
	cmd.Flags().StringVar(&files.Cert, "cert", "", "a member's certificate `FILE`")
	cmd.Flags().StringVar(&files.Key, "key", "", "its key `FILE`")
	cmd.Flags().StringVar(&files.CA, "ca", "", "the CA `FILE`")
	cmd.Flags().StringVarP(&output, "output", "o", "text", "text or json")
	return cmd
}

// checkFlags say what to look at.
type checkFlags struct {
	place   place
	foreign srvboot.Target
	files   srvboot.CertFiles
}

// checkTarget is the node of the Corefile, or the domain and the certificate that were named.
func checkTarget(ctx context.Context, f checkFlags, args []string) (srvboot.Target, error) {
	if len(args) == 0 && f.files.Cert == "" {
		if f.foreign.SrvName != "" {
			return srvboot.Target{}, &usage{what: "--srv-name needs a DOMAIN; a node's own comes from the Corefile", hint: "etcd-dns check example.com --srv-name " + f.foreign.SrvName}
		}
		o, err := f.place.options()
		if err != nil {
			return srvboot.Target{}, err
		}
		return o.CheckTarget(ctx)
	}
	t := f.foreign
	if len(args) == 1 {
		t.Domain, t.Resolver, t.HostsFile = args[0], net.DefaultResolver, node.HostsFile
	}
	if f.files.Cert != "" {
		f.files.Use = "peer"
		t.Certificates, t.CustomCA = []srvboot.CertFiles{f.files}, f.files.CA != ""
	}
	return t, nil
}

func showChecks(w io.Writer, results []srvboot.CheckResult, output string) error {
	failed := false
	for _, r := range results {
		failed = failed || r.Level == srvboot.LevelFail
	}
	if output == "json" {
		if err := printJSON(w, results); err != nil {
			return err
		}
	} else {
		t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
		for _, r := range results {
			fmt.Fprintf(t, "%s\t%s\t%s\n", r.Level, r.Name, oneLine(r.Detail))
			if r.Hint != "" {
				fmt.Fprintf(t, "\t\thint: %s\n", oneLine(strings.TrimSpace(r.Hint)))
			}
		}
		if err := t.Flush(); err != nil {
			return fmt.Errorf("write the result: %w", err)
		}
	}
	if failed {
		return exitCode(1)
	}
	return nil
}
