package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/etcd-dns/etcd-dns/node"
	"github.com/etcd-dns/etcd-dns/srvboot"
)

func newRecover() *cobra.Command {
	cmd := &cobra.Command{
		Use: "recover", Short: "Lead out where the nodes wait for a person",
		Long:    "recover is for what no node may decide by itself. status names the command where one leads out.",
		Example: `  etcd-dns recover birth --without infra2`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return nil
			}
			return &usage{what: fmt.Sprintf("recover %s is not known", args[0]), hint: "etcd-dns recover birth --help"}
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newRecoverBirth())
	return cmd
}

func newRecoverBirth() *cobra.Command {
	var p place
	var finish, abandon string
	var without []string
	var fresh bool
	cmd := &cobra.Command{
		Use: "birth", Short: "Let a birth go on that waits for a person", Args: noArgs,
		Long: "A cluster is born once, by all of its first members, soon after init. If one is dead before that, the others wait for it.\n\n" +
			"--new is for blank nodes that first start after the bundle's permission for birth has ended, such as those of a cluster\n" +
			"that came into the Corefile later. It says that they are new: if their cluster has lived before and its disks were\n" +
			"wiped, an empty one would take its name. Every node writes it down, and it counts for seven days.\n\n" +
			"--without alone is for a node that was dead on arrival, before any node accepted a genesis: all nodes that answer\n" +
			"write down that birth does not wait for it. More than half of the first members have to be left. It can join later.\n\n" +
			"--finish ID --without NAME has a genesis born that a majority accepted, with the dead ones as members that are down.\n\n" +
			"--abandon ID has the nodes that answer refuse a genesis for ever, so that another one can be decided. It takes so many\n" +
			"that those who may have accepted it and do not answer are no majority.\n\n" +
			"Each is refused while the node in question answers, and once a node is born.",
		Example: `  etcd-dns recover birth --new
  etcd-dns recover birth --without infra2
  etcd-dns recover birth --finish 1c9e… --without infra2
  etcd-dns recover birth --abandon 1c9e…`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			order := srvboot.BirthOrder{Op: srvboot.ExcuseFromBirth, Without: without}
			switch {
			case fresh && (finish != "" || abandon != "" || len(without) > 0):
				return &usage{what: "--new goes alone", hint: "etcd-dns recover birth --new"}
			case fresh:
				order.Op = srvboot.PermitBirth
			case finish != "" && abandon != "":
				return &usage{what: "--finish and --abandon exclude each other", hint: "etcd-dns recover birth --help"}
			case finish != "":
				order.Op, order.Genesis = srvboot.FinishBirth, finish
			case abandon != "" && len(without) > 0:
				return &usage{what: "--abandon takes no --without", hint: "etcd-dns recover birth --abandon " + abandon}
			case abandon != "":
				order.Op, order.Genesis = srvboot.AbandonBirth, abandon
			case len(without) == 0:
				return &usage{what: "it is not said what to do", hint: "etcd-dns status names the command; etcd-dns recover birth --help"}
			}
			o, err := p.running()
			if err != nil {
				return err
			}
			r, err := node.CommandBirth(cmd.Context(), o, order)
			if err != nil {
				return err
			}
			say(cmd, "%s", r.Text)
			return nil
		},
	}
	p.flags(cmd)
	cmd.Flags().BoolVar(&fresh, "new", false, "let blank nodes be born after the bundle's permission has ended")
	cmd.Flags().StringVar(&finish, "finish", "", "have the genesis `ID` born, which a majority accepted")
	cmd.Flags().StringVar(&abandon, "abandon", "", "refuse the genesis `ID` for ever")
	cmd.Flags().StringArrayVar(&without, "without", nil, "go on without the dead node `NAME`; repeat it for each")
	return cmd
}
