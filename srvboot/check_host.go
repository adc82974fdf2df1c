package srvboot

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// clockFloor is before this program was written, and clockSpan is longer than it will be run: a clock outside them is
// not set.
func clockFloor() time.Time { return time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC) }

const (
	clockSpan = 25 * 365 * 24 * time.Hour
	// clockSlack allows for machines that set their clocks at different moments.
	clockSlack = 5 * time.Minute
	// clockTolerance is how far clocks may be apart before it is certain that one was never set: a hardware clock that
	// is kept in local time, or that of the machine where the bundle was made. Certificates are backdated by as much.
	clockTolerance = 24 * time.Hour
)

// checkClock finds a clock that is not set. It cannot find one that is an hour off.
func checkClock(_ context.Context, t Target) CheckResult {
	now := t.now()
	const hint = "timedatectl set-ntp true; timedatectl"
	floor := clockFloor()
	if certain := t.NotBefore.Add(-clockTolerance); certain.After(floor) {
		floor = certain
	}
	var f findings
	switch {
	case now.Before(floor):
		f.fail(hint, "the clock says %s, which is before %s", now.UTC().Format(time.RFC3339), floor.UTC().Format(time.RFC3339))
	case now.Before(t.NotBefore.Add(-clockSlack)):
		f.warn(hint, "the clock says %s, which is before %s, when the bundle was made", now.UTC().Format(time.RFC3339), t.NotBefore.UTC().Format(time.RFC3339))
	case now.After(clockFloor().Add(clockSpan)):
		f.fail(hint, "the clock says %s, which is after %s", now.UTC().Format(time.RFC3339), clockFloor().Add(clockSpan).Format(time.RFC3339))
	case t.DataDir != "":
		// Written at every start, so a later time means that the clock went back since.
		info, err := os.Stat(filepath.Join(t.DataDir, identityFile))
		if err == nil && info.ModTime().After(now.Add(clockSlack)) {
			f.warn(hint, "the clock says %s, but this node ran at %s", now.UTC().Format(time.RFC3339), info.ModTime().UTC().Format(time.RFC3339))
		}
	}
	return f.result("%s", now.UTC().Format(time.RFC3339))
}

func checkPortsFree(_ context.Context, t Target) CheckResult {
	listen := t.listeners()
	if len(listen) == 0 {
		return skipped("no listen addresses given")
	}
	var f findings
	ours := 0
	for _, l := range listen {
		err := tryListen(l)
		switch {
		case err == nil:
		case errors.Is(err, unix.EADDRINUSE):
			holder := PortHolder(l.Network, l.Addr)
			if !t.Boot && isThisProgram(holder) {
				ours++
				continue
			}
			if holder == "" {
				holder = "a process that could not be found"
			}
			f.fail(fmt.Sprintf("ss -lnp | grep %s; stop it, or give %s another port", l.Addr, l.What),
				"%s %s, for %s, is held by %s", l.Network, l.Addr, l.What, holder)
		case errors.Is(err, unix.EADDRNOTAVAIL):
			f.fail("ip -brief address; correct the node's address", "%s, for %s, is not an address of this host", l.Addr, l.What)
		case errors.Is(err, unix.EACCES):
			f.fail("setcap cap_net_bind_service=+ep "+executable()+", or AmbientCapabilities=CAP_NET_BIND_SERVICE in the service",
				"this user may not listen on %s %s, for %s", l.Network, l.Addr, l.What)
		default:
			f.fail("ip -brief address", "%s %s, for %s: %v", l.Network, l.Addr, l.What, err)
		}
	}
	if ours > 0 {
		return f.result("%d of %d are free, etcd-dns listens on the others", len(listen)-ours, len(listen))
	}
	return f.result("all %d are free", len(listen))
}

// listeners are the addresses to bind, those of the listen URLs included.
func (t Target) listeners() []Listener {
	var out []Listener
	for _, set := range []struct {
		what string
		urls []string
	}{{"etcd peers", t.ListenPeerURLs}, {"etcd clients", t.ListenClientURLs}} {
		for _, s := range set.urls {
			if u, err := url.Parse(s); err == nil && (u.Scheme == "http" || u.Scheme == "https") {
				out = append(out, Listener{Network: "tcp", Addr: u.Host, What: set.what})
			}
		}
	}
	return append(out, t.Listen...)
}

