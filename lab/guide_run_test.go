//go:build linux

package lab

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// guideRow is a part of etcd's clustering guide: its command lines as they stand there, and what comes of them.
type guideRow struct {
	name string
	// then says that the row goes on where the one before it ended; any other begins with stopped hosts and blank disks.
	then bool
	// env are variables that the guide sets; words are what the reader of this row writes instead of the guide's.
	env   []string
	words map[string]string
	// programs are the etcds of hosts that do not run ours.
	programs map[string]string
	// before does what the guide takes for granted at this point.
	before func(*guide)
	// commands run at once, each on the host that its --name is of, and on the client without one.
	commands []string
	want     outcome
	// says is what each command has to print, among other things.
	says []string
	// after looks at what became of it.
	after func(*guide)
}

// outcome is what becomes of a row's commands.
type outcome int

const (
	// forms: the commands' members become one cluster, which serves.
	forms outcome = iota
	// runs: they go on running, whatever becomes of them.
	runs
	// fails: they end with status 1, as the guide has it.
	fails
	// ends: they end with status 0.
	ends
)

// guide is a lab with the guide's names and addresses: infra0.example.com to infra2.example.com at 10.0.1.10 to 10.0.1.12, and
// infra3 at 10.0.1.13. NSD serves example.com; on the hosts nothing runs but what a row runs.
type guide struct {
	*Lab
	// bin is the product's binary.
	bin   string
	procs map[string]*process
	// begin is where in each host's log the present row begins.
	begin map[string]int
	// words are what a reader puts in the place of the guide's examples.
	words map[string]string
	// scheme is how clients reach the members; flags are what etcdctl needs for it.
	scheme string
	flags  []string
}

// guideFlavor leaves the hosts to the rows.
type guideFlavor struct{ zone string }

func (f guideFlavor) prepare(*Lab) string { return f.zone }

func (guideFlavor) argv(*Lab, *node) (argv, env []string) {
	panic("lab: a row of the guide starts its own commands")
}

// guideHosts are the guide's third record set.
const guideHosts = `infra0.example.com. 300 IN A 10.0.1.10
infra1.example.com. 300 IN A 10.0.1.11
infra2.example.com. 300 IN A 10.0.1.12
`

// guideRows runs rows in a lab of their own, in which example.com has these records beside guideHosts; prepare, unless nil, makes
// what else there is in it.
func guideRows(t *testing.T, zone string, prepare func(*guide), rows ...guideRow) {
	t.Helper()
	t.Parallel()
	need(t)
	bin := needProduct(t, product)
	g := &guide{Lab: build(t, Options{Domain: "example.com", Later: 1, Plain: true}, guideFlavor{guideHosts + zone}), bin: bin,
		procs: map[string]*process{}, begin: map[string]int{}, words: map[string]string{}, scheme: "http"}
	if prepare != nil {
		prepare(g)
	}
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			g.t = t
			g.row(r)
		})
	}
	g.t = t
}

// row runs one row. The row's first lines in the logs are those after begin.
func (g *guide) row(r guideRow) {
	g.t.Helper()
	all := append(g.Names(), clientHost)
	for _, name := range all {
		h := g.host(name)
		if !r.then {
			if err := errors.Join(killAll(h.ns), os.RemoveAll(g.work(name)), os.Mkdir(g.work(name), 0o755)); err != nil {
				g.t.Fatal(err)
			}
		}
		g.begin[name] = len(g.hostLog(name))
	}
	if !r.then {
		g.scheme, g.flags = "http", nil
	}
	if r.before != nil {
		r.before(g)
	}
	defer func() {
		if g.t.Failed() {
			for _, name := range all {
				if text := g.said(name); text != "" {
					g.t.Logf("%s said:\n%s", name, tail(text, 30))
				}
			}
		}
	}()
	var names []string
	for _, c := range r.commands {
		names = append(names, g.start(c, r))
		if r.want == ends { // one after the other
			g.becomes(clientHost, ends)
		}
	}
	for _, name := range names {
		g.becomes(name, r.want)
		for _, text := range r.says {
			g.hears(name, text)
		}
	}
	if r.want == forms && len(names) > 0 {
		g.oneCluster(r.name, r.commands)
	}
	if r.after != nil {
		r.after(g)
	}
	for _, name := range names {
		if p := g.procs[name]; r.want == runs && !p.running() {
			g.t.Errorf("%s does not go on running: %v", name, p.err)
		}
	}
}

var nameFlag = regexp.MustCompile(`--name (\S+)`)

// run starts one command beside a row's own.
func (g *guide) run(command string) { g.start(command, guideRow{}) }

