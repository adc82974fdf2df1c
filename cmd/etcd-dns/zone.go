package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/etcd-dns/etcd-dns/node"
)

func newZone() *cobra.Command {
	var p place
	var output string
	cmd := &cobra.Command{
		Use: "zone [ZONE]", Short: "Print the zone that this node serves, in master format",
		Long: "zone asks the node that runs here. Names that it answers with SERVFAIL, because they are not known yet, are\n" +
			"comments that begin with `; not ready`. ZONE is the domain unless given.",
		Example: `  etcd-dns zone
  etcd-dns zone -o json
  etcd-dns zone > rack1.zone && named-checkzone rack1.example.com rack1.zone`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 1 {
				return &usage{what: "zone takes one zone", hint: cmd.CommandPath() + " --help"}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := oneOf("-o", output, "text", "json"); err != nil {
				return err
			}
			o, err := p.running()
			if err != nil {
				return err
			}
			name := ""
			if len(args) == 1 {
				name = args[0]
			}
			z, err := node.FetchZone(cmd.Context(), o, name)
			if err != nil {
				return err
			}
			if output == "json" {
				return printJSON(cmd.OutOrStdout(), z)
			}
			if _, err := fmt.Fprint(cmd.OutOrStdout(), z.Text); err != nil {
				return fmt.Errorf("write the zone: %w", err)
			}
			return nil
		},
	}
	p.flags(cmd)
	cmd.Flags().StringVarP(&output, "output", "o", "text", "text or json")
	return cmd
}
