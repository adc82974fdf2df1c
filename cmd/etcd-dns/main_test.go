package main

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// The test binary is etcd-dns: scripts run the real program as real processes.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == memberCommand { // a node's child is /proc/self/exe, so this binary again
		os.Exit(run(os.Args[1:]))
	}
	testscript.Main(m, map[string]func(){"etcd-dns": main})
}

// scriptNetwork gives each script a loopback network of its own; the demo's are 127.0.1.0 to 127.0.50.0.
const scriptNetwork = 60

func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/script/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	for i, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			testscript.Run(t, testscript.Params{
				Files: []string{file},
				Setup: func(env *testscript.Env) error {
					env.Setenv("NET", fmt.Sprintf("127.0.%d", scriptNetwork+i))
					env.Setenv("TMPDIR", t.TempDir())
					return nil
				},
				Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
					"waitfile": waitFile, "hold": hold, "gone": gone,
				},
			})
		})
	}
}

// waitDeadline bounds every wait of a script; the machine that runs it may be busy.
const waitDeadline = time.Minute

func await(ts *testscript.TestScript, what string, done func() bool) {
	for end := time.Now().Add(waitDeadline); !done(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			ts.Fatalf("%s did not happen within %s", what, waitDeadline)
		}
	}
}

// waitFile waits until a file holds a text.
func waitFile(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: waitfile FILE TEXT")
	}
	await(ts, fmt.Sprintf("%q in %s", args[1], args[0]), func() bool {
		text, err := os.ReadFile(ts.MkAbs(args[0]))
		return err == nil && strings.Contains(string(text), args[1])
	})
}

// hold keeps a TCP port busy until the script ends.
func hold(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: hold ADDRESS:PORT")
	}
	l, err := net.Listen("tcp", args[0])
	ts.Check(err)
	ts.Defer(func() { _ = l.Close() })
	ts.Setenv("HOLDER", strconv.Itoa(os.Getpid()))
}

// gone fails if a process still has a text in its command line or environment.
func gone(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: gone TEXT")
	}
	await(ts, "the end of every process of "+args[0], func() bool { return len(processes(args[0])) == 0 })
}

// processes lists those whose command line or environment holds text, but for this one.
func processes(text string) (out []string) {
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, d := range dirs {
		if d == fmt.Sprintf("/proc/%d", os.Getpid()) {
			continue
		}
		cmdline, _ := os.ReadFile(d + "/cmdline")
		environ, _ := os.ReadFile(d + "/environ")
		if strings.Contains(string(cmdline), text) || strings.Contains(string(environ), text) {
			out = append(out, d)
		}
	}
	return out
}
