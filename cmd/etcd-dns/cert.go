package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/etcd-dns/etcd-dns/certs"
	"github.com/etcd-dns/etcd-dns/node"
)

func newCert() *cobra.Command {
	cmd := &cobra.Command{Use: "cert", Short: "Make certificates", Args: noArgs,
		Example: "  etcd-dns cert client alice --bundle cluster.bundle --out alice",
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	cmd.AddCommand(newCertClient())
	return cmd
}

func newCertClient() *cobra.Command {
	var bundle, out string
	var proxy bool
	cmd := &cobra.Command{
		Use: "client NAME", Short: "Make a client certificate",
		Long: "cert client writes DIR/ca.crt, DIR/NAME.crt and DIR/NAME.key. NAME becomes the common name, which etcd's\n" +
			"authentication takes as the user's name. It never overwrites a file.",
		Example: "  etcd-dns cert client alice --bundle cluster.bundle --out alice\n" +
			"  etcdctl --discovery-srv rack1.example.com --cacert alice/ca.crt --cert alice/alice.crt --key alice/alice.key member list",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return &usage{what: fmt.Sprintf("cert client takes one name but got %d", len(args)), hint: "etcd-dns cert client alice --out alice"}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			b, err := certs.LoadBundle(bundle)
			if err != nil {
				return err
			}
			f, err := b.WriteClient(out, args[0], certs.ClientOptions{Proxy: proxy})
			if err != nil {
				return err
			}
			say(cmd, "wrote %s, %s and %s", f.CA, f.Cert, f.Key)
			return nil
		},
	}
	cmd.Flags().StringVar(&bundle, "bundle", node.DefaultBundle, "the bundle `FILE`")
	cmd.Flags().StringVar(&out, "out", ".", "the `DIR` to write to")
	cmd.Flags().BoolVar(&proxy, "proxy", false, "for grpc-proxy: without a common name, so that no user of etcd's is meant")
	return cmd
}
