package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/etcd-dns/etcd-dns/node"
)

// memberCommand is the word that the child process is started with; it is no command of the operator's.
const memberCommand = "run-member"

// examplesFirst is cobra's usage text with the examples on top: most readers need no more.
const examplesFirst = `{{if .HasExample}}Examples:
{{.Example}}

{{end}}{{with .Long}}{{. | trimTrailingWhitespaces}}

{{end}}Usage:{{if .Runnable}}
  {{.UseLine}}{{end}}{{if .HasAvailableSubCommands}}
  {{.CommandPath}} COMMAND{{end}}{{if .HasAvailableSubCommands}}

Commands:{{range .Commands}}{{if .IsAvailableCommand}}
  {{rpad .Name .NamePadding }} {{.Short}}{{end}}{{end}}{{end}}{{if .HasAvailableLocalFlags}}

Flags:
{{.LocalFlags.FlagUsages | trimTrailingWhitespaces}}{{end}}{{if .HasAvailableSubCommands}}

"{{.CommandPath}} COMMAND --help" says more about a command.{{end}}
`

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "etcd-dns",
		Short: "Run a bare-metal etcd cluster that publishes itself in DNS",
		Long: "etcd-dns runs one node of an etcd cluster on bare metal: an authoritative name server for a delegated\n" +
			"subdomain, the certificates, and the etcd member that boots by the SRV records of that subdomain.",
		Example: `  etcd-dns demo
  etcd-dns init --domain rack1.example.com --node infra0=10.0.1.10 --node infra1=10.0.1.11 --node infra2=10.0.1.12 --out rack1
  etcd-dns run --corefile /etc/etcd-dns/Corefile
  etcd-dns status
  etcd-dns etcdctl member list`,
		Version: version, SilenceErrors: true, SilenceUsage: true,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return nil
			}
			u := &usage{what: fmt.Sprintf("unknown command %q", args[0]), hint: "etcd-dns --help"}
			if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
				u.hint = "did you mean etcd-dns " + strings.Join(near, " or etcd-dns ") + "?"
			}
			return u
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetHelpTemplate(examplesFirst)
	root.SuggestionsMinimumDistance = 2
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return &usage{what: err.Error(), hint: cmd.CommandPath() + " --help"}
	})
	root.AddCommand(newDemo(), newInit(), newRun(), newStatus(), newCheck(), newDelegation(), newZone(), newDNSSEC(), newMember(), newRecover(), newCert(), newCA(), newGateway(), newGRPCProxy(), newEtcd(), newDiscovery(), newEtcdctl(), newEtcdutl())
	return root
}

// noArgs refuses words that a command does not take.
func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return &usage{what: fmt.Sprintf("%s takes no argument but got %q", cmd.CommandPath(), args[0]), hint: cmd.CommandPath() + " --help"}
	}
	return nil
}

// place says which node a command is about.
type place struct{ corefile, name, data string }

func (p *place) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&p.corefile, "corefile", node.DefaultCorefile, "the configuration `FILE`")
	cmd.Flags().StringVar(&p.name, "name", "", "the `NAME` of this node; default: the node line whose address is local")
	cmd.Flags().StringVar(&p.data, "data", "", "the data `DIR`, instead of the Corefile's")
}

// running is options for commands that ask the node: it may run on the last good Corefile, and a wrong one is status's to
// report.
func (p *place) running() (*node.Options, error) {
	o, _, err := node.ReadLastGood(p.corefile, p.data)
	if err != nil {
		return nil, err
	}
	return o, o.Override(p.name, p.data)
}

// options reads the Corefile and lays the flags over it.
func (p *place) options() (*node.Options, error) {
	o, err := node.ReadCorefile(p.corefile)
	if err != nil {
		return nil, err
	}
	return o, o.Override(p.name, p.data)
}
