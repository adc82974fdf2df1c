package parent

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/miekg/dns"
)

const knotConf = `server:
    rundir: "%[1]s"
    listen: 127.0.0.1@%[2]d
database:
    storage: "%[1]s"
log:
  - target: stderr
    any: info
key:
  - id: update.example.com
    algorithm: hmac-sha256
    secret: "c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0MTIzNDU2Nzg="
acl:
  - id: update
    key: update.example.com
    action: update
zone:
  - domain: example.com
    storage: "%[1]s"
    file: example.com.zone
    acl: update
`

// startKnot runs Knot DNS as the primary of example.com, and a resolver that finds it.
func startKnot(t *testing.T) (Asker, Key) {
	t.Helper()
	path := lookFor(t, "knotd", "knot")
	dir, port, resolver := t.TempDir(), freePort(t), freePort(t)
	for name, text := range map[string]string{"update.key": testKey, "knot.conf": fmt.Sprintf(knotConf, dir, port), "example.com.zone": parentZone} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var log bytes.Buffer
	cmd := exec.CommandContext(t.Context(), path, "-c", filepath.Join(dir, "knot.conf"))
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Wait() // the test's context killed it
		if t.Failed() {
			t.Logf("knotd:\n%s", log.String())
		}
	})
	authority(t, "127.0.0.1", resolver, finder(t, rcode(dns.RcodeRefused), "127.0.0.1"))
	a := Asker{Resolvers: []netip.AddrPort{netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), resolver)}, port: port}
	for end := time.Now().Add(20 * time.Second); ; {
		v, err := a.Ask(t.Context(), "rack1.example.com.")
		if err == nil && v.Servers[0].Err == nil {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("knotd does not answer: %v %v", v, err)
		}
	}
	k, err := ReadKeyFile(filepath.Join(dir, "update.key"))
	if err != nil {
		t.Fatal(err)
	}
	return a, k
}

// Knot DNS takes the same update.
func TestUpdateKnot(t *testing.T) {
	a, key := startKnot(t)
	want := rackWant(t)
	v, err := a.Ask(t.Context(), want.Domain)
	if err != nil {
		t.Fatal(err)
	}
	at := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), a.port)
	c, err := a.Plan(t.Context(), v, want, at)
	if err != nil || len(c.Differences) != 8 {
		t.Fatalf("plan %v, %v", c.Differences, err)
	}
	for range 2 {
		if err := c.Send(t.Context(), key); err != nil {
			t.Fatal(err)
		}
	}
	if v, err = a.Ask(t.Context(), want.Domain); err != nil {
		t.Fatal(err)
	}
	if got := v.Judge(want); got.Word != Agrees {
		t.Errorf("after the update: %s %v %s", got.Word, got.Differences, got.Err)
	}
	if again, err := a.Plan(t.Context(), v, want, at); err != nil || !again.Empty() {
		t.Errorf("a second plan is %v, %v", again.Differences, err)
	}
}
