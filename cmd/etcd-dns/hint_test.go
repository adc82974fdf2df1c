package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"
)

// Every command that a decision's hint names is one that this program has.
func TestHintsNameCommands(t *testing.T) {
	table, err := os.ReadFile("../../srvboot/testdata/decide/table.txt")
	if err != nil {
		t.Fatal(err)
	}
	command := regexp.MustCompile(`etcd-dns ((?:[a-z]+ ?)+)`)
	root, seen := newRoot(), 0
	for line := range strings.Lines(string(table)) {
		hint, ok := strings.CutPrefix(strings.TrimSpace(line), "hint: ")
		if !ok {
			continue
		}
		for _, m := range command.FindAllStringSubmatch(hint, -1) {
			seen++
			words := strings.Fields(m[1])
			c, rest, err := root.Find(words)
			if err != nil || c == root {
				t.Errorf("the hint %q names etcd-dns %s, which does not exist", hint, words[0])
			}
			_ = rest // etcdctl's and etcdutl's own words
		}
	}
	if seen == 0 {
		t.Error("no hint names a command, so this test sees nothing")
	}
}

// discovery serve looks at its flags before it opens anything.
func TestDiscoveryServeURL(t *testing.T) {
	cmd := newDiscoveryServe()
	cmd.SetArgs([]string{"--url", "discovery.example.com:8087/base", "--data", t.TempDir(), "--listen", "127.0.0.1:0"})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := cmd.ExecuteContext(ctx); !isUsage(err) || !strings.Contains(err.Error(), "discovery.example.com:8087/base") {
		t.Errorf("%v, want what a URL looks like", err)
	}
}

// An error is two lines, whatever its kind.
func TestErrorsAreTwoLines(t *testing.T) {
	_, pathErr := os.ReadFile("/nowhere/file")
	for _, err := range []error{errors.New("something\nelse"), pathErr, &usage{what: "a", hint: "b"}, &usageErr{what: "a\nb", hint: "c\nd"}} {
		var out bytes.Buffer
		printError(&out, err)
		lines := strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
		if len(lines) != 2 || !strings.HasPrefix(lines[0], "etcd-dns: error: ") || !strings.HasPrefix(lines[1], "etcd-dns: hint: ") || len(lines[1]) < len("etcd-dns: hint: x") {
			t.Errorf("%v prints %q, want an error line and a hint line", err, lines)
		}
	}
}
