package zone

import (
	"testing"

	"github.com/etcd-dns/etcd-dns/roster"
)

// FuzzFollow lets whatever a stranger's etcd says of its members into a zone: the zone is compiled all the same, with the
// own cluster's names as they were.
func FuzzFollow(f *testing.F) {
	f.Add("etcd1", "https://10.0.9.1:2380", "http://e1.example.net:2379", "etcd1", "https://10.0.9.1:2380", "http://e1.example.net:2379")
	f.Add("infra0", "http://infra0.rack1.example.org:1", "http://localhost:2379", "infra0-peer", "https://[fd00::1%25eth0]:2380", "https://[::ffff:10.0.0.1]:2379")
	f.Add("7", "http://7.rack1.example.org.:2380", "http://rack1.example.org:2379", "A_b", "http://_tcp.rack1.example.org:2380", "unix://x")
	f.Add("x", "http://x-peer.rack1.example.org:2380", "http://10.0.0.1:2379", "x", "http://10.0.0.2:2380", "http://10.0.0.3:2379")
	src := sources(f)["born"]
	want := mustCompile(f, src.Roster, src.Options)
	f.Fuzz(func(t *testing.T, name1, peer1, client1, name2, peer2, client2 string) {
		r := src.Roster.Clone()
		r.Clusters = append(r.Clusters, roster.Cluster{Name: "old", Outside: true})
		r, _ = r.Follow("old", roster.Followed{ClusterID: "c", Index: 1, Members: []roster.FollowedMember{
			{ID: "00000000000000a1", Name: name1, PeerURLs: []string{peer1}, ClientURLs: []string{client1, client2}, Serving: true},
			{ID: "00000000000000a2", Name: name2, PeerURLs: []string{peer2, peer1}, ClientURLs: []string{client2}},
		}}, func(label string) bool { _, taken := hostAddrs(r, label+"."+r.Domain); return taken })
		s, err := Compile(r, src.Options, testSerial)
		if err != nil {
			t.Fatal(err)
		}
		for _, q := range []string{server, client, "infra0." + apex, apex} {
			for _, qtype := range []uint16{1, 28, 33} {
				if got, was := s.Lookup(q, qtype, false), want.Lookup(q, qtype, false); len(got.Answer) != len(was.Answer) || got.Rcode != was.Rcode {
					t.Errorf("%s type %d: %v, was %v", q, qtype, got.Answer, was.Answer)
				}
			}
		}
	})
}
