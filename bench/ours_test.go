package bench

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// benchDomain is the zone of all servers.
const benchDomain = "rack1.example.com"

// ourAddr is the node that is measured; its neighbours follow.
func ourAddr(i int) string { return fmt.Sprintf("127.0.93.%d", 10+i) }

// ourRack is a rack of three nodes as init writes it, on loopback, and the names of all its nodes. Its cluster is born
// in the first turn and continues in the others. Metrics stay on. more adds nodes of a second cluster that never run.
func ourRack(b *testing.B, bin string, more int, signed bool) (contender, []string) {
	b.Helper()
	dir := b.TempDir()
	args := []string{"init", "--domain", benchDomain, "--out", dir}
	var names []string
	for i := range members {
		names = append(names, fmt.Sprintf("infra%d", i))
		args = append(args, "--node", names[i]+"="+ourAddr(i))
	}
	if out, err := exec.Command(bin, args...).CombinedOutput(); err != nil {
		b.Fatalf("init: %v\n%s", err, out)
	}
	corefile := filepath.Join(dir, "Corefile")
	edit(b, corefile, benchDomain+" {", fmt.Sprintf("%s:%d {", benchDomain, dnsPort))
	edit(b, corefile, "    prometheus localhost:9153\n", "    prometheus METRICS:9153\n")
	if signed {
		edit(b, corefile, "        data ", "        dnssec on\n        data ")
	}
	if more > 0 {
		lines := make([]string, more)
		for i := range lines {
			name := fmt.Sprintf("node%d", i)
			names = append(names, name)
			lines[i] = fmt.Sprintf("            node %s 127.94.%d.%d\n", name, i/250, 1+i%250)
		}
		last := "        node " + names[members-1] + " " + ourAddr(members-1) + "\n"
		edit(b, corefile, last, last+"        cluster away {\n"+strings.Join(lines, "")+"        }\n")
	}
	// The file is the same on every node but for the address of its metrics, which are all on one machine here.
	text, err := os.ReadFile(corefile)
	if err != nil {
		b.Fatal(err)
	}
	for i, n := range names[:members] {
		own := strings.Replace(string(text), "METRICS", ourAddr(i), 1)
		if err := os.WriteFile(filepath.Join(dir, "Corefile."+n), []byte(own), 0o600); err != nil {
			b.Fatal(err)
		}
	}
	commands := func() (out []*exec.Cmd, _ error) {
		for _, n := range names[:members] {
			cmd := exec.Command(bin, "run", "--corefile", filepath.Join(dir, "Corefile."+n), "--name", n, "--data", filepath.Join(dir, n))
			out = append(out, logged(b, cmd, filepath.Join(dir, n+".output")))
		}
		return out, nil
	}
	// The etcd member is the node's child and is not a name server.
	return contender{name: "etcd-dns", addr: ourAddr(0), commands: commands, tree: false}, names
}

// ourContent starts our rack once, waits until its cluster is born, and takes the zone from its answers.
func ourContent(ours contender, names []string, at cores, signed bool) (content, error) {
	c := content{domain: benchDomain + "."}
	c.questions = questionsOf(c.domain, names)
	t, err := start(ours, at, func() (err error) {
		if c, err = collect(ours.addr, c, signed); err != nil {
			return err
		}
		for _, name := range []string{"_etcd-client-ssl._tcp." + c.domain, "_etcd-server-ssl._tcp." + c.domain, c.domain} {
			i := slices.IndexFunc(c.questions, func(q question) bool { return q.name == name })
			if n := len(texts(c.answers[c.questions[i]].Answer)); n != members {
				return fmt.Errorf("%s has %d records, want %d", name, n, members)
			}
		}
		return nil
	})
	if err != nil {
		return c, err
	}
	return c, t.stop()
}
