package srvboot

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func fuzzState[T any](f *testing.F, seeds ...string) {
	for _, s := range append(seeds, "", "null", "{}", `{"format":2}`, `{"format":1,"FORMAT":1,"x":{"y":[1e400]}}`, "\x00\x00") {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		first := any(new(T)).(stateFile)
		if decodeState(data, first) != nil {
			return
		}
		encoded, err := json.MarshalIndent(first, "", "  ")
		if err != nil {
			t.Fatalf("%q was read and cannot be written: %v", data, err)
		}
		second := any(new(T)).(stateFile)
		if err := decodeState(encoded, second); err != nil {
			t.Fatalf("%q was written as %q, which cannot be read: %v", data, encoded, err)
		}
		if diff := cmp.Diff(canonical(t, first), canonical(t, second)); diff != "" {
			t.Errorf("%q did not survive: -read +read again\n%s", data, diff)
		}
		// Whatever this program does not know is still there.
		var before, after map[string]any
		if json.Unmarshal(data, &before) != nil || json.Unmarshal(encoded, &after) != nil {
			return // a number too large for a float64
		}
		for name, v := range before {
			if !knownField(reflect.TypeFor[T](), name) && !reflect.DeepEqual(v, after[name]) {
				t.Errorf("unknown field %q was %v, is %v", name, v, after[name])
			}
		}
	})
}

// canonical is the value with its unknown fields spelled as the encoder spells them.
func canonical(t *testing.T, v any) string {
	t.Helper()
	var generic any
	d := json.NewDecoder(strings.NewReader(string(mustJSON(t, v))))
	d.UseNumber()
	do(t, d.Decode(&generic))
	return string(mustJSON(t, generic))
}

func FuzzMarker(f *testing.F) {
	fuzzState[Marker](f, `{"format":1,"bundle":"b","srv_name":"","node":"n0","phase":"accepted","promised":{"n":1,"by":"n0"},"accepted":{"n":1,"by":"n0","genesis":{"id":"i","generation":1,"members":[{"name":"n0","peer_url":"https://n0:2380"}],"digest":"d","cluster_id":"c"}},"stamp":"s","etcd_dev":18446744073709551615,"later":[null]}`)
}

func FuzzIdentity(f *testing.F) {
	fuzzState[Identity](f, `{"format":1,"life":2,"boot":"b","previous":"a","machine":"m","index":5,"term":1,"later":"x"}`)
}

func FuzzSeen(f *testing.F) {
	fuzzState[Seen](f, `{"format":1,"nodes":{"n1":{"member_id":"1","life":2,"boot":"b","machine":"m","index":3}},"later":{"a":1}}`)
}
