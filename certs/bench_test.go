package certs

import (
	"context"
	"fmt"
	"net/netip"
	"path/filepath"
	"testing"
)

// BenchmarkFirstReady is the part of a node's first boot that certificates take: NewManager to Ready, blank disk.
func BenchmarkFirstReady(b *testing.B) {
	bundle, _, err := NewBundle(InitOptions{Domain: "rack1.example.com", Names: map[string][]string{"": {"infra0"}}})
	if err != nil {
		b.Fatal(err)
	}
	dir := b.TempDir()
	for i := 0; b.Loop(); i++ {
		m := NewManager(Options{Bundle: bundle, Node: "infra0", Dir: filepath.Join(dir, fmt.Sprint(i)),
			Addrs: func() []netip.Addr { return []netip.Addr{netip.MustParseAddr("10.0.1.10")} }})
		ctx, cancel := context.WithCancel(b.Context())
		done := make(chan error, 1)
		go func() { done <- m.Run(ctx) }()
		<-m.Ready()
		cancel()
		if err := <-done; err != nil {
			b.Fatal(err)
		}
	}
}
