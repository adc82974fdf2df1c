package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"text/template"

	"github.com/miekg/dns"
	"github.com/spf13/cobra"

	"github.com/etcd-dns/etcd-dns/internal/durable"
	"github.com/etcd-dns/etcd-dns/node"
	"github.com/etcd-dns/etcd-dns/parent"
)

// delegationFlags are those of `delegation` alone.
type delegationFlags struct {
	place
	output, secondary, resolver, out string
	offline, showSecret              bool
}

func newDelegation() *cobra.Command {
	var f delegationFlags
	cmd := &cobra.Command{
		Use: "delegation", Short: "Print the parent zone's records, and whether the parent has them", Args: noArgs,
		Long: "delegation prints the NS, glue and DS records that the parent zone must hold, asks the parent's own servers\n" +
			"without recursion, and says what differs at which of them. The exit status is 1 when something does.\n\n" +
			"With --secondary or --resolver it prints the configuration of a neighbour instead.",
		Example: `  etcd-dns delegation
  etcd-dns delegation apply --key-file parent.key
  etcd-dns delegation -o nsupdate --offline | nsupdate -k parent.key
  etcd-dns delegation --secondary nsd --out rack1.conf
  etcd-dns delegation --resolver unbound`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := f.check(); err != nil {
				return err
			}
			o, err := f.options()
			if err != nil {
				return err
			}
			if f.secondary != "" || f.resolver != "" {
				return f.neighbour(cmd, o)
			}
			return f.run(cmd, o)
		},
	}
	f.flags(cmd)
	fl := cmd.Flags()
	fl.StringVarP(&f.output, "output", "o", "zone", "zone, nsupdate or json")
	fl.BoolVar(&f.offline, "offline", false, "do not ask the parent")
	fl.StringVar(&f.secondary, "secondary", "", "print the configuration of a secondary: "+strings.Join(names(secondaries), ", "))
	fl.StringVar(&f.resolver, "resolver", "", "print what makes a resolver reach the zone without a delegation: "+strings.Join(names(resolvers), ", "))
	fl.BoolVar(&f.showSecret, "show-secret", false, "with --secondary: print the TSIG key's secret too")
	fl.StringVar(&f.out, "out", "", "with --secondary: write everything, with the secret, to the new `FILE`, readable by its owner alone")
	cmd.AddCommand(newDelegationApply())
	return cmd
}

