package main

import (
	"github.com/spf13/cobra"

	"github.com/etcd-dns/etcd-dns/stock"
)

func newEtcd() *cobra.Command {
	return &cobra.Command{
		Use: "etcd ARGS…", Short: "Run stock etcd, with --discovery and with checks in front",
		Long: "etcd is stock etcd with every flag, ETCD_* variable and configuration file of its own, and with --discovery, --discovery-proxy\n" +
			"and their variables, which etcd 3.7 no longer has. Before it starts, what would fail or mislead is explained; --no-checks leaves\n" +
			"that out. It has nothing to do with a node's configuration.",
		Example: `  etcd-dns etcd --name infra0 --initial-advertise-peer-urls http://10.0.1.10:2380 --discovery http://discovery.example.com:8087/TOKEN …
  etcd-dns etcd --config-file /etc/etcd/etcd.conf.yml
  etcd-dns etcd gateway start --discovery-srv example.com`,
		DisableFlagParsing: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			return stock.Main(cmd.Context(), args, func(format string, args ...any) { say(cmd, format, args...) })
		},
	}
}
