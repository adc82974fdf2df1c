package zone

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/coredns/coredns/plugin/file"
	"github.com/google/go-cmp/cmp"

	"github.com/etcd-dns/etcd-dns/roster"
)

var update = flag.Bool("update", false, "rewrite testdata/*.zone; only commit the changes if you understand what caused them")

// source is one testdata/NAME.roster.json.
type source struct {
	Options Options
	Roster  roster.Roster
}

func sources(t testing.TB) map[string]source {
	t.Helper()
	files, err := filepath.Glob("testdata/*.roster.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("no rosters in testdata (%v)", err)
	}
	out := map[string]source{}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		dec := json.NewDecoder(bytes.NewReader(b))
		dec.DisallowUnknownFields()
		var s source
		if err := dec.Decode(&s); err != nil {
			t.Fatalf("%s: %v", f, err)
		}
		out[strings.TrimSuffix(filepath.Base(f), ".roster.json")] = s
	}
	return out
}

// load compiles testdata/NAME.roster.json.
func load(t testing.TB, name string) *Snapshot {
	t.Helper()
	s, ok := sources(t)[name]
	if !ok {
		t.Fatalf("no testdata/%s.roster.json", name)
	}
	return mustCompile(t, s.Roster, s.Options)
}

const testSerial = 1789312064

func mustCompile(t testing.TB, r roster.Roster, o Options) *Snapshot {
	t.Helper()
	s, err := Compile(r, o, testSerial)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func text(t testing.TB, s *Snapshot) string {
	t.Helper()
	var b bytes.Buffer
	n, err := s.WriteTo(&b)
	if err != nil || n != int64(b.Len()) {
		t.Fatalf("WriteTo = %d, %v; wrote %d", n, err, b.Len())
	}
	return b.String()
}

func TestGolden(t *testing.T) {
	for name, src := range sources(t) {
		t.Run(name, func(t *testing.T) {
			got := text(t, mustCompile(t, src.Roster, src.Options))
			golden := filepath.Join("testdata", name+".zone")
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(string(want), got); d != "" {
				t.Errorf("zone (-want +got):\n%s", d)
			}
			// The text is a zone that another server takes.
			if _, err := file.Parse(strings.NewReader(got), src.Roster.Domain, golden, 0); err != nil {
				t.Errorf("plugin file refuses the zone: %v", err)
			}
		})
	}
}
