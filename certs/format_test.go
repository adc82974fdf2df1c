package certs

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the golden files anew")

const goldenBundle = "testdata/bundle-format1.json"

// TestGoldenBundle keeps every bundle ever written readable. The file has fields of a later version at every level.
func TestGoldenBundle(t *testing.T) {
	if *update {
		writeGolden(t)
	}
	raw := readFile(t, goldenBundle)
	b, err := openBundle(raw)
	if err != nil {
		t.Fatal(err)
	}
	if b.Domain() != "rack1.example.com." || len(b.Names("")) != 3 || b.Names("foo")[0] != "other" || b.Generation() != 1 || !b.Plain() {
		t.Errorf("read wrongly: %+v", b.body.Clusters)
	}
	if slot, ok := b.Slot("other"); !ok || slot != 3 {
		t.Errorf("slot %d %v", slot, ok)
	}
	again, err := b.Marshal()
	if err != nil || !bytes.Equal(again, raw) {
		t.Errorf("unknown fields or layout were not kept: %v", err)
	}
	for _, field := range []string{"envelope_field_of_2031", "field_of_2031", "member_field_of_2031"} {
		if !bytes.Contains(again, []byte(field)) {
			t.Errorf("%s is lost", field)
		}
	}
	if _, _, err := b.IssueClient("alice", ClientOptions{Now: b.Created}); err != nil {
		t.Errorf("the golden bundle cannot issue: %v", err)
	}
}

func writeGolden(t *testing.T) {
	b, key, err := NewBundle(InitOptions{Domain: testDomain, Plain: true,
		Names: map[string][]string{"": {"infra0", "infra1", "infra2"}, "foo": {"other"}}})
	if err != nil {
		t.Fatal(err)
	}
	raw := reseal(t, b, key, func(signed map[string]any) {
		signed["field_of_2031"] = map[string]any{"x": "<&>"}
		signed["clusters"].([]any)[0].(map[string]any)["members"].([]any)[0].(map[string]any)["member_field_of_2031"] = 1
	})
	raw = bytes.Replace(raw, []byte(`"format": 1,`), []byte("\"format\": 1,\n  \"envelope_field_of_2031\": true,"), 1)
	if err := os.WriteFile(goldenBundle, raw, 0o600); err != nil {
		t.Fatal(err)
	}
}

