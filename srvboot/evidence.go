package srvboot

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

const (
	rosterFile   = "roster.json"
	snapshotsDir = "snapshots"
)

// evidence lists what on this disk speaks of an earlier life, each with what was seen. A marker that has accepted
// nothing more than a genesis is no such thing: it belongs to the birth that is going on, and its promise and
// acceptance are told apart from evidence (State.Promised, State.Accepted). Whatever cannot be read counts.
func (d *Disk) evidence(f DiskFacts, class etcdDir) []string {
	var out []string
	add := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	if f.MemoryError != "" {
		add("%s", f.MemoryError)
	}
	if f.Marker != nil && started(f.Marker.Phase) {
		add("%s: phase %s, member %s", d.path(markerFile), f.Marker.Phase, f.Marker.MemberID)
	}
	// A stamp alone is evidence only together with the phase above.
	if class.data != None && class.data != Stamped {
		add("%s: %s", d.EtcdDir(), class.why)
	}
	for _, p := range d.asides() {
		add("%s: data set aside", p)
	}
	if what := snapshotEvidence(d.path(snapshotsDir)); what != "" {
		add("%s", what)
	}
	if what := rosterEvidence(d.path(rosterFile), d.o.SrvName); what != "" {
		add("%s", what)
	}
	if what := wordEvidence(f.Seen, d.o.SrvName); what != "" {
		add("%s: %s", d.path(seenFile), what)
	}
	return out
}

// wordEvidence looks for what a person said of the nodes of a cluster of an srv-name, which lived then.
func wordEvidence(s Seen, srvName string) string {
	for _, node := range slices.Sorted(maps.Keys(s.Tombstones)) {
		if t := s.Tombstones[node]; t.isIn(srvName) {
			return fmt.Sprintf("a person's word on %s in cluster %s", node, t.ClusterID)
		}
	}
	return ""
}

// asides lists the data that was set aside, beside the etcd directory and within it.
func (d *Disk) asides() []string {
	var out []string
	for _, in := range []struct{ dir, prefix string }{
		{d.o.Dir, etcdDirName + "." + asidePrefix}, {d.EtcdDir(), asidePrefix},
	} {
		entries, err := os.ReadDir(in.dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			out = append(out, err.Error())
		}
		for _, e := range entries {
			if strings.HasPrefix(e.Name(), in.prefix) {
				out = append(out, filepath.Join(in.dir, e.Name()))
			}
		}
	}
	return out
}

func snapshotEvidence(dir string) string {
	entries, err := os.ReadDir(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return ""
	case err != nil:
		return err.Error()
	}
	for _, e := range entries {
		if e.Name() != "lost+found" && !strings.HasPrefix(e.Name(), ".") {
			return fmt.Sprintf("%s: %d entries, such as %s", dir, len(entries), e.Name())
		}
	}
	return ""
}

// rosterEvidence looks for members anywhere in the roster, so that it need not know its format: a later one counts. What
// the roster says to be of another cluster of the domain is not this node's life.
func rosterEvidence(path, srvName string) string {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return ""
	}
	var v any
	if err == nil {
		err = json.Unmarshal(data, &v)
	}
	if err != nil {
		return fmt.Sprintf("%s cannot be read: %v", path, err)
	}
	if n := countMembers(v, srvName); n > 0 {
		return fmt.Sprintf("%s names %d members", path, n)
	}
	return ""
}

// countMembers counts the elements of every array called members, at any depth, but for objects whose cluster is
// another one.
func countMembers(v any, srvName string) int {
	n := 0
	switch v := v.(type) {
	case map[string]any:
		for name, value := range v {
			if of, ok := value.(string); ok && strings.EqualFold(name, "cluster") && of != srvName {
				return 0
			}
		}
		for name, value := range v {
			if list, ok := value.([]any); ok && strings.EqualFold(name, "members") {
				n += len(list)
			} else {
				n += countMembers(value, srvName)
			}
		}
	case []any:
		for _, value := range v {
			n += countMembers(value, srvName)
		}
	}
	return n
}
