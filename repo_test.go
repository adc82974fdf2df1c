// Package etcddns_test keeps the repository the way that README.md describes it.
package etcddns_test

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/etcd-dns/etcd-dns/node"
)

const module = "github.com/etcd-dns/etcd-dns"

// goFiles calls visit for each Go file of the repository.
func goFiles(t *testing.T, visit func(path string)) {
	t.Helper()
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == "testdata" || path != "." && strings.HasPrefix(d.Name(), ".")):
			return filepath.SkipDir
		case strings.HasSuffix(path, ".go"):
			visit(path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// Every package says in its first sentence, in exactly one file, what it is for.
func TestCharters(t *testing.T) {
	charters, packages := map[string]int{}, map[string]bool{}
	goFiles(t, func(path string) {
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.PackageClauseOnly|parser.ParseComments)
		if err != nil {
			t.Error(err)
			return
		}
		dir := filepath.Dir(path)
		if strings.HasSuffix(path, "_test.go") && dir != "." {
			return
		}
		packages[dir] = true
		if doc := f.Doc.Text(); strings.HasPrefix(doc, "Package "+f.Name.Name+" ") || strings.HasPrefix(doc, "Command etcd-dns ") {
			charters[dir]++
		}
	})
	for dir := range packages {
		if charters[dir] != 1 {
			t.Errorf("%s: %d package comments that begin with `Package NAME `, want 1", dir, charters[dir])
		}
	}
}