// start starts one command of a row, with etcd-dns etcd in the place of etcd, and returns the host that it runs on.
func (g *guide) start(command string, r guideRow) (hostName string) {
	g.t.Helper()
	hostName = clientHost
	if m := nameFlag.FindStringSubmatch(command); m != nil {
		hostName = m[1]
	}
	env, pairs := r.env, []string{"/path/to", g.work(hostName)}
	for _, words := range []map[string]string{r.words, g.words} {
		for is, becomes := range words {
			pairs = append(pairs, is, becomes)
			env = replaceAll(env, is, becomes)
		}
	}
	command = strings.NewReplacer(pairs...).Replace(command)
	if rest, ok := strings.CutPrefix(command, "etcd "); ok {
		command = cmp.Or(r.programs[hostName], g.bin+" etcd") + " " + rest
	}
	p, err := spawn(g.host(hostName), "log", []string{"sh", "-c", "cd " + g.work(hostName) + " && exec " + command}, env...)
	if err != nil {
		g.t.Fatal(err)
	}
	g.procs[hostName] = p
	return hostName
}

// replaceAll replaces a word in all of the texts.
func replaceAll(in []string, is, becomes string) (out []string) {
	for _, text := range in {
		out = append(out, strings.ReplaceAll(text, is, becomes))
	}
	return out
}

// becomes waits until the command of a host has ended as it should; of one that runs on it can be told only later.
func (g *guide) becomes(hostName string, want outcome) {
	g.t.Helper()
	p := g.procs[hostName]
	if want == forms || want == runs {
		return
	}
	if !p.ended(healthyLimit) {
		g.t.Fatalf("%s goes on running for %v", hostName, healthyLimit)
	}
	code := 0
	var exit *exec.ExitError
	if errors.As(p.err, &exit) {
		code = exit.ExitCode()
	}
	if status := map[outcome]int{ends: 0, fails: 1}[want]; code != status {
		g.t.Fatalf("%s ends with status %d, want %d", hostName, code, status)
	}
}

// hears waits until the command on a host has printed something.
func (g *guide) hears(hostName, text string) {
	g.t.Helper()
	g.Wait(fmt.Sprintf("%s says %q", hostName, text), healthyLimit, func() error {
		said := g.said(hostName)
		if strings.Contains(said, text) {
			return nil
		}
		if p := g.procs[hostName]; !p.running() && !strings.Contains(g.said(hostName), text) {
			g.t.Fatalf("%s has ended and did not say %q", hostName, text)
		}
		return errors.New(tail(said, 5))
	})
}

// work is the folder that a host's commands run in.
func (g *guide) work(hostName string) string { return filepath.Join(g.host(hostName).dir, "work") }

// said is what a host printed in this row.
func (g *guide) said(hostName string) string { return g.hostLog(hostName)[g.begin[hostName]:] }

func (g *guide) hostLog(hostName string) string {
	text, err := os.ReadFile(filepath.Join(g.host(hostName).dir, "log"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		g.t.Fatal(err)
	}
	return string(text)
}

// url is where clients reach a host's member.
func (g *guide) url(hostName string) string { return g.scheme + "://" + g.Addr(hostName) + ":2379" }

// ctl runs etcdctl on the client.
func (g *guide) ctl(endpoints string, args ...string) Result {
	g.t.Helper()
	return g.Run(clientHost, "etcdctl", slices.Concat([]string{"--endpoints", endpoints, "--command-timeout", "5s"}, g.flags, args)...)
}

var clientFlag = regexp.MustCompile(`--advertise-client-urls (\S+)`)

// oneCluster waits until the commands' members are one cluster: what is written at one is read at each, and the member list
// holds them, with the client URLs of their command lines, and nobody else.
func (g *guide) oneCluster(value string, commands []string) {
	g.t.Helper()
	var names, want []string
	for _, c := range commands {
		name := nameFlag.FindStringSubmatch(c)[1]
		names = append(names, name)
		want = append(want, name+" started "+clientFlag.FindStringSubmatch(c)[1])
	}
	within := 2 * healthyLimit // several racks boot at once
	g.Wait("a write", within, func() error {
		for _, name := range names {
			if p := g.procs[name]; !p.running() {
				g.t.Fatalf("%s has ended: %v", name, p.err)
			}
		}
		return g.ctl(g.url(names[0]), "put", "guide", value).Err()
	})
	for _, name := range names {
		g.Wait("its value at "+name, within, func() error {
			return isValue(g.ctl(g.url(name), "get", "guide", "--print-value-only", "--consistency=s"), value)
		})
	}
	g.Wait("the member list", within, func() error {
		r := g.ctl(g.url(names[0]), "member", "list")
		if r.Code != 0 {
			return r.Err()
		}
		var got []string
		for line := range strings.Lines(r.Stdout) { // ID, status, name, peer URLs, client URLs, learner
			if f := strings.Split(strings.TrimSpace(line), ", "); len(f) > 4 {
				got = append(got, f[2]+" "+f[1]+" "+f[4])
			}
		}
		slices.Sort(got)
		if slices.Sort(want); !slices.Equal(got, want) {
			return fmt.Errorf("the members are %q, want %q", got, want)
		}
		return nil
	})
}
