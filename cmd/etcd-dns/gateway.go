package main

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/spf13/cobra"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"golang.org/x/sync/errgroup"

	"github.com/etcd-dns/etcd-dns/gateway"
	"github.com/etcd-dns/etcd-dns/node"
)

// proxyListen is where gateway and grpc-proxy listen, as etcd's do.
const proxyListen = "127.0.0.1:23790"

func newGateway() *cobra.Command {
	cmd := &cobra.Command{Use: "gateway", Short: "Carry TCP connections to the cluster's members", Args: noArgs,
		Example: "  etcd-dns gateway start --discovery-srv rack1.example.com",
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	cmd.AddCommand(newGatewayStart())
	return cmd
}

// gatewayFlags are those of `gateway start`.
type gatewayFlags struct {
	srvFlags
	listen, ca, metrics string
	retry, drain        time.Duration
	max                 int
}

func newGatewayStart() *cobra.Command {
	var f gatewayFlags
	cmd := &cobra.Command{
		Use: "start", Short: "Start the gateway", Args: noArgs,
		Long: "gateway start is etcd's, and follows the SRV records as they change: it spreads connections over the members, leaves\n" +
			"out those that are down, and moves clients away from those that left. TLS is between client and member. On a node it\n" +
			"needs no flags.",
		Example: `  etcd-dns gateway start --discovery-srv rack1.example.com
  etcd-dns gateway start --endpoints infra0.rack1.example.com:2379,infra1.rack1.example.com:2379
  etcdctl --endpoints https://127.0.0.1:23790 --cacert ca.crt --cert alice.crt --key alice.key endpoint health`,
		RunE: func(cmd *cobra.Command, _ []string) error { return f.run(cmd.Context()) },
	}
	f.flags(cmd)
	cmd.Flags().StringVar(&f.listen, "listen-addr", proxyListen, "the `ADDRESS:PORT` for clients")
	cmd.Flags().StringVar(&f.ca, "trusted-ca-file", "", "take only members whose certificate for their host a CA of this `FILE` signed")
	cmd.Flags().DurationVar(&f.retry, "retry-delay", time.Second, "how long until a member that did not answer is tried again")
	cmd.Flags().DurationVar(&f.drain, "drain", 30*time.Second, "how long connections to a member that left may stay")
	cmd.Flags().IntVar(&f.max, "max-connections", 4096, "how many connections there may be at one time")
	cmd.Flags().StringVar(&f.metrics, "metrics-addr", "", "serve /metrics at this `ADDRESS:PORT`")
	return cmd
}

func (f *gatewayFlags) run(ctx context.Context) error {
	for flag, d := range map[string]time.Duration{"retry-delay": f.retry, "drain": f.drain} {
		if d <= 0 {
			return &usage{what: fmt.Sprintf("--%s %s is not positive", flag, d), hint: "--" + flag + " 30s"}
		}
	}
	if f.max <= 0 {
		return &usage{what: fmt.Sprintf("--max-connections %d is not positive", f.max), hint: "--max-connections 4096"}
	}
	log := f.log()
	follow, _, err := f.follower(ctx, log)
	if err != nil {
		return err
	}
	l, err := listen(ctx, "listen-addr", f.listen)
	if err != nil {
		return err
	}
	p := gateway.NewProxy(log, follow, l)
	p.RetryDelay, p.Drain, p.MaxConnections, p.Ready = f.retry, f.drain, f.max, ready(log, l)
	if f.ca != "" {
		if p.Roots, err = roots(f.ca); err != nil {
			return errors.Join(err, l.Close())
		}
	}
	log.Info("listening", zap.String("address", l.Addr().String()))
	g, ctx := errgroup.WithContext(ctx)
	if f.metrics != "" {
		m, err := listen(ctx, "metrics-addr", f.metrics)
		if err != nil {
			return errors.Join(err, l.Close())
		}
		g.Go(func() error { return p.ServeMetrics(ctx, m) })
	}
	g.Go(func() error { return follow.Run(ctx) })
	g.Go(func() error { return p.Run(ctx) })
	return g.Wait()
}

// srvFlags are how gateway and grpc-proxy find the cluster.
type srvFlags struct {
	place
	domain, srvName    string
	insecure, verbose  bool
	endpoints, servers []string
}

func (d *srvFlags) flags(cmd *cobra.Command) {
	d.place.flags(cmd)
	d.corefile = cmp.Or(os.Getenv("ETCD_DNS_COREFILE"), d.corefile)
	fl := cmd.Flags()
	fl.StringVar(&d.domain, "discovery-srv", os.Getenv("ETCD_DNS_DOMAIN"), "the `DOMAIN` whose SRV records name the members")
	fl.StringVar(&d.srvName, "discovery-srv-name", "", "the `NAME` of the cluster, for a domain with several")
	fl.BoolVar(&d.insecure, "insecure-discovery", false, "take _etcd-client records too, which are for members without TLS")
	fl.StringSliceVar(&d.endpoints, "endpoints", nil, "members as `HOST:PORT,…`; with --discovery-srv only until DNS answers")
	fl.StringSliceVar(&d.servers, "resolver", strings.Fields(os.Getenv("ETCD_DNS_SERVER")), "name servers to ask as `ADDRESS[:PORT],…`, instead of those of /etc/resolv.conf")
	fl.BoolVarP(&d.verbose, "verbose", "v", false, "log more")
}

func (d *srvFlags) log() *zap.Logger {
	level := zapcore.InfoLevel
	if d.verbose {
		level = zapcore.DebugLevel
	}
	return node.NewLogger(level, isTerminal(os.Stderr))
}

// follower makes the follower that the flags ask for. Without any, the cluster is that of the Corefile, asked for at its nodes, and
// access is what that node has for it.
func (d *srvFlags) follower(ctx context.Context, log *zap.Logger) (f *gateway.Follower, access *node.ClientAccess, err error) {
	if d.domain == "" && len(d.endpoints) == 0 {
		if access, err = d.configured(); err != nil {
			return nil, nil, err
		}
	}
	var r gateway.Resolver
	for _, s := range d.servers {
		at, err := resolverAddr(s)
		if err != nil {
			return nil, nil, err
		}
		r.Servers = append(r.Servers, at)
	}
	var given []gateway.Endpoint
	for _, text := range d.endpoints {
		e, err := gateway.ParseEndpoint(text)
		if err != nil {
			return nil, nil, &usage{what: "--endpoints: " + err.Error(), hint: hintOf(err)}
		}
		given = append(given, e)
	}
	if d.domain == "" {
		return gateway.NewFollower(log, nil, r.Given(given)), access, nil
	}
	if len(given) > 0 { // with their addresses, so that they serve at once
		if a, err := r.Given(given).Lookup(ctx); err == nil {
			given = a.Endpoints
		}
	}
	return gateway.NewFollower(log, given, r.Services(d.domain, d.srvName, d.insecure)...), access, nil
}

// configured takes what the flags leave open from the Corefile of this machine's node.
func (d *srvFlags) configured() (*node.ClientAccess, error) {
	if _, err := os.Stat(d.corefile); err != nil && d.corefile == node.DefaultCorefile {
		return nil, &usage{what: "neither --discovery-srv nor --endpoints is given, and this machine has no " + d.corefile,
			hint: "--discovery-srv rack1.example.com, or --endpoints 127.0.0.1:2379"}
	}
	o, err := d.options()
	if err != nil {
		return nil, err
	}
	a, err := o.Client()
	if err != nil {
		return nil, err
	}
	d.domain, d.srvName, d.insecure = a.Domain, cmp.Or(d.srvName, a.SrvName), d.insecure || a.Plain
	if len(d.servers) == 0 {
		d.servers = a.NameServers
	}
	return &a, nil
}

// resolverAddr completes a name server with port 53.
func resolverAddr(text string) (string, error) {
	if a, err := netip.ParseAddr(text); err == nil {
		return netip.AddrPortFrom(a, 53).String(), nil
	}
	a, err := netip.ParseAddrPort(text)
	if err != nil {
		return "", &usage{what: fmt.Sprintf("--resolver %q is not ADDRESS or ADDRESS:PORT", text), hint: "--resolver 10.0.1.10,10.0.1.11:53"}
	}
	return a.String(), nil
}

// listen opens a socket that a flag names, as ADDRESS:PORT or http://ADDRESS:PORT.
func listen(ctx context.Context, flag, address string) (net.Listener, error) {
	host, port, err := net.SplitHostPort(strings.TrimSuffix(strings.TrimPrefix(address, "http://"), "/"))
	if err != nil {
		return nil, &usage{what: fmt.Sprintf("--%s %q is not ADDRESS:PORT", flag, address), hint: "--" + flag + " " + proxyListen}
	}
	l, err := gateway.Listen(ctx, net.JoinHostPort(host, port))
	if err != nil {
		return nil, &usageErr{what: fmt.Sprintf("--%s: %v", flag, err), hint: "ss -ltnp sport = :" + port}
	}
	return l, nil
}

// roots reads CA certificates.
func roots(file string) (*x509.CertPool, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read the CA: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, &usageErr{what: fmt.Sprintf("the CA %s holds no certificate in PEM", file), hint: "openssl x509 -in " + file + " -noout -subject"}
	}
	return pool, nil
}

// ready tells the log and systemd (sd_notify(3)) that clients are served.
func ready(log *zap.Logger, l net.Listener) func() {
	return func() {
		log.Info("ready", zap.String("address", l.Addr().String()))
		if _, err := daemon.SdNotify(false, daemon.SdNotifyReady); err != nil {
			log.Warn("systemd was not notified", zap.Error(err))
		}
	}
}
