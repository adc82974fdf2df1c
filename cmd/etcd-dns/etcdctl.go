package main

import (
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"go.etcd.io/etcd/etcdctl/v3/ctlv3"
	"go.etcd.io/etcd/etcdutl/v3/etcdutl"

	"github.com/etcd-dns/etcd-dns/node"
)

func newEtcdctl() *cobra.Command {
	return &cobra.Command{
		Use: "etcdctl [--corefile FILE] [--name NAME] [--data DIR] ARGS…", Short: "Run etcdctl on this node's cluster",
		Long: "etcdctl is etcd's own. On a machine with a node's configuration it needs no flags for endpoints and\n" +
			"certificates; the flags and ETCDCTL_* variables that are given win.",
		Example: `  etcd-dns etcdctl member list -w table
  etcd-dns etcdctl put greeting hello
  etcd-dns etcdctl --corefile /etc/etcd-dns/Corefile endpoint health --cluster`,
		DisableFlagParsing: true,
		RunE: func(_ *cobra.Command, args []string) error {
			p, args := leadingPlace(args)
			if err := etcdctlEnv(p, args); err != nil {
				return err
			}
			// Older etcdctls want to be told; this one warns about the variable.
			if err := os.Unsetenv("ETCDCTL_API"); err != nil {
				return fmt.Errorf("unset ETCDCTL_API: %w", err)
			}
			os.Args = append([]string{"etcdctl"}, args...)
			return silent(ctlv3.Start())
		},
	}
}

func newEtcdutl() *cobra.Command {
	return &cobra.Command{
		Use: "etcdutl ARGS…", Short: "Run etcdutl on files of etcd",
		Long:               "etcdutl is etcd's own tool for data directories and snapshots. Stop the node before it touches live data.",
		Example:            "  etcd-dns etcdutl snapshot status backup.db -w table",
		DisableFlagParsing: true,
		RunE: func(_ *cobra.Command, args []string) error {
			utl := &cobra.Command{Use: "etcdutl", Short: "An administrative command line tool for etcd3."}
			utl.PersistentFlags().DurationVar(&etcdutl.FlockTimeout, "timeout", 10*time.Second, "time to wait to obtain a file lock on db file, 0 to block indefinitely")
			utl.PersistentFlags().StringVarP(&etcdutl.OutputFormat, "write-out", "w", "simple", "set the output format (fields, json, protobuf, simple, table)")
			utl.AddCommand(etcdutl.NewDefragCommand(), etcdutl.NewSnapshotCommand(), etcdutl.NewHashKVCommand(), etcdutl.NewVersionCommand(),
				etcdutl.NewCompletionCommand(), etcdutl.NewMigrateCommand())
			utl.SetArgs(args)
			return silent(utl.Execute())
		},
	}
}

// silent keeps the exit status of a tool that prints its own errors.
func silent(err error) error {
	if err != nil {
		return exitCode(1)
	}
	return nil
}

// leadingPlace takes our own flags from the front of the arguments; everything after them is etcdctl's.
func leadingPlace(args []string) (p place, rest []string) {
	p.corefile = os.Getenv("ETCD_DNS_COREFILE")
	fields := map[string]*string{"--corefile": &p.corefile, "--name": &p.name, "--data": &p.data}
	for len(args) > 0 {
		flag, value, joined := strings.Cut(args[0], "=")
		field, ours := fields[flag]
		switch {
		case !ours:
			return p, args
		case joined:
			*field, args = value, args[1:]
		case len(args) > 1:
			*field, args = args[1], args[2:]
		default:
			return p, args
		}
	}
	return p, args
}

// etcdctlEnv points etcdctl at this node's cluster, where neither a flag nor the environment does. Endpoints are
// addresses, so that the commands work where the host's resolver does not know the zone.
func etcdctlEnv(p place, args []string) error {
	explicit := p.corefile != ""
	if !explicit {
		p.corefile = node.DefaultCorefile
	}
	if _, err := os.Stat(p.corefile); err != nil && !explicit {
		return nil // not a node: plain etcdctl
	}
	o, err := p.options()
	if err != nil {
		return err
	}
	client, err := o.Client()
	if err != nil {
		return err
	}
	set := map[string]string{"endpoints": strings.Join(client.Endpoints, ",")}
	if !client.Plain {
		set["cacert"], set["cert"], set["key"] = client.CA, client.Cert, client.Key
	}
	for flag, value := range set {
		name := "ETCDCTL_" + strings.ToUpper(flag)
		if os.Getenv(name) != "" || given(args, flag) || flag == "endpoints" && (given(args, "discovery-srv") || given(args, "d")) {
			continue
		}
		if err := os.Setenv(name, value); err != nil {
			return fmt.Errorf("set %s: %w", name, err)
		}
	}
	return nil
}

// given reports whether a flag stands in args, in any of pflag's spellings.
func given(args []string, flag string) bool {
	for _, a := range args {
		name, _, _ := strings.Cut(strings.TrimLeft(a, "-"), "=")
		if strings.HasPrefix(a, "-") && name == flag {
			return true
		}
	}
	return false
}

// hostPort joins an address and a port as a URL carries them.
func hostPort(host string, port uint16) string {
	return net.JoinHostPort(host, strconv.Itoa(int(port)))
}
