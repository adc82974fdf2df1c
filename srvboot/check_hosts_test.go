package srvboot

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestHostsFile(t *testing.T) {
	ssl := nodeTarget(t, threeNodes(srvSSL)...)
	hosts := func(content string) Target {
		path := filepath.Join(t.TempDir(), "hosts")
		do(t, os.WriteFile(path, []byte(content), 0o600))
		return ssl.with(func(t *Target) { t.HostsFile = path })
	}
	runCases(t, []checkCase{
		{"clean", "hosts-file", hosts("127.0.0.1 localhost # n1.rack.test\n\n10.0.0.1\n"), LevelOK, nil},
		{"a peer", "hosts-file", hosts("127.0.0.1 localhost\n10.0.1.11\tdb N1.rack.test.\n"), LevelFail, []string{"line 2", "10.0.1.11", "n1.rack.test", "remove"}},
		{"a peer outside the DNS", "hosts-file", hosts("10.0.1.19 n9.rack.test").with(func(t *Target) { t.Peers, t.SkipDNS = []string{"n9.rack.test"}, "not born" }), LevelFail, []string{"n9.rack.test"}},
		{"our own", "hosts-file", hosts("127.0.1.1 n0.rack.test n0"), LevelWarn, []string{"127.0.1.1", "own name"}},
		{"missing", "hosts-file", ssl.with(func(t *Target) { t.HostsFile = "/nonexistent/hosts" }), LevelOK, nil},
		{"not given", "hosts-file", ssl, LevelSkip, nil},
		{"unreadable", "hosts-file", ssl.with(func(t *Target) { t.HostsFile = os.TempDir() }), LevelWarn, nil},
	})
}

func FuzzHosts(f *testing.F) {
	f.Add("127.0.0.1 localhost\n::1 ip6-localhost # x\nfe80::1%eth0 a b\n\x00 x")
	f.Fuzz(func(t *testing.T, data string) {
		for _, e := range parseHosts(data) {
			if !e.addr.IsValid() || e.line < 1 || strings.ContainsAny(e.name, " \t\n#") {
				t.Errorf("%+v", e)
			}
		}
	})
}
