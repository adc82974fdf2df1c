package srvboot

import "testing"

// A member that has not published itself yet has a number for a name; its peer URL says which node it is.
func TestEntryNode(t *testing.T) {
	for _, c := range []struct {
		entry MemberEntry
		want  string
	}{
		{MemberEntry{Name: "1", PeerURLs: []string{"https://infra1.rack1.example.com:2380"}}, "infra1"},
		{MemberEntry{PeerURLs: []string{"https://infra1-peer.rack1.example.com:2380"}}, "infra1"},
		{MemberEntry{Name: "infra1", PeerURLs: []string{"https://infra1.rack1.example.com:2380"}}, "infra1"},
		{MemberEntry{Name: "infra1", PeerURLs: []string{"https://10.0.1.11:2380"}}, "infra1"},
		{MemberEntry{Name: "infra1"}, "infra1"},
	} {
		if got := entryNode(c.entry); got != c.want {
			t.Errorf("%+v: got %q, want %q", c.entry, got, c.want)
		}
	}
}
