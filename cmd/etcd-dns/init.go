package main

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/template"
	"time"

	"github.com/miekg/dns"
	"github.com/spf13/cobra"

	"github.com/etcd-dns/etcd-dns/certs"
	"github.com/etcd-dns/etcd-dns/internal/durable"
	"github.com/etcd-dns/etcd-dns/node"
)

// rack is what init makes a configuration from.
type rack struct {
	Domain, SrvName, Data string
	Nodes                 []rackNode
	Plain                 bool
	GenesisWithin         time.Duration
	// DNSPort is 0 for 53; Extra are lines after the etcdsrv block.
	DNSPort uint16
	Extra   []string
}

// rackNode is one --node flag. SrvName is its cluster's when the flag gives one.
type rackNode struct {
	SrvName, Name string
	Addrs         []string
}

// nodeFlag reads [SRV-NAME/]NAME[=ADDR[,ADDR]]; what it reads is checked when the Corefile is.
func nodeFlag(s string) rackNode {
	name, addrs, _ := strings.Cut(s, "=")
	n := rackNode{Name: name, Addrs: strings.FieldsFunc(addrs, func(c rune) bool { return c == ',' })}
	if srvName, rest, ok := strings.Cut(name, "/"); ok {
		n.SrvName, n.Name = srvName, rest
	}
	return n
}

// rackCluster is the part of a rack's Corefile that is about one cluster.
type rackCluster struct {
	SrvName string
	Nodes   []rackNode
}

// Clusters are the nodes by cluster: the default one first, the others as they first appear.
func (r rack) Clusters() []rackCluster {
	out := []rackCluster{{}}
	for _, n := range r.Nodes {
		n.SrvName = cmp.Or(n.SrvName, r.SrvName)
		i := slices.IndexFunc(out, func(c rackCluster) bool { return c.SrvName == n.SrvName })
		if i < 0 {
			i, out = len(out), append(out, rackCluster{SrvName: n.SrvName})
		}
		out[i].Nodes = append(out[i].Nodes, n)
	}
	return out
}

// inOrder are the nodes as the Corefile lists them.
func (r rack) inOrder() (out []rackNode) {
	for _, c := range r.Clusters() {
		out = append(out, c.Nodes...)
	}
	return out
}

// is reports whether a Corefile's node is this one and has nothing besides.
func (n rackNode) is(line node.NodeLine) bool {
	return line.Name == strings.ToLower(n.Name) && line.Cluster == strings.ToLower(n.SrvName) && len(line.Peers) == 0 && slices.EqualFunc(line.Addrs, n.Addrs, func(have netip.Addr, given string) bool {
		a, err := netip.ParseAddr(given)
		return err == nil && a.Unmap() == have
	})
}

// Line is the node's line in the Corefile.
func (n rackNode) Line() string {
	return strings.Join(append([]string{"node", n.Name}, n.Addrs...), " ")
}

var corefile = template.Must(template.New("Corefile").Parse(`# The same file on every node. See docs/corefile.md for every word.
{{.Key}} {
    etcdsrv {
        bundle cluster.bundle
        data   {{.Data}}
{{- if .Plain}}
        tls off
{{- end}}
{{- range .Clusters}}
{{- if .SrvName}}
        cluster {{.SrvName}} {
{{- range .Nodes}}
            {{.Line}}
{{- end}}
        }
{{- else}}
{{- range .Nodes}}
        {{.Line}}
{{- end}}
{{- end}}
{{- end}}
    }
{{- range .Extra}}
    {{.}}
{{- end}}
    errors
}
`))

// Key is the server block's.
func (r rack) Key() string {
	if r.DNSPort != 0 {
		return fmt.Sprintf("%s:%d", r.Domain, r.DNSPort)
	}
	return r.Domain
}

func newInit() *cobra.Command {
	r := rack{Data: node.DefaultData, Extra: []string{"prometheus localhost:9153"}}
	var nodes []string
	var out string
	cmd := &cobra.Command{
		Use: "init", Short: "Make the configuration and the secrets of a new rack", Args: noArgs,
		Long: "init writes DIR/Corefile and DIR/cluster.bundle, which go to every node, and DIR/offline/root.key, which stays\n" +
			"with you. It prints the records for the parent zone. It never overwrites a file.",
		Example: `  etcd-dns init --domain rack1.example.com --node infra0=10.0.1.10 --node infra1=10.0.1.11 --node infra2=10.0.1.12 --out rack1
  etcd-dns init --domain rack1.example.com --srv-name foo --node infra0=10.0.1.10,fd00::10 … --out rack1
  etcd-dns init --domain rack1.example.com --node infra0=10.0.1.10 … --node foo/infra3=10.0.1.13 … --out rack1   # two clusters`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			for _, n := range nodes {
				r.Nodes = append(r.Nodes, nodeFlag(n))
			}
			if r.Domain == "" || len(r.Nodes) == 0 || out == "" {
				return &usage{what: "init needs --domain, --node and --out", hint: cmd.Example[2:strings.Index(cmd.Example, "\n")]}
			}
			o, err := r.write(out, time.Now)
			if err != nil {
				return err
			}
			for _, w := range o.Warnings {
				say(cmd, "warning: %s", w)
			}
			return r.advise(cmd, o, out)
		},
	}
	f := cmd.Flags()
	f.StringVar(&r.Domain, "domain", "", "the `DOMAIN` that is delegated to the nodes")
	f.StringArrayVar(&nodes, "node", nil, "a node, `[SRV-NAME/]NAME[=ADDR[,ADDR]]`; repeat it for each")
	f.StringVar(&r.SrvName, "srv-name", "", "the srv-name `SUFFIX`, as in etcd's --discovery-srv-name, of nodes without one")
	f.StringVar(&out, "out", "", "the `DIR` to write to")
	f.BoolVar(&r.Plain, "plain", false, "make a cluster without TLS for etcd")
	f.DurationVar(&r.GenesisWithin, "genesis-within", 7*24*time.Hour, "how long from now the cluster may be born")
	return cmd
}

