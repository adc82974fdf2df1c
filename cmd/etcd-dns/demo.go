package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/etcd-dns/etcd-dns/certs"
	"github.com/etcd-dns/etcd-dns/node"
)

// Limits of a demo: more members than seven only make etcd slower, and the whole thing has to fit a laptop.
const (
	demoMaxNodes = 7
	demoDomain   = "demo.example.com"
	demoDNSPort  = 5300
	demoTimeout  = 2 * time.Minute
	demoGrace    = 15 * time.Second // a node stops within 10 s
)

// demo is one run of the demo.
type demo struct {
	cmd     *cobra.Command
	nodes   int
	dnsPort uint16
	dir     string
	keep    bool
	plain   bool

	network network
	rack    rack
	options *node.Options
	running []*demoNode
}

func newDemo() *cobra.Command {
	d := &demo{}
	cmd := &cobra.Command{
		Use: "demo [-- CMD…]", Short: "Run a whole cluster on this machine's loopback addresses",
		Long: "demo boots a TLS cluster on loopback addresses, with its own zone and certificates, without root and without\n" +
			"anything installed. It stops and cleans up on Ctrl-C. With CMD it runs that once the cluster is healthy, then\n" +
			"tears down and exits with its status. CMD finds ETCD_DNS_DOMAIN, ETCD_DNS_SERVER, ETCD_DNS_DIR and ETCDCTL_*.",
		Example: `  etcd-dns demo
  etcd-dns demo --nodes 5 --dir /tmp/rack
  etcd-dns demo -- etcd-dns etcdctl member list -w table`,
		RunE: func(cmd *cobra.Command, args []string) error {
			d.cmd = cmd
			if len(args) > 0 && cmd.ArgsLenAtDash() != 0 {
				return &usage{what: fmt.Sprintf("demo takes no argument but got %q", args[0]), hint: "etcd-dns demo -- " + strings.Join(args, " ")}
			}
			if d.nodes < 1 || d.nodes > demoMaxNodes {
				return &usage{what: fmt.Sprintf("--nodes %d is not between 1 and %d", d.nodes, demoMaxNodes), hint: "etcd-dns demo --nodes 3"}
			}
			return d.run(cmd.Context(), args)
		},
	}
	cmd.Flags().IntVar(&d.nodes, "nodes", 3, "how many nodes")
	cmd.Flags().StringVar(&d.dir, "dir", "", "the `DIR` to keep the cluster in; default: a temporary one that is removed")
	cmd.Flags().Uint16Var(&d.dnsPort, "dns-port", demoDNSPort, "the `PORT` of the name servers")
	cmd.Flags().BoolVar(&d.plain, "plain", false, "run etcd without TLS")
	return cmd
}

// run sets up, boots, shows or runs the command, and tears down whatever happened.
func (d *demo) run(ctx context.Context, args []string) (err error) {
	if len(args) > 0 {
		if _, err := exec.LookPath(args[0]); err != nil {
			return &usageErr{what: fmt.Sprintf("run %s: %v", args[0], err), hint: "name a program that is on the PATH: etcd-dns demo -- sh -c '…'"}
		}
	}
	// A terminal that closes ends the demo in order, too.
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGHUP)
	defer stop()
	if err := d.makeDir(); err != nil {
		return err
	}
	defer func() {
		if e := d.clean(); err == nil {
			err = e
		}
	}()
	lock, err := lockDir(d.dir)
	if err != nil {
		return err
	}
	defer lock.Close()
	if d.network, err = pickNetwork(earlierNetwork(d.dir), d.nodes, d.dnsPort); err != nil {
		return err
	}
	defer d.network.lock.Close()
	if d.network.note != "" {
		say(d.cmd, "%s", d.network.note)
	}
	if err := d.configure(); err != nil {
		return err
	}
	defer d.stop()
	start := time.Now()
	if err := d.boot(ctx); err != nil {
		return err
	}
	say(d.cmd, "%d members are healthy after %.1f s", d.nodes, time.Since(start).Seconds())
	if len(args) > 0 {
		return d.command(ctx, args)
	}
	d.advise(ctx)
	return d.watch(ctx)
}

func (d *demo) makeDir() (err error) {
	if d.dir == "" {
		d.dir, err = os.MkdirTemp("", "etcd-dns-demo-")
	} else {
		d.keep = true
		if d.dir, err = filepath.Abs(d.dir); err == nil {
			err = os.MkdirAll(d.dir, 0o755)
		}
		if err == nil && foreign(d.dir) {
			return &usageErr{what: d.dir + " holds other files than a demo's", hint: "choose an empty or a new directory: etcd-dns demo --dir " + d.dir + "/demo"}
		}
	}
	if err != nil {
		return fmt.Errorf("make the demo's directory: %w", err)
	}
	return nil
}

// foreign reports whether a directory holds files, and no demo.
func foreign(dir string) bool {
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) == 0 {
		return false
	}
	_, err = os.Stat(filepath.Join(dir, "Corefile"))
	_, locked := os.Stat(filepath.Join(dir, ".lock"))
	return err != nil && locked != nil
}

