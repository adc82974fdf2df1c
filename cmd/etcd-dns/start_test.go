package main

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/etcd-dns/etcd-dns/certs"
	"github.com/etcd-dns/etcd-dns/node"
)

// corefileBlocks finds the fenced Corefiles of the documentation, and the example at the root.
func corefileBlocks(t *testing.T) map[string]string {
	t.Helper()
	fenced := regexp.MustCompile("(?s)(?:```|~~~) ?corefile\n(.*?)(?:```|~~~)")
	out := map[string]string{}
	err := filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".md") && d.Name() != "Corefile" {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if d.Name() == "Corefile" {
			out["Corefile"] = string(text)
			return nil
		}
		for i, m := range fenced.FindAllSubmatch(text, -1) {
			out[fmt.Sprintf("%s-%d", filepath.Base(path), i+1)] = string(m[1])
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// onLoopback moves a documented Corefile to loopback addresses and ports that nobody needs root for.
func onLoopback(text, network string) string {
	text = regexp.MustCompile(`10\.0\.1\.(\d+)`).ReplaceAllString(text, network+".$1")
	text = regexp.MustCompile(`(?m)^(rack1\.example\.com)\b`).ReplaceAllString(text, "$1:5353")
	text = regexp.MustCompile(`prometheus \S+`).ReplaceAllString(text, "prometheus "+network+".10:9153")
	return regexp.MustCompile(`(?m)^\s*(data|bundle)\s.*$`).ReplaceAllString(text, "")
}

// Every Corefile that the documentation shows starts a node that answers.
func TestCorefilesStart(t *testing.T) {
	i := 0
	for name, text := range corefileBlocks(t) {
		network := fmt.Sprintf("127.0.%d", 80+i)
		i++
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "Corefile")
			text := strings.Replace(onLoopback(text, network), "etcdsrv {", "etcdsrv {\n bundle cluster.bundle\n data data", 1)
			write(t, path, text)
			o, err := node.ReadCorefile(path)
			if err != nil {
				t.Fatal(err)
			}
			var names []string
			for _, n := range o.Nodes {
				names = append(names, n.Name)
			}
			b, _, err := certs.NewBundle(certs.InitOptions{Domain: o.Domain, Names: map[string][]string{"": names}})
			if err != nil {
				t.Fatal(err)
			}
			secret, err := b.Marshal()
			if err != nil {
				t.Fatal(err)
			}
			write(t, filepath.Join(dir, "cluster.bundle"), string(secret))
			startAndAsk(t, path, network+".10:5353", o.Domain)
		})
	}
	if i < 3 {
		t.Errorf("found %d Corefiles, want those of README.md, docs/corefile.md and the root", i)
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// startAndAsk runs node infra0 until it answers for its zone, and stops it within ten seconds.
func startAndAsk(t *testing.T, corefile, at, domain string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, program(t), "run", "--corefile", corefile, "--name", "infra0")
	log, err := os.Create(corefile + ".log")
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd.Stderr = log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	q := new(dns.Msg).SetQuestion(domain, dns.TypeNS)
	for {
		r, err := dns.ExchangeContext(ctx, q, at)
		if err == nil && r.Rcode == dns.RcodeSuccess && r.Authoritative && len(r.Answer) > 0 {
			break
		}
		if ctx.Err() != nil || cmd.ProcessState != nil {
			text, _ := os.ReadFile(log.Name())
			t.Fatalf("no answer: %v\n%s", err, text)
		}
		time.Sleep(20 * time.Millisecond) // the condition is the answer above
	}
	start := time.Now()
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("the node ended with %v, want exit status 0", err)
	}
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("the node took %s to stop, want at most 10 s", took)
	}
}

// program is the etcd-dns that testscript put on the PATH of scripts: this test binary under that name.
func program(t *testing.T) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for d := dir; d != "/tmp" && d != "/"; d = filepath.Dir(d) {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	link := filepath.Join(dir, "etcd-dns")
	text, err := os.ReadFile(self) // a copy, because another user cannot reach the build's directory
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(link, text, 0o755); err != nil {
		t.Fatal(err)
	}
	return link
}

// Port 53 without the permission to bind it: the error says what to do.
func TestNoPermissionForPort53(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: needs root, to run a node as nobody")
	}
	dir := t.TempDir()
	r := rack{Domain: "rack1.example.com", Data: "data", Nodes: []rackNode{{Name: "infra0", Addrs: []string{"127.0.79.10"}}}, GenesisWithin: time.Hour}
	if _, err := r.write(dir, time.Now); err != nil {
		t.Fatal(err)
	}
	const nobody = 65534
	for _, f := range []string{dir, filepath.Join(dir, "cluster.bundle")} {
		if err := os.Chown(f, nobody, nobody); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command(program(t), "run", "--corefile", filepath.Join(dir, "Corefile"), "--name", "infra0")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	out, err := cmd.CombinedOutput()
	if err == nil {
		t.Fatalf("the node started:\n%s", out)
	}
	t.Log(err)
	for _, want := range []string{"etcd-dns: error: no permission to bind tcp port 127.0.79.10:53", "etcd-dns: hint: setcap cap_net_bind_service"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("got\n%s\nwant %q", out, want)
		}
	}
}
