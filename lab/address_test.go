//go:build linux

package lab

import (
	"strings"
	"testing"
	"time"
)

// A node whose address is not up yet, as with a bond or DHCP, waits for it and says so, and then starts as ever.
func TestAddressComesLater(t *testing.T) {
	t.Parallel()
	l := New(t, Options{})
	const device = "eth0"
	addr := l.Addr("infra0") + "/32"
	l.Must("infra0", "ip", "address", "delete", addr, "dev", device)
	l.StartAll()
	l.Wait("infra0 to say what it waits for", 30*time.Second, func() error {
		if log := l.Log("infra0"); !strings.Contains(log, "waiting for addresses") || !strings.Contains(log, l.Addr("infra0")) {
			return errorf("its log says\n%s", log)
		}
		return nil
	})
	l.WaitStatus("infra1", "waiting", "infra0")
	if err := l.NoMembers(); err != nil {
		t.Error(err)
	}
	l.Must("infra0", "ip", "address", "add", addr, "dev", device)
	l.Must("infra0", "ip", "route", "replace", "default", "via", "169.254.0.1", "dev", device, "onlink")
	l.WaitHealthy()
	l.OneCluster()
}
