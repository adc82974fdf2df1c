package roster

import (
	"fmt"
	"strings"
	"testing"
)

// members64 is a list of as many members as a domain may have nodes, with long names.
func members64() (f Followed) {
	f = Followed{ClusterID: "00000000000000c1", Index: 1<<64 - 1, Contact: true}
	for i := range 64 {
		host := fmt.Sprintf("etcd%d.some-row.some-room.some-data-centre.example.net", i)
		f.Members = append(f.Members, FollowedMember{ID: fmt.Sprintf("%016x", i), Name: host, PeerURLs: []string{"https://" + host + ":2380"},
			ClientURLs: []string{"https://127.0.0.1:2379", "https://" + host + ":2379"}, Serving: true})
	}
	return f
}

func TestFollowedCheck(t *testing.T) {
	many := func(n int) (out []string) {
		for range n {
			out = append(out, "http://10.0.0.1:2379")
		}
		return out
	}
	for _, c := range []struct {
		name string
		edit func(*Followed)
		want string
	}{
		{"64 members", func(*Followed) {}, ""},
		{"65", func(f *Followed) { f.Members = append(f.Members, FollowedMember{ID: "0000000000000fff"}) }, "has 65 members, at most 64"},
		{"none", func(f *Followed) { f.Members = nil }, "no members"},
		{"a cluster ID", func(f *Followed) { f.ClusterID = "C1" }, "cluster ID"},
		{"an ID that is no part of a name", func(f *Followed) { f.Members[0].ID = "-_.0000000000000" }, "member ID"},
		{"an ID twice", func(f *Followed) { f.Members[1].ID = f.Members[0].ID }, "twice or out of order"},
		{"out of order", func(f *Followed) { f.Members[0].ID = "00000000000000ff" }, "twice or out of order"},
		{"eight URLs", func(f *Followed) { f.Members[7].ClientURLs = many(8) }, ""},
		{"nine", func(f *Followed) { f.Members[7].ClientURLs = many(9) }, "has 9 URLs"},
		{"nine for peers", func(f *Followed) { f.Members[7].PeerURLs = many(9) }, "has 9 URLs"},
		{"a huge name", func(f *Followed) { f.Members[0].Name = strings.Repeat("x", 20<<10) }, "octets in JSON"},
		{"a huge URL", func(f *Followed) { f.Members[0].PeerURLs[0] += strings.Repeat("/", 20<<10) }, "octets in JSON"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := members64()
			c.edit(&f)
			if err := f.Check(); (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}