// Imports go down only, and each heavy dependency has few importers.
func TestImports(t *testing.T) {
	// package → the packages of this module that it may import
	down := map[string][]string{
		"roster": {}, "internal/durable": {}, "internal/ask": {}, "internal/sockets": {}, "parent": {"internal/ask"},
		"zone/front": {}, "zone/sign": {}, "zone/xfr": {"zone/front"},
		"zone": {"roster", "internal/durable", "zone/front", "zone/sign", "zone/xfr"}, "certs": {"roster", "internal/durable"}, "srvboot": {"roster", "internal/ask", "internal/durable"},
		"gossip":  {"roster", "internal/durable"},
		"follow":  {"roster", "internal/durable"},
		"gateway": {"internal/ask"}, "gateway/rpcproxy": {"gateway"},
		"discovery": {}, "stock": {"discovery"},
		"srvboot/member": {"roster", "srvboot", "internal/ask", "internal/sockets", "internal/durable"},
		"node":           {"roster", "zone", "zone/front", "zone/sign", "zone/xfr", "certs", "srvboot", "srvboot/member", "parent", "gossip", "follow", "discovery", "internal/ask", "internal/sockets", "internal/durable"},
		"cmd/etcd-dns":   {"node", "parent", "certs", "srvboot", "srvboot/member", "gateway", "gateway/rpcproxy", "stock", "discovery", "internal/durable"},
		"lab":            {}, "bench": {}, "bench/coredns": {}, ".": {"node"},
	}
	// dependency → who may import it, and why so few
	heavy := map[string][]string{
		"github.com/coredns/":                 {"zone", "node", "bench/coredns"},                                                            // CoreDNS embedded: the plugin and its host; stock CoreDNS to measure beside
		"github.com/caddyserver/certmagic":    {"certs"},                                                                                    // certificates have one owner
		"github.com/hashicorp/":               {"gossip"},                                                                                   // memberlist and what it brings
		"go.etcd.io/etcd/server/v3":           {"srvboot", "srvboot/member", "gateway/rpcproxy", "stock", "discovery"},                      // the member and its files; the gRPC proxy; stock etcd; the store of tokens
		"go.etcd.io/etcd/client/v3":           {"gateway/rpcproxy", "discovery", "follow"},                                                  // clients of etcd
		"github.com/soheilhy/cmux":            {"gateway/rpcproxy"},                                                                         // gRPC and HTTP on one port
		"go.etcd.io/etcd/etcdctl/v3":          {"cmd/etcd-dns"},                                                                             // a pass-through command
		"go.etcd.io/etcd/etcdutl/v3":          {"cmd/etcd-dns"},                                                                             // a pass-through command
		"github.com/spf13/cobra":              {"cmd/etcd-dns"},                                                                             // the command line
		"github.com/prometheus/client_golang": {"zone", "zone/front", "node", "srvboot/member", "gateway", "gateway/rpcproxy", "discovery"}, // metrics live beside what they count
	}
	goFiles(t, func(path string) {
		dir := filepath.ToSlash(filepath.Dir(path))
		if strings.HasSuffix(path, "_test.go") && dir != "." {
			return // tests may bring neighbours in
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
		if err != nil {
			t.Error(err)
			return
		}
		allowed, known := down[dir]
		if !known {
			t.Errorf("%s: the package is not in README.md's map; add it there and here", dir)
		}
		for _, spec := range f.Imports {
			p := strings.Trim(spec.Path.Value, `"`)
			if own, ok := strings.CutPrefix(p, module+"/"); ok && !contains(allowed, own) {
				t.Errorf("%s imports %s: imports go down only", path, own)
			}
			for dep, by := range heavy {
				if strings.HasPrefix(p, dep) && !contains(by, dir) {
					t.Errorf("%s imports %s, which only %v may", path, p, by)
				}
			}
		}
	})
}

func contains(list []string, s string) bool {
	for _, l := range list {
		if l == s {
			return true
		}
	}
	return false
}

// README.md's map of the repository names every folder with code, and nothing else.
func TestReadmeMap(t *testing.T) {
	text, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	goFiles(t, func(path string) {
		dir := filepath.ToSlash(filepath.Dir(path))
		if dir != "." && !strings.Contains(string(text), "\n    "+dir+" ") {
			t.Errorf("README.md's map lacks %s", dir)
		}
	})
}

var fenced = regexp.MustCompile("(?s)(?:```|~~~) ?corefile\n(.*?)(?:```|~~~)")

// Every Corefile in the documentation is one that a node takes. TestCorefilesStart in cmd/etcd-dns starts them.
func TestDocumentedCorefiles(t *testing.T) {
	seen := 0
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, ".md") {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, m := range fenced.FindAllSubmatch(text, -1) {
			seen++
			if _, err := node.ParseCorefile("/etc/etcd-dns/Corefile", m[1]); err != nil {
				t.Errorf("%s: %v", path, err)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if seen == 0 {
		t.Error("no Corefile block found in any .md")
	}
}

// A translation has the commands, configurations and messages of its original, and no others: what it says of them may be in
// other words. README.md's map is not translated.
func TestTranslations(t *testing.T) {
	translations, err := filepath.Glob("*.zh.md")
	if err != nil {
		t.Fatal(err)
	}
	more, err := filepath.Glob("docs/*.zh.md")
	if err != nil {
		t.Fatal(err)
	}
	translations = append(translations, more...)
	if len(translations) == 0 {
		t.Error("no translation found")
	}
	for _, path := range translations {
		ours, theirs := codeOf(t, path), codeOf(t, strings.Replace(path, ".zh.md", ".md", 1))
		for _, missing := range without(theirs, ours) {
			t.Errorf("%s lacks %s", path, missing)
		}
		for _, odd := range without(ours, theirs) {
			t.Errorf("%s has %s, which its original has not", path, odd)
		}
	}
}

var codeSpan = regexp.MustCompile("`[^`\\n]+`")

// codeOf returns the lines of code in a page, without their comments, and what stands in backquotes.
func codeOf(t *testing.T, path string) (out []string) {
	t.Helper()
	page, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	text, _, _ := strings.Cut(string(page), "## Find your way")
	inFence, prose := false, ""
	for line := range strings.Lines(text) {
		fence := strings.HasPrefix(line, "```")
		if fence {
			inFence = !inFence
		}
		if fence || inFence || strings.HasPrefix(line, "    ") {
			code, _, _ := strings.Cut(line, " # ")
			out = append(out, strings.TrimSpace(code))
			continue
		}
		prose += strings.TrimSpace(line) + " " // a span may go on in the next line
	}
	return append(out, codeSpan.FindAllString(prose, -1)...)
}

func without(list, others []string) (out []string) {
	for _, s := range list {
		if !contains(others, s) && !contains(out, s) {
			out = append(out, s)
		}
	}
	return out
}

// The repository speaks of the product alone, and go.mod builds for everyone.
func TestGoMod(t *testing.T) {
	text, err := os.ReadFile("go.mod")
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range strings.Split(string(text), "\n") {
		if strings.HasPrefix(strings.TrimSpace(line), "replace") {
			t.Errorf("go.mod holds %q, which `go install …@latest` ignores", line)
		}
	}
}

// The program ends in one place. So does the server that it is measured beside.
func TestExits(t *testing.T) {
	exits := regexp.MustCompile(`\bos\.Exit\(|\blog\.Fatal`)
	goFiles(t, func(path string) {
		if strings.HasSuffix(path, "_test.go") || path == filepath.Join("cmd", "etcd-dns", "main.go") || path == filepath.Join("bench", "coredns", "main.go") {
			return
		}
		text, err := os.ReadFile(path)
		if err != nil {
			t.Error(err)
			return
		}
		if exits.Match(text) {
			t.Errorf("%s ends the program; only cmd/etcd-dns/main.go may", path)
		}
	})
}

// Times that wait for something keep their monotonic reading, so that setting the clock neither ends a wait nor makes it
// last for hours. Nanoseconds since 1970 have none.
func TestMonotonicWaits(t *testing.T) {
	wall := regexp.MustCompile(`\.Unix(Nano|Micro|Milli)\(\)|time\.Unix(Micro|Milli)\(`)
	goFiles(t, func(path string) {
		if strings.HasSuffix(path, "_test.go") || path == filepath.Join("srvboot", "classify_wal.go") { // the dates of files
			return
		}
		text, err := os.ReadFile(path)
		if err != nil {
			t.Error(err)
			return
		}
		if found := wall.Find(text); found != nil {
			t.Errorf("%s has %s; keep a time.Time, or a time.Duration since one", path, found)
		}
	})
}
