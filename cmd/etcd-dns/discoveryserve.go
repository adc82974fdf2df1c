package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"os"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"github.com/etcd-dns/etcd-dns/discovery"
	"github.com/etcd-dns/etcd-dns/node"
)

// discoveryService is what discovery serve is told.
type discoveryService struct{ listen, data, url, cert, key string }

func newDiscoveryServe() *cobra.Command {
	var s discoveryService
	cmd := &cobra.Command{Use: "serve", Short: "Run a discovery service of its own", Args: noArgs,
		Long: "serve keeps tokens in an etcd of its own below --data, for a week each. All members of a cluster need the very same URL, so\n" +
			"give the service one name, and --url. Anyone who reaches it can make tokens; their number and size are bounded.",
		Example: "  etcd-dns discovery serve --listen 10.0.1.20:8087 --data /var/lib/etcd-dns/discovery --url http://discovery.example.com:8087",
		RunE:    func(cmd *cobra.Command, _ []string) error { return s.run(cmd) }}
	cmd.Flags().StringVar(&s.listen, "listen", "127.0.0.1:"+discoveryPort, "the `ADDRESS:PORT` to listen on")
	cmd.Flags().StringVar(&s.data, "data", "/var/lib/etcd-dns/discovery", "the `DIR` for the tokens")
	cmd.Flags().StringVar(&s.url, "url", "", "the `URL` that members reach the service by; default: what /new is asked by")
	cmd.Flags().StringVar(&s.cert, "cert", "", "serve TLS with the certificate chain in `FILE`")
	cmd.Flags().StringVar(&s.key, "key", "", "the `FILE` with the certificate's key")
	return cmd
}

func (s *discoveryService) run(cmd *cobra.Command) (err error) {
	if (s.cert == "") != (s.key == "") {
		return &usage{what: "--cert and --key belong together", hint: cmd.CommandPath() + " --help"}
	}
	if s.url != "" && !discovery.IsServiceURL(s.url) {
		return &usage{what: fmt.Sprintf("--url %q: expected http or https and a host, without a path", s.url), hint: "--url http://discovery.example.com:8087"}
	}
	var config *tls.Config
	if s.cert != "" {
		// Read at each handshake, so that a renewed certificate needs no restart.
		config = &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			c, err := tls.LoadX509KeyPair(s.cert, s.key)
			return &c, err
		}}
		if _, err := config.GetCertificate(nil); err != nil {
			return fmt.Errorf("--cert and --key: %w", err)
		}
	}
	l, err := net.Listen("tcp", s.listen)
	if err != nil {
		return err
	}
	defer func() { _ = l.Close() }()
	log := node.NewLogger(zap.InfoLevel, isTerminal(os.Stderr))
	// etcd logs its own end as errors; what makes it fail comes by Failed.
	store, err := discovery.OpenStore(cmd.Context(), s.data, log.WithOptions(zap.IncreaseLevel(zap.DPanicLevel)))
	if err != nil {
		return err
	}
	defer func() {
		if e := store.Close(); err == nil {
			err = e
		}
	}()
	say(cmd, "discovery service on %s, tokens in %s", l.Addr(), s.data)
	ctx, cancel := context.WithCancelCause(cmd.Context())
	defer cancel(nil)
	go func() {
		select {
		case err := <-store.Failed():
			cancel(fmt.Errorf("the store failed: %w", err))
		case <-ctx.Done():
		}
	}()
	if err := discovery.Serve(ctx, config, discovery.NewRegistry(store.Client), discovery.Options{URL: s.url, Log: log}, l); err != nil {
		return err
	}
	if cmd.Context().Err() == nil {
		return context.Cause(ctx)
	}
	return nil
}
