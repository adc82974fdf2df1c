package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
	"go.uber.org/zap/zapcore"

	"github.com/etcd-dns/etcd-dns/node"
)

func newRun() *cobra.Command {
	var p place
	var c node.Config
	var verbose bool
	cmd := &cobra.Command{
		Use: "run", Short: "Run this node", Args: noArgs,
		Long: "run serves the zone, keeps the certificates and runs the etcd member of this node until it gets SIGTERM.\n" +
			"SIGHUP reloads the Corefile without touching the member.",
		Example: `  etcd-dns run
  etcd-dns run --corefile /etc/etcd-dns/Corefile --name infra0`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c.Corefile, c.Name, c.Data, c.Version = p.corefile, p.name, p.data, version
			level := zapcore.InfoLevel
			if verbose {
				level = zapcore.DebugLevel
			}
			c.Log = node.NewLogger(level, isTerminal(os.Stderr))
			c.Reload = hangups(cmd.Context())
			return node.Run(cmd.Context(), c)
		},
	}
	p.flags(cmd)
	cmd.Flags().BoolVar(&c.Strict, "strict", false, "refuse a wrong Corefile at start instead of starting from the last good one")
	cmd.Flags().BoolVar(&c.DiskReplaced, "disk-replaced", false, "the disk of the etcd directory was replaced on purpose")
	cmd.Flags().BoolVar(&c.Moved, "moved", false, "the data came from another machine on purpose, and nothing runs on it there any more")
	cmd.Flags().BoolVarP(&verbose, "verbose", "v", false, "log more")
	return cmd
}

// hangups passes SIGHUP on until ctx ends.
func hangups(ctx context.Context) <-chan struct{} {
	signals, out := make(chan os.Signal, 1), make(chan struct{}, 1)
	signal.Notify(signals, syscall.SIGHUP)
	go func() { // ends with ctx, which is the program's
		defer signal.Stop(signals)
		for {
			select {
			case <-ctx.Done():
				return
			case <-signals:
				select {
				case out <- struct{}{}:
				default: // a reload is due already
				}
			}
		}
	}()
	return out
}