// advise prints the parent's records as the result, and what to do next.
func (r rack) advise(cmd *cobra.Command, o *node.Options, out string) error {
	fmt.Fprintf(cmd.OutOrStdout(), "; records for the parent zone of %s\n", strings.TrimSuffix(o.Domain, "."))
	for _, rr := range o.Delegation() {
		fmt.Fprintln(cmd.OutOrStdout(), rr)
	}
	say(cmd, "wrote %s and %s: copy both to %s on every node", filepath.Join(out, "Corefile"), filepath.Join(out, "cluster.bundle"),
		filepath.Dir(node.DefaultCorefile))
	say(cmd, "wrote %s: keep it offline, no node needs it", filepath.Join(out, "offline", "root.key"))
	if len(o.Delegation()) < 2 {
		say(cmd, "warning: fewer than two name servers have addresses; give at least two nodes theirs, or write ns lines")
	}
	for _, c := range r.Clusters() {
		switch n := len(c.Nodes); {
		case n == 0:
		case n == 2:
			say(cmd, "warning: two members cannot heal a lost disk by themselves; three can")
		case n%2 == 0:
			say(cmd, "warning: %d members survive the loss of no more nodes than %d do", n, n-1)
		}
	}
	say(cmd, "then run on each node: etcd-dns run")
	return nil
}

// write makes the three files. Everything is checked before the first one is written.
func (r rack) write(dir string, now func() time.Time) (*node.Options, error) {
	if labels, ok := dns.IsDomainName(r.Domain); !ok || labels == 0 || strings.ContainsAny(r.Domain, " :/{}") {
		return nil, &usage{what: fmt.Sprintf("--domain %q is not a domain name", r.Domain), hint: "name the delegated subdomain, such as rack1.example.com"}
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("find %s: %w", dir, err)
	}
	o, text, err := r.render(dir)
	if err != nil {
		return nil, err
	}
	for _, f := range []string{"Corefile", "cluster.bundle", "offline/root.key"} {
		if _, err := os.Lstat(filepath.Join(dir, f)); err == nil {
			return nil, &usage{what: filepath.Join(dir, f) + " exists, and init never overwrites", hint: "choose another --out, or move it away"}
		}
	}
	names := map[string][]string{}
	for _, n := range o.Nodes {
		names[n.Cluster] = append(names[n.Cluster], n.Name)
	}
	bundle, key, err := certs.NewBundle(certs.InitOptions{Domain: o.Domain, Names: names, Plain: r.Plain, GenesisWithin: r.GenesisWithin, Now: now})
	if err != nil {
		return nil, err
	}
	return o, r.save(dir, text, bundle, key)
}

// render writes the Corefile's text and reads it back, so that init accepts what run accepts.
func (r rack) render(dir string) (*node.Options, []byte, error) {
	var text strings.Builder
	if err := corefile.Execute(&text, r); err != nil {
		return nil, nil, fmt.Errorf("write the Corefile: %w", err)
	}
	o, err := node.ParseCorefile(filepath.Join(dir, "Corefile"), []byte(text.String()))
	var bad *node.ConfigError
	if errors.As(err, &bad) {
		return nil, nil, &usage{what: bad.What, hint: bad.Fix} // its line is of a file that is never written
	}
	if err == nil && (o.Domain != dns.CanonicalName(r.Domain) || !slices.EqualFunc(o.Nodes, r.inOrder(), func(have node.NodeLine, given rackNode) bool { return given.is(have) })) {
		return nil, nil, &usage{what: "a flag is more than one word of the Corefile", hint: "write --domain DOMAIN, --srv-name NAME, and --node [SRV-NAME/]NAME=ADDRESS,ADDRESS"}
	}
	return o, []byte(text.String()), err
}

func (r rack) save(dir string, text []byte, bundle *certs.Bundle, key certs.RootKey) error {
	secret, err := bundle.Marshal()
	if err != nil {
		return fmt.Errorf("encode the bundle: %w", err)
	}
	offline := filepath.Join(dir, "offline")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("make the directory: %w", err)
	}
	if err := os.MkdirAll(offline, 0o700); err != nil {
		return fmt.Errorf("make the directory: %w", err)
	}
	for _, f := range []struct {
		path string
		data []byte
		perm os.FileMode
	}{{filepath.Join(offline, "root.key"), key, 0o600}, {filepath.Join(dir, "cluster.bundle"), secret, 0o600}, {filepath.Join(dir, "Corefile"), text, 0o644}} {
		if err := durable.Create(f.path, f.data, f.perm); err != nil {
			return fmt.Errorf("write %s: %w", f.path, err)
		}
	}
	return nil
}