func names(m map[string]*template.Template) (out []string) {
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

// check refuses flags that do not go together.
func (f *delegationFlags) check() error {
	for flag, v := range map[string]struct {
		value string
		known []string
	}{"-o": {f.output, []string{"zone", "nsupdate", "json"}}, "--secondary": {f.secondary, names(secondaries)}, "--resolver": {f.resolver, names(resolvers)}} {
		if v.value != "" || flag == "-o" {
			if err := oneOf(flag, v.value, v.known...); err != nil {
				return err
			}
		}
	}
	switch {
	case f.secondary != "" && f.resolver != "":
		return &usage{what: "--secondary and --resolver are two configurations", hint: "call it once for each"}
	case f.secondary == "" && (f.out != "" || f.showSecret):
		return &usage{what: "--out and --show-secret go with --secondary", hint: "etcd-dns delegation --secondary nsd --out FILE"}
	}
	return nil
}

// neighbour prints or writes a configuration.
func (f *delegationFlags) neighbour(cmd *cobra.Command, o *node.Options) error {
	n, err := newNeighbour(o)
	if err != nil {
		return err
	}
	t := resolvers[f.resolver]
	if f.secondary != "" {
		t = secondaries[f.secondary]
		if err := n.addKey(o, f.showSecret || f.out != ""); err != nil {
			return err
		}
	} else {
		w := wanted(cmd.Context(), o)
		n.DS, n.Signed = w.DS, len(w.DS) > 0
		n.Early = !w.DSKnown && len(w.Keys) > 0
		n.Insecure = !w.DSKnown && !n.Early
	}
	var text bytes.Buffer
	if err := t.Execute(&text, n); err != nil {
		return fmt.Errorf("write %s: %w", t.Name(), err)
	}
	if f.out == "" {
		_, err := cmd.OutOrStdout().Write(text.Bytes())
		return err
	}
	if _, err := os.Lstat(f.out); err == nil {
		return &usageErr{what: f.out + " exists, and nothing is overwritten", hint: "choose another --out, or move it away"}
	}
	if err := durable.Create(f.out, text.Bytes(), 0o600); err != nil {
		return fmt.Errorf("write %s: %w", f.out, err)
	}
	say(cmd, "wrote %s with the key %s: copy it to the secondary, and let only its name server read it", f.out, n.Key)
	return nil
}

// wanted is what the parent should hold. What the running node signs with decides about DS.
func wanted(ctx context.Context, o *node.Options) parent.Want {
	z, err := node.FetchZone(ctx, o, "")
	return o.Wanted(z.Records, err == nil)
}

// noDS says why it is not known which DS the parent should have.
func noDS(o *node.Options, w parent.Want) string {
	if len(w.Keys) > 0 {
		return "the zone has not been signed for long enough (etcd-dns dnssec status)"
	}
	return "no node that would know it answers on " + o.Data
}

// delegationReport is the result as JSON.
type delegationReport struct {
	Domain  string          `json:"domain"`
	Records []string        `json:"records"`
	Parent  *parent.Verdict `json:"parent,omitempty"`
}

// run prints the records, asks the parent, and judges.
func (f *delegationFlags) run(cmd *cobra.Command, o *node.Options) error {
	w := wanted(cmd.Context(), o)
	if !w.DSKnown {
		say(cmd, "DS is left out, because %s", noDS(o, w))
	}
	var v *parent.Verdict
	if !f.offline {
		verdict := judge(cmd.Context(), o, w)
		v = &verdict
	}
	if err := writeDelegation(cmd.OutOrStdout(), w, v, f.output); err != nil {
		return err
	}
	if v == nil {
		return nil
	}
	return tellVerdict(cmd, *v, w.Domain)
}

// tellVerdict explains the verdict; it is an error unless the parent agrees.
func tellVerdict(cmd *cobra.Command, v parent.Verdict, domain string) error {
	for _, d := range v.Differences {
		say(cmd, "%s", d)
	}
	for _, s := range v.Servers {
		if s.Err != nil && v.Word != parent.Unknown {
			say(cmd, "warning: %s was not heard: %v", s, s.Err)
		}
	}
	switch v.Word {
	case parent.Agrees:
		say(cmd, "%s", v.Summary())
		return nil
	case parent.Differs:
		return &usageErr{what: fmt.Sprintf("the parent %s differs in %d records", v.Zone, len(v.Differences)),
			hint: "etcd-dns delegation apply --key-file FILE, or change its zone by hand as said above"}
	}
	return &usageErr{what: v.Summary(), hint: "dig +trace NS " + domain + "; --offline asks nobody"}
}

func judge(ctx context.Context, o *node.Options, w parent.Want) parent.Verdict {
	a, err := o.Asker()
	if err != nil {
		return parent.Failed(err)
	}
	view, err := a.Ask(ctx, w.Domain)
	if err != nil {
		return parent.Failed(err)
	}
	return view.Judge(w)
}

// parentRecords are all that the parent should hold.
func parentRecords(w parent.Want) []dns.RR {
	out := slices.Clone(w.Records)
	for _, ds := range w.DS {
		out = append(out, ds)
	}
	return out
}

func writeDelegation(w io.Writer, want parent.Want, v *parent.Verdict, output string) error {
	records := parentRecords(want)
	switch output {
	case "json":
		d := delegationReport{Domain: want.Domain, Records: []string{}, Parent: v}
		for _, rr := range records {
			d.Records = append(d.Records, rr.String())
		}
		return printJSON(w, d)
	case "nsupdate":
		zone := parentOf(want.Domain)
		if v != nil && v.Zone != "" {
			zone = v.Zone
		}
		return writeUpdate(w, zone, want)
	}
	for _, rr := range records {
		fmt.Fprintln(w, rr)
	}
	return nil
}

// writeUpdate writes what nsupdate(1) reads: every RRset that is published is replaced whole.
func writeUpdate(w io.Writer, zone string, want parent.Want) error {
	records := parentRecords(want)
	fmt.Fprintf(w, "zone %s\n", zone)
	sets := []string{want.Domain + " NS"}
	if want.DSKnown {
		sets = append(sets, want.Domain+" DS")
	}
	for _, rr := range records {
		if set := rr.Header().Name + " " + dns.TypeToString[rr.Header().Rrtype]; !slices.Contains(sets, set) {
			sets = append(sets, set)
		}
	}
	for _, set := range sets {
		fmt.Fprintf(w, "update delete %s\n", set)
	}
	for _, rr := range records {
		fmt.Fprintf(w, "update add %s\n", oneLine(rr.String()))
	}
	_, err := fmt.Fprintln(w, "send")
	return err
}

// parentOf is the name one label up; the zone cut may be higher, which nsupdate's server then says.
func parentOf(domain string) string {
	if i, end := dns.NextLabel(domain, 0); !end {
		return domain[i:]
	}
	return "."
}