// reseal changes the signed part and signs it again with the true root.
func reseal(t testing.TB, b *Bundle, key RootKey, change func(signed map[string]any)) []byte {
	t.Helper()
	body, err := json.Marshal(b.body)
	if err != nil {
		t.Fatal(err)
	}
	var signed map[string]any
	if err := json.Unmarshal(body, &signed); err != nil {
		t.Fatal(err)
	}
	change(signed)
	if body, err = json.Marshal(signed); err != nil {
		t.Fatal(err)
	}
	raw, err := sealSigned(body, rootOf(t, b, key))
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func TestRoundTrip(t *testing.T) {
	b, _ := newTestBundle(t)
	raw, err := b.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	path := writeFile(t, filepath.Join(t.TempDir(), "cluster.bundle"), raw, 0o600)
	got, err := LoadBundle(path)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(b.body, got.body); d != "" {
		t.Error(d)
	}
	if !bytes.Equal(b.RootPEM(), got.RootPEM()) || b.ID() != got.ID() {
		t.Error("roots or id differ")
	}
	// A person may reformat the file; the signature is over the content.
	var compact bytes.Buffer
	if err := json.Compact(&compact, raw); err != nil {
		t.Fatal(err)
	}
	if _, err := openBundle(compact.Bytes()); err != nil {
		t.Errorf("compacted: %v", err)
	}
}

// TestTamper flips bits of every octet of the file.
func TestTamper(t *testing.T) {
	b, _ := newTestBundle(t)
	raw, refused := b.raw, 0
	for i, old := range raw {
		for _, mask := range []byte{1 << (i % 8), 0x20} {
			bad := bytes.Clone(raw)
			bad[i] ^= mask
			if unicode.IsSpace(rune(old)) && unicode.IsSpace(rune(bad[i])) {
				continue // white space between fields means nothing
			}
			if _, err := openBundle(bad); err == nil {
				t.Fatalf("octet %d changed from %q to %q was accepted: %.60q", i, old, bad[i], bad[max(0, i-30):])
			}
			refused++
		}
	}
	if refused < len(raw) {
		t.Errorf("only %d changes tried on %d octets", refused, len(raw))
	}
}

func TestOpenBundleRefuses(t *testing.T) {
	b, key := newTestBundle(t)
	other, otherKey := newTestBundle(t)
	good := string(b.raw)
	foreign := reseal(t, other, otherKey, func(s map[string]any) { s["domain"] = "rack2.example.com." })
	edit := func(change func(map[string]any)) string { return string(reseal(t, b, key, change)) }
	set := func(field string, value any) string { return edit(func(s map[string]any) { s[field] = value }) }
	theirs := func(field string) string {
		return edit(func(s map[string]any) {
			var env struct{ Signed map[string]any }
			if err := json.Unmarshal(foreign, &env); err != nil {
				t.Fatal(err)
			}
			s[field] = env.Signed[field]
		})
	}
	first := func(s map[string]any, set string) map[string]any { return s[set].([]any)[0].(map[string]any) }
	tests := []struct{ name, raw, want string }{
		{"empty", "", "not JSON"},
		{"null", "null", "format"},
		{"array", "[]", "not JSON"},
		{"no format", strings.Replace(good, `"format"`, `"formatt"`, 1), "format"},
		{"format 0", strings.Replace(good, `"format": 1`, `"format": 0`, 1), "format"},
		{"newer format", strings.Replace(good, `"format": 1`, `"format": 2`, 1), "format 2 is newer"},
		{"cut short", good[:len(good)/2], "not JSON"},
		{"no signature", good[:strings.Index(good, `"signatures"`)] + `"signatures": []}`, "not signed"},
		{"signed by another root", string(foreign)[:strings.Index(string(foreign), `"signatures"`)] + good[strings.Index(good, `"signatures"`):], "signed by root"},
		{"bad id", set("id", "x"), "id"},
		{"relative domain", set("domain", "rack1.example.com"), "domain"},
		{"upper-case domain", set("domain", "Rack1.example.com."), "domain"},
		{"generation 0", set("generation", 0), "generation"},
		{"born before made", set("birth_until", "2001-01-01T00:00:00Z"), "birth_until"},
		{"another rack's peer CA", theirs("peer_ca"), "no root signed"},
		{"client CA as peer CA", edit(func(s map[string]any) { s["peer_ca"] = s["client_ca"] }), "not a peer CA"},
		{"key of another CA", edit(func(s map[string]any) { first(s, "peer_ca")["key"] = first(s, "client_ca")["key"] }), "does not belong"},
		{"CA without key", edit(func(s map[string]any) { delete(first(s, "peer_ca"), "key") }), "peer CA"},
		{"no primary", edit(func(s map[string]any) { first(s, "peer_ca")["state"] = "trusted" }), "0 primary"},
		{"two primaries", edit(func(s map[string]any) { s["peer_ca"] = append(s["peer_ca"].([]any), first(s, "peer_ca")) }), "2 primary"},
		{"unknown state", edit(func(s map[string]any) { first(s, "peer_ca")["state"] = "odd" }), "odd"},
		{"short gossip key", edit(func(s map[string]any) { first(s, "gossip_keys")["secret"] = "AAAA" }), "gossip_keys"},
		{"no TSIG key", set("tsig_keys", nil), "tsig_keys"},
		{"no cookie secret", set("cookie_secrets", nil), "cookie_secrets"},
		{"no zone key", set("zone_keys", nil), "zone_keys"},
		{"no members", set("clusters", nil), "no members"},
		{"slot taken twice", edit(func(s map[string]any) {
			for _, m := range first(s, "clusters")["members"].([]any) {
				m.(map[string]any)["slot"] = 5
			}
		}), "slot 5"},
		{"slot 64", edit(func(s map[string]any) { first(s, "clusters")["members"].([]any)[0].(map[string]any)["slot"] = 64 }), "slot 64"},
		{"upper-case member", edit(func(s map[string]any) {
			first(s, "clusters")["members"].([]any)[0].(map[string]any)["name"] = "Infra0"
		}), "Infra0"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := openBundle([]byte(tt.raw))
			if err == nil {
				t.Fatal("accepted")
			}
			if !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %q does not say %q", err, tt.want)
			}
			mustHint(t, err)
		})
	}
	if _, err := openBundle([]byte(set("anything", "else"))); err != nil {
		t.Errorf("an unknown field was refused: %v", err) // or the refusals above prove nothing
	}
}

func FuzzLoadBundle(f *testing.F) {
	golden, err := os.ReadFile(goldenBundle)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(golden)
	f.Add([]byte(`{"format":1,"signed":{"roots":[{"state":"primary","cert":""}]},"signatures":[{"root":"","value":""}]}`))
	f.Add([]byte(`{"format":2}`))
	known := content(golden) // the only content whose root signed anything
	f.Fuzz(func(t *testing.T, raw []byte) {
		b, err := openBundle(raw)
		if err != nil {
			mustHint(t, err)
			return
		}
		if content(b.raw) != known {
			t.Fatal("accepted content that the root did not sign")
		}
	})
}

// content is what the roots signed, without white space.
func content(raw []byte) string {
	var env map[string]json.RawMessage
	var out bytes.Buffer
	if json.Unmarshal(raw, &env) != nil || json.Compact(&out, env["signed"]) != nil {
		return ""
	}
	return out.String()
}
