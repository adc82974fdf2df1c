package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/etcd-dns/etcd-dns/certs"
	"github.com/etcd-dns/etcd-dns/internal/durable"
)

func newCA() *cobra.Command {
	cmd := &cobra.Command{Use: "ca", Short: "Replace the keys in the bundle", Args: noArgs,
		Example: "  etcd-dns ca rotate gossip --bundle cluster.bundle",
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	rotate := &cobra.Command{Use: "rotate", Short: "Take the next step of replacing a key", Args: noArgs,
		Example: "  etcd-dns ca rotate gossip --bundle cluster.bundle",
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	rotate.AddCommand(newRotateGossip())
	cmd.AddCommand(rotate)
	return cmd
}

func newRotateGossip() *cobra.Command {
	var bundle, rootKey string
	cmd := &cobra.Command{
		Use: "gossip", Short: "Take the next of three steps to a new gossip key", Args: noArgs,
		Long: "ca rotate gossip runs where init ran, beside the root key. Each run writes the next generation of the bundle, in place: the\n" +
			"first adds a key, the second uses it, the third drops the old one. After each, the bundle has to be copied to every node,\n" +
			"and every node reloaded, before the next run. Nothing restarts, and no node is out of the others' hearing meanwhile.",
		Example: "  etcd-dns ca rotate gossip --bundle cluster.bundle --root-key offline/root.key",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if rootKey == "" {
				rootKey = filepath.Join(filepath.Dir(bundle), "offline", certs.RootKeyFile)
			}
			key, err := os.ReadFile(rootKey)
			if err != nil {
				return &usage{what: fmt.Sprintf("the root key: %v", err), hint: "etcd-dns ca rotate gossip --bundle FILE --root-key FILE, where the root key is"}
			}
			b, err := certs.LoadBundle(bundle)
			if err != nil {
				return err
			}
			b, step, err := b.RotateGossip(key)
			if err != nil {
				return err
			}
			text, err := b.Marshal()
			if err == nil {
				err = durable.WriteFile(bundle, text, 0o600)
			}
			if err != nil {
				return fmt.Errorf("write %s: %w", bundle, err)
			}
			what := map[certs.RotationStep]string{certs.KeyAdded: "a new gossip key is added, and not used yet",
				certs.KeyUsed: "the new gossip key is used, and the old one still read", certs.KeyDropped: "the old gossip key is dropped"}[step]
			say(cmd, "wrote generation %d of %s, step %d of 3: %s", b.Generation(), bundle, step, what)
			say(cmd, "copy it to every node, and there: systemctl reload etcd-dns")
			if step != certs.KeyDropped {
				say(cmd, "then, as soon as etcd-dns status warns of no node with another generation, run this again")
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&bundle, "bundle", "cluster.bundle", "the bundle `FILE`, which is replaced")
	cmd.Flags().StringVar(&rootKey, "root-key", "", "the root key's `FILE` (default offline/root.key beside the bundle)")
	return cmd
}