// clean removes a temporary directory; one that was asked for by name is the user's to keep.
func (d *demo) clean() error {
	if d.keep {
		return nil
	}
	if err := os.RemoveAll(d.dir); err != nil {
		return fmt.Errorf("remove the demo's directory: %w", err)
	}
	return nil
}

// configure makes the rack's files, or takes those of an earlier run in the same directory.
func (d *demo) configure() (err error) {
	d.rack = rack{Domain: d.network.domain(), Data: "data", DNSPort: d.dnsPort, Plain: d.plain, GenesisWithin: 7 * 24 * time.Hour,
		Extra: []string{"prometheus {$ETCD_DNS_DEMO_ADDRESS}:9153"}}
	for i := range d.nodes {
		d.rack.Nodes = append(d.rack.Nodes, rackNode{Name: fmt.Sprintf("infra%d", i), Addrs: []string{d.network.addr(i).String()}})
	}
	path := filepath.Join(d.dir, "Corefile")
	if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
		d.options, err = d.rack.write(d.dir, time.Now)
		if err != nil {
			return err
		}
		// Nobody keeps a demo's root key, and no node needs it.
		if err := os.RemoveAll(filepath.Join(d.dir, "offline")); err != nil {
			return fmt.Errorf("remove the demo's root key: %w", err)
		}
	} else if err := d.reuse(path); err != nil {
		return err
	}
	client := filepath.Join(d.dir, "client")
	if _, err := os.Stat(client); err == nil || d.plain {
		return nil
	}
	b, err := certs.LoadBundle(d.options.Bundle)
	if err != nil {
		return err
	}
	_, err = b.WriteClient(client, "demo", certs.ClientOptions{})
	return err
}

// reuse accepts the Corefile of an earlier run only if this run would write the same one.
func (d *demo) reuse(path string) error {
	have, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("read the demo's Corefile: %w", err)
	}
	o, want, err := d.rack.render(d.dir)
	if err != nil {
		return err
	}
	if string(have) != string(want) {
		return &usage{what: d.dir + " holds a demo with other nodes, addresses or ports", hint: "choose another --dir, or repeat the flags of its first run"}
	}
	d.options = o
	return nil
}

// command runs CMD in the cluster's environment and passes its exit status on.
func (d *demo) command(ctx context.Context, args []string) error {
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), d.env()...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = demoGrace
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &exit):
		if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() {
			return exitCode(128 + int(status.Signal())) // as a shell does
		}
		return exitCode(exit.ExitCode())
	}
	return fmt.Errorf("run %s: %w", args[0], err)
}

// env is what CMD and the reader's own etcdctl need.
func (d *demo) env() []string {
	var endpoints []string
	for i := range d.nodes {
		scheme := "https"
		if d.plain {
			scheme = "http"
		}
		endpoints = append(endpoints, scheme+"://"+hostPort(d.network.addr(i).String(), node.DefaultClientPort))
	}
	out := []string{"ETCD_DNS_DOMAIN=" + d.network.domain(), "ETCD_DNS_SERVER=" + hostPort(d.network.addr(0).String(), d.dnsPort), "ETCD_DNS_DIR=" + d.dir,
		"ETCDCTL_API=3", "ETCDCTL_ENDPOINTS=" + strings.Join(endpoints, ",")}
	if !d.plain {
		client := filepath.Join(d.dir, "client")
		out = append(out, "ETCDCTL_CACERT="+filepath.Join(client, "ca.crt"), "ETCDCTL_CERT="+filepath.Join(client, "demo.crt"),
			"ETCDCTL_KEY="+filepath.Join(client, "demo.key"))
	}
	return out
}

func (d *demo) advise(ctx context.Context) {
	out := d.cmd.OutOrStdout()
	server := d.network.addr(0)
	ssl := "-ssl"
	if d.plain {
		ssl = ""
	}
	fmt.Fprintf(out, "\nThe cluster %s runs. In another terminal:\n\n", d.network.domain())
	for _, e := range d.env() {
		fmt.Fprintf(out, "  export %s\n", e)
	}
	self, err := os.Executable()
	if err != nil || strings.Contains(self, "go-build") {
		self = "go run ./cmd/etcd-dns"
	}
	fmt.Fprintf(out, `
  %[1]s etcdctl member list -w table
  %[1]s etcdctl put greeting hello
  %[1]s status --corefile %[2]s --name infra0 --data %[3]s
  dig @%[4]s -p %[5]d SRV _etcd-client%[6]s._tcp.%[7]s
  kill -9 %[9]d   # the member of infra0 dies; watch it come back

Logs are in %[8]s. Ctrl-C stops everything.
`, self, d.options.Corefile, d.dataDir("infra0"), server, d.dnsPort, ssl, d.network.domain(), filepath.Join(d.dir, "*.log"), d.memberPID(ctx))
}

// memberPID is the process of infra0's member; 0 if it died just now.
func (d *demo) memberPID(ctx context.Context) int {
	s, err := node.Fetch(ctx, d.running[0].options)
	if err != nil {
		return 0
	}
	for _, m := range s.Members {
		if m.Name == d.running[0].name {
			return m.PID
		}
	}
	return 0
}

func (d *demo) dataDir(name string) string { return filepath.Join(d.dir, name) }
