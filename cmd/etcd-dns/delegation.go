package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/miekg/dns"
	"github.com/spf13/cobra"

	"github.com/etcd-dns/etcd-dns/node"
)

func newDelegation() *cobra.Command {
	var p place
	var output string
	var offline bool
	cmd := &cobra.Command{
		Use: "delegation", Short: "Print the parent zone's records, and whether the parent has them", Args: noArgs,
		Long: "delegation prints the NS and glue records that the parent zone must hold, and asks the parent's own servers\n" +
			"whether they do. The exit status is 1 when they do not.",
		Example: `  etcd-dns delegation
  etcd-dns delegation -o nsupdate --offline | nsupdate -k parent.key`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := oneOf("-o", output, "zone", "nsupdate", "json"); err != nil {
				return err
			}
			o, err := p.options()
			if err != nil {
				return err
			}
			d := node.DelegationReport{Domain: o.Domain, Records: o.Delegation()}
			if !offline {
				d.Parent = node.AskParent(cmd.Context(), o.Domain, d.Records)
			}
			ds, err := o.DS()
			if err != nil {
				return err
			}
			d.Records = append(d.Records, ds...)
			if err := writeDelegation(cmd.OutOrStdout(), d, output); err != nil {
				return err
			}
			if d.Parent == nil {
				return nil
			}
			if !d.Parent.OK {
				return &usageErr{what: d.Parent.Summary(), hint: "publish the records above in the parent zone, then look with: dig +trace NS " + o.Domain}
			}
			say(cmd, "%s", d.Parent.Summary())
			return nil
		},
	}
	p.flags(cmd)
	cmd.Flags().StringVarP(&output, "output", "o", "zone", "zone, nsupdate or json")
	cmd.Flags().BoolVar(&offline, "offline", false, "do not ask the parent")
	return cmd
}

func writeDelegation(w io.Writer, d node.DelegationReport, output string) error {
	switch output {
	case "json":
		return printJSON(w, d)
	case "nsupdate":
		fmt.Fprintf(w, "zone %s\nupdate delete %s NS\n", parentOf(d.Domain), d.Domain)
		for _, rr := range d.Records {
			fmt.Fprintf(w, "update add %s\n", strings.ReplaceAll(rr.String(), "\t", " "))
		}
		fmt.Fprintln(w, "send")
		return nil
	}
	for _, rr := range d.Records {
		fmt.Fprintln(w, rr)
	}
	return nil
}

// parentOf is the name one label up; the zone cut may be higher, which nsupdate's server then says.
func parentOf(domain string) string {
	if i, end := dns.NextLabel(domain, 0); !end {
		return domain[i:]
	}
	return "."
}