// tryListen binds and lets go. It does not share the port (SO_REUSEPORT), so it finds those that do.
func tryListen(l Listener) error {
	if strings.HasPrefix(l.Network, "udp") {
		c, err := net.ListenPacket(l.Network, l.Addr)
		if err != nil {
			return err
		}
		return c.Close()
	}
	c, err := net.Listen(l.Network, l.Addr)
	if err != nil {
		return err
	}
	return c.Close()
}

// isThisProgram compares commands: a check beside a running node finds that node's own ports.
func isThisProgram(holder string) bool {
	_, after, ok := strings.Cut(holder, " (pid ")
	pid, _, closed := strings.Cut(after, ")")
	if !ok || !closed || strings.Contains(after, ", ") {
		return false // nobody that can be seen, or several
	}
	theirs, err := os.Stat("/proc/" + pid + "/exe")
	if err != nil {
		return false
	}
	ours, err := os.Stat("/proc/self/exe")
	return err == nil && os.SameFile(ours, theirs)
}

func executable() string {
	if exe, err := os.Executable(); err == nil {
		return exe
	}
	return "etcd-dns"
}

func checkDataDir(_ context.Context, t Target) CheckResult {
	if t.DataDir == "" {
		return skipped("no data directory given")
	}
	var f findings
	info, err := os.Stat(t.DataDir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		t.checkDataParent(&f)
	case err != nil:
		f.fail("ls -ld "+t.DataDir, "data directory: %v", err)
	case !info.IsDir():
		f.fail("name a directory with data", "the data directory %s is a file", t.DataDir)
	default:
		t.checkDataContent(&f, info)
	}
	kind, err := volatileFS(filepath.Join(t.DataDir, etcdDirName))
	switch {
	case err != nil:
		f.fail("df "+t.DataDir, "%v", err)
	case kind != "" && t.Ephemeral:
		f.warn("put data on a disk", "the data directory %s is on %s and does not outlive a power cut, as the configuration allows", t.DataDir, kind)
	case kind != "":
		f.fail("put data on a disk, or allow it with: ephemeral yes", "the data directory %s is on %s, which does not outlive a power cut", t.DataDir, kind)
	}
	return f.result("%s is ours and writable", t.DataDir)
}

// checkDataParent is for a data directory that is still to be made.
func (t Target) checkDataParent(f *findings) {
	parent := filepath.Dir(t.DataDir)
	for {
		err := unix.Access(parent, unix.W_OK|unix.X_OK)
		if err == nil {
			return
		}
		next := filepath.Dir(parent)
		if !errors.Is(err, fs.ErrNotExist) || next == parent {
			f.fail("install -d -m 700 -o USER "+t.DataDir, "the data directory %s does not exist and cannot be made in %s: %v", t.DataDir, parent, err)
			return
		}
		parent = next
	}
}

func (t Target) checkDataContent(f *findings, info fs.FileInfo) {
	if err := unix.Access(t.DataDir, unix.R_OK|unix.W_OK|unix.X_OK); err != nil {
		f.fail(fmt.Sprintf("ls -ld %s; chown -R USER %s", t.DataDir, t.DataDir), "the data directory %s cannot be written: %v", t.DataDir, err)
	}
	if mode := info.Mode().Perm(); mode&0o022 != 0 {
		f.warn("chmod 700 "+t.DataDir, "the data directory %s has mode %04o: others may write it, expected 0700", t.DataDir, mode)
	}
	d := NewDisk(DiskOptions{Dir: t.DataDir, Node: t.Node, Bundle: t.Bundle, SrvName: t.SrvName})
	if _, _, _, bad := d.load(); bad != nil {
		text, hint := explained(bad)
		f.fail(cmp.Or(hint, hintDamaged), "%s", text)
	}
}
