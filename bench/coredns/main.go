// Package main is stock CoreDNS with the few plugins that an operator needs to serve a zone file, built from the very
// version that etcd-dns embeds. The whole of CoreDNS would bring the clients of three clouds along.
package main

import (
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/core/dnsserver"
	_ "github.com/coredns/coredns/plugin/bind"
	_ "github.com/coredns/coredns/plugin/errors"
	_ "github.com/coredns/coredns/plugin/file"
	_ "github.com/coredns/coredns/plugin/multisocket"
)

// usage: coredns COREFILE
func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: coredns COREFILE")
		os.Exit(2)
	}
	if err := run(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "coredns:", err)
		os.Exit(1)
	}
}

// run serves until SIGTERM.
func run(corefile string) error {
	text, err := os.ReadFile(corefile)
	if err != nil {
		return fmt.Errorf("read the Corefile: %w", err)
	}
	// CoreDNS's own order of these plugins.
	if err := dnsserver.SetDirectives([]string{"multisocket", "bind", "errors", "file"}); err != nil {
		return fmt.Errorf("set the plugin order: %w", err)
	}
	caddy.Quiet, dnsserver.Quiet = true, true
	inst, err := caddy.Start(caddy.CaddyfileInput{Filepath: corefile, Contents: text, ServerTypeName: "dns"})
	if err != nil {
		return fmt.Errorf("start: %w", err)
	}
	end := make(chan os.Signal, 1)
	signal.Notify(end, syscall.SIGTERM, os.Interrupt)
	<-end
	return inst.Stop()
}
