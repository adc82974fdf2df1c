package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"go.etcd.io/etcd/client/pkg/v3/transport"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/etcd-dns/etcd-dns/gateway/rpcproxy"
	"github.com/etcd-dns/etcd-dns/node"
)

// maxSend is etcd's limit for a request, 1.5 MiB (embed.DefaultMaxRequestBytes).
const maxSend = 3 << 19

func newGRPCProxy() *cobra.Command {
	cmd := &cobra.Command{Use: "grpc-proxy", Short: "Serve etcd's API in front of the cluster", Args: noArgs,
		Example: "  etcd-dns grpc-proxy start --discovery-srv rack1.example.com --cacert ca.crt --cert proxy.crt --key proxy.key",
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	cmd.AddCommand(newGRPCProxyStart())
	return cmd
}

// grpcProxyFlags are those of `grpc-proxy start`.
type grpcProxyFlags struct {
	srvFlags
	rpcproxy.Config
	listen, metrics    string
	member, client     transport.TLSInfo // towards members, and towards clients
	insecureSkipVerify bool
}

func newGRPCProxyStart() *cobra.Command {
	var f grpcProxyFlags
	cmd := &cobra.Command{
		Use: "start", Short: "Start the gRPC proxy", Args: noArgs,
		Long: "grpc-proxy start is etcd's, and follows the SRV records as they change: it merges the watches and leases of many\n" +
			"clients, and caches their reads. It speaks to the members with a certificate without a common name\n" +
			"(etcd-dns cert client NAME --proxy). On a node it needs no flags.",
		Example: `  etcd-dns grpc-proxy start --discovery-srv rack1.example.com --cacert ca.crt --cert proxy.crt --key proxy.key
  etcdctl --endpoints 127.0.0.1:23790 watch --prefix jobs/`,
		RunE: func(cmd *cobra.Command, _ []string) error { return f.run(cmd.Context()) },
	}
	f.srvFlags.flags(cmd)
	f.proxyFlags(cmd)
	f.tlsFlags(cmd)
	return cmd
}

func (f *grpcProxyFlags) proxyFlags(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.StringVar(&f.listen, "listen-addr", proxyListen, "the `ADDRESS:PORT` for clients")
	fl.StringVar(&f.metrics, "metrics-addr", "", "serve /metrics, /health, /proxy/metrics and /proxy/health at this `ADDRESS:PORT` too, without TLS")
	fl.StringVar(&f.AdvertiseURL, "advertise-client-url", "", "the `URL` that member lists name; default: --listen-addr")
	fl.StringVar(&f.ResolverPrefix, "resolver-prefix", "", "register the proxy below this `KEY`, shared with other proxies")
	fl.IntVar(&f.ResolverTTL, "resolver-ttl", 0, "how many `SECONDS` a registration outlives its proxy")
	fl.StringVar(&f.Namespace, "namespace", "", "the `PREFIX` to put before every key")
	fl.StringVar(&f.LeasingPrefix, "experimental-leasing-prefix", "", "the `PREFIX` of leasing's keys, for linearizable reads from the cache")
	fl.BoolVar(&f.Ordering, "experimental-serializable-ordering", false, "let no client read an older revision than before")
	fl.IntVar(&f.MaxSend, "max-send-bytes", maxSend, "the largest request, in `BYTES`")
	fl.IntVar(&f.MaxReceive, "max-recv-bytes", math.MaxInt32, "the largest response, in `BYTES`")
	fl.Uint32Var(&f.MaxStreams, "max-concurrent-streams", math.MaxUint32, "how many calls a connection of a client may have at one time")
	fl.DurationVar(&f.DialKeepAlive, "dial-keepalive-time", 10*time.Second, "how often a silent member is probed")
	fl.DurationVar(&f.DialKeepAliveTimeout, "dial-keepalive-timeout", 3*time.Second, "how long a member may take to answer a probe")
	fl.DurationVar(&f.KeepAliveMin, "grpc-keepalive-min-time", 5*time.Second, "how often clients may probe the proxy at most")
	fl.DurationVar(&f.KeepAlive, "grpc-keepalive-interval", 2*time.Hour, "how often a silent client is probed")
	fl.DurationVar(&f.KeepAliveTimeout, "grpc-keepalive-timeout", 20*time.Second, "how long a client may take to answer a probe")
}

func (f *grpcProxyFlags) tlsFlags(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.StringVar(&f.member.CertFile, "cert", "", "the certificate `FILE` for members, without a common name")
	fl.StringVar(&f.member.KeyFile, "key", "", "its key `FILE`")
	fl.StringVar(&f.member.TrustedCAFile, "cacert", "", "the `FILE` with the CA of the members")
	fl.BoolVar(&f.insecureSkipVerify, "insecure-skip-tls-verify", false, "take any certificate of a member's; for tests only")
	fl.StringVar(&f.client.CertFile, "cert-file", "", "the certificate `FILE` for clients; none serves them without TLS")
	fl.StringVar(&f.client.KeyFile, "key-file", "", "its key `FILE`")
	fl.StringVar(&f.client.TrustedCAFile, "trusted-ca-file", "", "the `FILE` with the CA of the clients, who then need a certificate")
	fl.StringVar(&f.client.CRLFile, "client-crl-file", "", "the `FILE` with the clients' revoked certificates")
}

func (f *grpcProxyFlags) run(ctx context.Context) error {
	if err := f.check(); err != nil {
		return err
	}
	log := f.log()
	follow, access, err := f.follower(ctx, log)
	if err != nil {
		return err
	}
	if access != nil && !access.Plain {
		f.fromNode(access)
	}
	f.Follow, f.AdvertiseURL = follow, cmp.Or(f.AdvertiseURL, f.listen)
	if err := f.certificates(log); err != nil {
		return err
	}
	if f.Listen, err = listen(ctx, "listen-addr", f.listen); err != nil {
		return err
	}
	if f.metrics != "" {
		if f.Metrics, err = listen(ctx, "metrics-addr", f.metrics); err != nil {
			return errors.Join(err, f.Listen.Close())
		}
	}
	log.Info("listening", zap.String("address", f.Listen.Addr().String()), zap.Bool("tls", f.Server != nil))
	f.Ready = ready(log, f.Listen)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return follow.Run(ctx) })
	g.Go(func() error { return rpcproxy.Run(ctx, log, f.Config) })
	return g.Wait()
}

