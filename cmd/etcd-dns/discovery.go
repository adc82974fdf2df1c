package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/etcd-dns/etcd-dns/discovery"
)

var discoveryPort = strconv.Itoa(discovery.Port)

func newDiscovery() *cobra.Command {
	cmd := &cobra.Command{Use: "discovery", Short: "Let the members of other etcd clusters find each other by a token",
		Long: "discovery stands in for discovery.etcd.io, which is gone. A token is for the birth of one cluster: each of its members starts\n" +
			"with --discovery URL, registers, and waits for the others.",
		Example: `  etcd-dns discovery serve --listen 10.0.1.20:8087 --url http://discovery.example.com:8087
  etcd-dns discovery new --size 3 --url http://discovery.example.com:8087
  etcd-dns etcd --name infra0 --discovery http://discovery.example.com:8087/TOKEN …`,
		Args: noArgs, RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	cmd.AddCommand(newDiscoveryNew(), newDiscoveryServe())
	return cmd
}

func newDiscoveryNew() *cobra.Command {
	var size int
	var at string
	cmd := &cobra.Command{Use: "new", Short: "Make a token, and print its URL", Args: noArgs, Example: "  etcd-dns discovery new --size 3",
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel := context.WithTimeout(cmd.Context(), 10*time.Second)
			defer cancel()
			u, err := url.Parse(at)
			if err != nil || u.Scheme == "" || u.Host == "" {
				return &usage{what: fmt.Sprintf("--url %q is no URL", at), hint: "etcd-dns discovery new --url http://discovery.example.com:8087"}
			}
			u = u.JoinPath("new")
			u.RawQuery = "size=" + strconv.Itoa(size)
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
			if err != nil {
				return err
			}
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				return fmt.Errorf("make a token: %w", err)
			}
			defer func() { _ = resp.Body.Close() }()
			text, err := io.ReadAll(io.LimitReader(resp.Body, 1<<16))
			if err == nil && resp.StatusCode != http.StatusOK {
				err = fmt.Errorf("%s: %s", resp.Status, text)
			}
			if err != nil {
				return fmt.Errorf("make a token at %s: %w", at, err)
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), strings.TrimSpace(string(text)))
			return err
		}}
	cmd.Flags().IntVar(&size, "size", discovery.DefaultSize, "how many members the cluster has")
	cmd.Flags().StringVar(&at, "url", "http://127.0.0.1:"+discoveryPort, "the `URL` of the service")
	return cmd
}
