package main

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"text/template"

	"github.com/miekg/dns"
)

// checkers run the programs' own judgement of a configuration file (Knot Resolver and systemd-resolved have none); before and after make it a whole one.
var checkers = map[string]struct {
	before, after string
	argv          []string // FILE and DIR are replaced
	debian        string
	// ci says that lab/install.sh installs it.
	ci bool
}{
	"nsd":  {argv: []string{"nsd-checkconf", "FILE"}, debian: "nsd", ci: true},
	"knot": {before: "server:\n    rundir: DIR\n    listen: 127.0.0.1@5399\n", argv: []string{"knotc", "-c", "FILE", "conf-check"}, debian: "knot", ci: true},
	"bind": {argv: []string{"named-checkconf", "FILE"}, debian: "bind9-utils", ci: true},
	"powerdns": {before: "launch=bind\nlocal-address=127.0.0.1\nlocal-port=5399\n", argv: []string{"pdns_server", "--config-dir=DIR", "--config-name=", "--config=check"},
		debian: "pdns-server"},
	"unbound":           {argv: []string{"unbound-checkconf", "FILE"}, debian: "unbound", ci: true},
	"resolver bind":     {argv: []string{"named-checkconf", "FILE"}, debian: "bind9-utils", ci: true},
	"resolver powerdns": {argv: []string{"pdns_recursor", "--config-dir=DIR", "--config-name=", "--config=check"}, debian: "pdns-recursor", ci: true},
	"dnsmasq":           {argv: []string{"dnsmasq", "--test", "-C", "FILE"}, debian: "dnsmasq-base", ci: true},
}

// lookFor finds a checker, or skips the test; in CI as root on Debian the ones that lab/install.sh installs are there.
func lookFor(t *testing.T, name, debian string, ci bool) string {
	t.Helper()
	for _, dir := range append(filepath.SplitList(os.Getenv("PATH")), "/usr/sbin", "/sbin") {
		if path, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return path
		}
	}
	_, noDebian := os.Stat("/etc/debian_version")
	if ci && os.Getenv("CI") == "true" && os.Geteuid() == 0 && noDebian == nil {
		t.Fatalf("%s is missing; try: lab/install.sh", name)
	}
	t.Skipf("SKIPPED: %s is missing; on Debian it is in the package %s", name, debian)
	return ""
}

func testNeighbour(t *testing.T, port uint16, signed bool) neighbour {
	t.Helper()
	n := neighbour{Zone: "rack1.example.com", Port: port, Key: "transfer.rack1.example.com", Algorithm: "hmac-sha256", Secret: "c2VjcmV0c2VjcmV0",
		Nodes: []nodeAddr{{"infra0-0", netip.MustParseAddr("10.0.1.10")}, {"infra1-1", netip.MustParseAddr("10.0.1.11")}, {"infra1-2", netip.MustParseAddr("fd00::11")}}}
	if signed {
		rr, err := dns.NewRR("rack1.example.com. 3600 IN DS 12345 13 2 " + strings.Repeat("ab", 32))
		if err != nil {
			t.Fatal(err)
		}
		n.Signed, n.DS = true, []*dns.DS{rr.(*dns.DS)}
	}
	return n
}

// Every program takes what is printed for it, and knows all nodes afterwards.
func TestNeighboursTakeIt(t *testing.T) {
	all := map[string]*template.Template{}
	for name, tmpl := range secondaries {
		all[name] = tmpl
	}
	for name, tmpl := range resolvers {
		if _, both := all[name]; both {
			name = "resolver " + name
		}
		all[name] = tmpl
	}
	for name, tmpl := range all {
		for _, port := range []uint16{53, 5300} {
			for _, signed := range []bool{false, true} {
				n := testNeighbour(t, port, signed)
				var text bytes.Buffer
				if err := tmpl.Execute(&text, n); err != nil {
					t.Fatalf("%s: %v", name, err)
				}
				for _, a := range n.Nodes {
					if !strings.Contains(text.String(), a.Addr.String()) || port != 53 && !strings.Contains(text.String(), "5300") {
						t.Errorf("%s: the configuration lacks %s or its port %d:\n%s", name, a.Addr, port, text.String())
					}
				}
				if c, ok := checkers[name]; ok {
					t.Run(fmt.Sprintf("%s-%d-%v", strings.ReplaceAll(name, " ", "-"), port, signed), func(t *testing.T) {
						judgeConfig(t, lookFor(t, c.argv[0], c.debian, c.ci), c.argv[1:], c.before+text.String()+c.after)
					})
				}
			}
		}
	}
}

func judgeConfig(t *testing.T, program string, argv []string, text string) {
	t.Helper()
	dir := t.TempDir()
	text = strings.ReplaceAll(text, "DIR", dir)
	file := filepath.Join(dir, "conf")
	for _, name := range []string{file, filepath.Join(dir, "pdns.conf"), filepath.Join(dir, "recursor.conf")} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var args []string
	for _, a := range argv {
		args = append(args, strings.ReplaceAll(strings.ReplaceAll(a, "FILE", file), "DIR", dir))
	}
	out, err := exec.CommandContext(t.Context(), program, args...).CombinedOutput()
	if err != nil || bytes.Contains(bytes.ReplaceAll(bytes.ToLower(out), []byte("no errors"), nil), []byte("error")) || bytes.Contains(bytes.ToLower(out), []byte("warning")) {
		t.Errorf("%s %v: %v\n%s\nof\n%s", program, args, err, out, text)
	}
}

// Without the secret no program takes the configuration by mistake.
func TestNoSecretIsNoKey(t *testing.T) {
	n := testNeighbour(t, 53, false)
	n.Secret = noSecret
	for _, name := range []string{"nsd", "knot", "bind"} {
		t.Run(name, func(t *testing.T) {
			c := checkers[name]
			program := lookFor(t, c.argv[0], c.debian, c.ci)
			var text bytes.Buffer
			if err := secondaries[name].Execute(&text, n); err != nil {
				t.Fatal(err)
			}
			dir := t.TempDir()
			file := filepath.Join(dir, "conf")
			if err := os.WriteFile(file, []byte(strings.ReplaceAll(c.before, "DIR", dir)+text.String()), 0o600); err != nil {
				t.Fatal(err)
			}
			var args []string
			for _, a := range c.argv[1:] {
				args = append(args, strings.ReplaceAll(a, "FILE", file))
			}
			if out, err := exec.CommandContext(t.Context(), program, args...).CombinedOutput(); err == nil {
				t.Errorf("%s takes the placeholder for a secret:\n%s", program, out)
			}
		})
	}
}