// check refuses what does not fit together.
func (f *grpcProxyFlags) check() error {
	pair := func(a, av, b, bv string) error {
		if (av == "") != (bv == "") {
			return &usage{what: fmt.Sprintf("--%s %q and --%s %q: want both or neither", a, av, b, bv), hint: "etcd-dns grpc-proxy start --help"}
		}
		return nil
	}
	switch {
	case (f.ResolverPrefix != "") != (f.ResolverTTL > 0):
		return &usage{what: fmt.Sprintf("--resolver-prefix %q and --resolver-ttl %d: want both, with a positive TTL, or neither", f.ResolverPrefix, f.ResolverTTL),
			hint: "--resolver-prefix ___grpc_proxy_endpoint --resolver-ttl 60"}
	case f.DialKeepAlive < 5*time.Second:
		return &usage{what: fmt.Sprintf("--dial-keepalive-time %s: members end connections that are probed more often than every 5s", f.DialKeepAlive), hint: "--dial-keepalive-time 10s"}
	case f.client.CertFile == "" && f.client.TrustedCAFile != "":
		return &usage{what: "--trusted-ca-file is for clients with TLS, and wants --cert-file and --key-file", hint: "--cacert is for the members' CA"}
	}
	return errors.Join(pair("cert", f.member.CertFile, "key", f.member.KeyFile), pair("cert-file", f.client.CertFile, "key-file", f.client.KeyFile))
}

// fromNode takes the certificates that are not given from the node's own. Towards members that is the peer certificate, the only one
// without a common name.
func (f *grpcProxyFlags) fromNode(a *node.ClientAccess) {
	dir := filepath.Dir(a.CA)
	if f.member.CertFile == "" && f.member.TrustedCAFile == "" {
		f.member.TrustedCAFile, f.member.CertFile, f.member.KeyFile = a.CA, filepath.Join(dir, "peer.crt"), filepath.Join(dir, "peer.key")
	}
	if f.client.CertFile == "" {
		f.client.TrustedCAFile, f.client.CertFile, f.client.KeyFile = a.CA, filepath.Join(dir, "server.crt"), filepath.Join(dir, "server.key")
	}
}

// certificates reads both sides' files. etcd reads the certificates again for each handshake, so that renewals need no restart.
func (f *grpcProxyFlags) certificates(log *zap.Logger) error {
	switch {
	case f.member.TrustedCAFile != "" || f.member.CertFile != "":
		f.member.EmptyCN = f.member.CertFile != ""
		c, err := f.member.ClientConfig()
		if err != nil {
			return &usageErr{what: fmt.Sprintf("--cert, --key, --cacert: %v", err), hint: "etcd-dns cert client proxy --proxy writes ca.crt, proxy.crt and proxy.key"}
		}
		f.Client = c
	case f.insecureSkipVerify:
		f.Client = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	if f.insecureSkipVerify {
		f.Client.InsecureSkipVerify = true
		log.Warn("the members' certificates are not verified", zap.String("hint", "--cacert instead of --insecure-skip-tls-verify"))
	}
	if f.client.CertFile == "" {
		return nil
	}
	f.client.ClientCertAuth = f.client.TrustedCAFile != ""
	f.client.HandshakeFailure = func(c *tls.Conn, err error) {
		if !errors.Is(err, io.EOF) { // a check of somebody's
			log.Warn("a client was rejected", zap.String("client", c.RemoteAddr().String()), zap.Error(err))
		}
	}
	if _, err := f.client.ServerConfig(); err != nil {
		return &usageErr{what: fmt.Sprintf("--cert-file, --key-file, --trusted-ca-file: %v", err), hint: "ls -l " + f.client.CertFile + " " + f.client.KeyFile}
	}
	f.Server = &f.client
	return nil
}
