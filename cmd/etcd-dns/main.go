// TCP_USER_TIMEOUT, which ends connections whose peer does not read, is not there for Multipath TCP.
//
//go:debug multipathtcp=0

// Command etcd-dns runs one node of a bare-metal etcd cluster and the tools around it.
package main

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"syscall"

	"github.com/etcd-dns/etcd-dns/srvboot/member"
)

// version is set by the linker: -ldflags "-X main.version=v1.2.3".
var version = "devel"

func main() { os.Exit(run(os.Args[1:])) }

// run is main with its exit code: 0 fine, 1 failed, 2 usage.
func run(args []string) int {
	// The member is this binary, executed again. It goes first, because it replaces net.DefaultResolver before
	// anything else may look up a name.
	if len(args) > 0 && args[0] == memberCommand {
		return member.Main(context.Background())
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	root := newRoot()
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	var code exitCode
	switch {
	case err == nil:
		return 0
	case errors.As(err, &code):
		return int(code)
	}
	printError(os.Stderr, err)
	if isUsage(err) {
		return 2
	}
	return 1
}
