//go:build linux

package lab

import (
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

func TestMain(m *testing.M) {
	if role := os.Getenv(standInRole); role != "" {
		os.Exit(runStandIn(role))
	}
	os.Exit(run(m))
}

func run(m *testing.M) int {
	// Debian's name servers live where the path of a plain su does not lead.
	if err := os.Setenv("PATH", os.Getenv("PATH")+":/usr/sbin:/sbin"); err != nil {
		fmt.Fprintf(os.Stderr, "lab: %v\n", err)
		return 1
	}
	if why := missing(); why != "" {
		fmt.Fprintf(os.Stderr, "lab: SKIPPED, every test of it: %s\n", why)
		return m.Run()
	}
	unlock, err := claim()
	if err != nil {
		fmt.Fprintf(os.Stderr, "lab: %v\n", err)
		return 1
	}
	defer unlock()
	if err := sweep(); err != nil {
		fmt.Fprintf(os.Stderr, "lab: what a dead run left behind: %v\n", err)
		return 1
	}
	defer func() { _ = os.RemoveAll(processDir()) }()
	if err := moreAtATime(); err != nil {
		fmt.Fprintf(os.Stderr, "lab: %v\n", err)
		return 1
	}
	return m.Run()
}

// moreAtATime has half as many racks again at a time as there are processors, unless -parallel says how many: racks wait more than they
// work.
func moreAtATime() error {
	flag.Parse()
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "test.parallel" })
	if given {
		return nil
	}
	return flag.Set("test.parallel", strconv.Itoa((3*runtime.GOMAXPROCS(0)+1)/2))
}

// tools are the programs that the lab runs, all of them installed by lab/install.sh.
var tools = []string{"ip", "nsd", "unbound", "unbound-control", "knotd", "named", "named-checkzone", "kzonecheck", "dnssec-verify", "ldns-verify-zone", "ldns-signzone", "dnsviz", "dig", "etcdctl", "etcd",
	"kresd", "pdns_recursor", "dnsmasq", "curl"}

// missing says what the lab lacks here, or nothing if it can be built.
func missing() string {
	if os.Geteuid() != 0 {
		return "network namespaces need root; try: sudo -E go test ./lab"
	}
	var absent []string
	for _, tool := range tools {
		if _, err := exec.LookPath(tool); err != nil {
			absent = append(absent, tool)
		}
	}
	if len(absent) > 0 {
		return fmt.Sprintf("not installed: %s; try: lab/install.sh", strings.Join(absent, " "))
	}
	return forbidden()
}

// forbidden says why root itself may not make network namespaces, as in a container without the capabilities.
var forbidden = sync.OnceValue(func() string {
	name := fmt.Sprintf("edl%d-probe", os.Getpid())
	if out, err := exec.Command("ip", "netns", "add", name).CombinedOutput(); err != nil {
		return fmt.Sprintf("network namespaces are not allowed here: %s", strings.TrimSpace(string(out)))
	}
	if out, err := exec.Command("ip", "netns", "delete", name).CombinedOutput(); err != nil {
		return fmt.Sprintf("network namespaces cannot be deleted here: %s", strings.TrimSpace(string(out)))
	}
	return ""
})

// need skips the test when the lab cannot be built.
func need(t testing.TB) {
	t.Helper()
	if why := missing(); why != "" {
		unable(t, why)
	}
}

// unable skips the test, and fails it instead where everything should be there: on Debian as root with CI=true, after
// lab/install.sh.
func unable(t testing.TB, why string) {
	t.Helper()
	_, noDebian := os.Stat("/etc/debian_version")
	if os.Getenv("CI") == "true" && os.Geteuid() == 0 && noDebian == nil {
		t.Fatalf("the lab cannot be built: %s", why)
	}
	t.Skipf("SKIPPED: %s", why)
}

// errNoProduct says that this tree holds no command to test.
var errNoProduct = errors.New("cmd/etcd-dns does not exist in this tree")

// product builds the command once per test process and returns its path.
var product = sync.OnceValues(func() (string, error) {
	if _, err := os.Stat("../cmd/etcd-dns"); err != nil {
		return "", errNoProduct
	}
	bin := filepath.Join(processDir(), "etcd-dns")
	return bin, goBuild(bin, "../cmd/etcd-dns")
})

func goBuild(bin, pkg string, flags ...string) error {
	// The go command does not know that this test hangs on what it builds here. It notes the folders that a test reads, though,
	// and runs it again when a file in them changed.
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && strings.HasPrefix(d.Name(), ".") && path != ".." {
			return filepath.SkipDir
		}
		return err
	})
	if err != nil {
		return err
	}
	out, err := exec.Command("go", slices.Concat([]string{"build"}, flags, []string{"-o", bin, pkg})...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("go build %s: %w\n%s", pkg, err, out)
	}
	return nil
}

// needProduct returns what build made, product or clockedProduct.
func needProduct(t testing.TB, build func() (string, error)) string {
	t.Helper()
	bin, err := build()
	if errors.Is(err, errNoProduct) {
		t.Skipf("SKIPPED: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return bin
}
