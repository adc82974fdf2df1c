package srvboot

import (
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
)

func TestPortHolder(t *testing.T) {
	for _, network := range []string{"tcp", "udp"} {
		h := startHelper(t, "listen", network)
		addr := h.waitFor(t, "addr")
		want := fmt.Sprintf("srvboot.test (pid %d)", h.cmd.Process.Pid)
		_, port, _ := net.SplitHostPort(addr)
		for _, a := range []string{addr, "0.0.0.0:" + port, "[::]:" + port, ":" + port} {
			if got := PortHolder(network, a); got != want {
				t.Errorf("%s %s: got %q, want %q", network, a, got, want)
			}
		}
		if got := PortHolder(network, "127.0.0.2:"+port); got != "" {
			t.Errorf("%s on another address: got %q, want nobody", network, got)
		}
		other := map[string]string{"tcp": "udp", "udp": "tcp"}[network]
		if got := PortHolder(other, addr); strings.Contains(got, want) {
			t.Errorf("%s: got %q for a %s port", other, got, network)
		}
		h.kill(t)
		if got := PortHolder(network, addr); got != "" {
			t.Errorf("%s after the holder's death: got %q, want nobody", network, got)
		}
	}
}

// TestPortHolderIPv6 listens on all addresses in this process.
func TestPortHolderIPv6(t *testing.T) {
	l, err := net.Listen("tcp6", "[::1]:0")
	if err != nil {
		t.Skipf("no IPv6: %v", err)
	}
	defer l.Close()
	want := fmt.Sprintf("(pid %d)", os.Getpid())
	if got := PortHolder("tcp", l.Addr().String()); !strings.Contains(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := PortHolder("tcp", "not an address"); got != "" {
		t.Errorf("nonsense: got %q", got)
	}
}
