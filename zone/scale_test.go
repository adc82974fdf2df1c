package zone

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/etcd-dns/etcd-dns/roster"
	"github.com/etcd-dns/etcd-dns/zone/front"
	"github.com/etcd-dns/etcd-dns/zone/sign"
)

// manyClusters is a domain with n clusters of three members each, every member on a machine of its own.
func manyClusters(n int) roster.Roster {
	r := roster.Roster{Domain: apex}
	for i := range n {
		c := roster.Cluster{Name: fmt.Sprintf("c%06d", i), Knowledge: roster.Born}
		for j := range 3 {
			name := fmt.Sprintf("n%06d-%d", i, j)
			r.Nodes = append(r.Nodes, roster.Node{Name: name, Slot: roster.NoSlot, Addrs: []netip.Addr{netip.AddrFrom4([4]byte{10, byte(i >> 14), byte(i >> 6), byte(i<<2 | j)})}})
			c.Members = append(c.Members, roster.Member{Node: name, PeerHost: name, PeerPort: 2380, ClientPort: 2379, Serving: true})
		}
		r.Clusters = append(r.Clusters, c)
	}
	for i := range 2 {
		r.Nodes[i].Slot = i
		r.NameServers = append(r.NameServers, roster.NameServer{Name: r.Nodes[i].Name + "." + apex})
	}
	return r
}

// readdress returns the roster with another address for one node; it shares the rest.
func readdress(r roster.Roster, i, round int) roster.Roster {
	r.Nodes = slices.Clone(r.Nodes)
	r.Nodes[i].Addrs = []netip.Addr{netip.AddrFrom4([4]byte{172, 16, byte(round >> 8), byte(round)})}
	return r
}

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// BenchmarkPublish changes one node of a domain and waits until its packed answer is the new one. It reports the
// median and the longest change, the memory of a name (roster included) and the time of the first compilation.
func BenchmarkPublish(b *testing.B) {
	for _, size := range []struct {
		name     string
		clusters int
		signer   sign.Signer
	}{
		{"100nodes", 33, nil},
		{"100nodes/signed", 33, signers(b, time.Now())[0]},
		{"100000clusters", 100000, nil},
		{"100000clusters/signed", 100000, signers(b, time.Now())[0]},
	} {
		b.Run(size.name, func(b *testing.B) {
			before := heap()
			r := manyClusters(size.clusters)
			store := NewStore()
			p := NewPublisher(store, Options{Signer: size.signer}, NewSerials(filepath.Join(b.TempDir(), "serial"), 0, time.Now))
			p.serials.file.write = func(string, []byte) error { return nil }
			start := time.Now()
			if _, err := p.Publish(r, nil); err != nil {
				b.Fatal(err)
			}
			first := time.Since(start)
			names := store.Load().names.count
			memory := float64(heap()-before) / float64(names)
			var took []time.Duration
			for b.Loop() {
				b.StopTimer()
				i := len(took)
				r = readdress(r, (i*7919)%len(r.Nodes), i)
				b.StartTimer()
				start := time.Now()
				if _, err := p.Publish(r, nil); err != nil {
					b.Fatal(err)
				}
				took = append(took, time.Since(start))
			}
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "median-ms")
			b.ReportMetric(float64(took[len(took)-1].Microseconds())/1000, "longest-ms")
			b.ReportMetric(float64(first.Milliseconds()), "first-ms")
			b.ReportMetric(memory, "B/name")
			b.ReportMetric(float64(names), "names")
		})
	}
}

// BenchmarkAnswer asks for every name of a domain in turn, in an order that no cache likes, alone or in batches.
func BenchmarkAnswer(b *testing.B) {
	for _, size := range []struct{ clusters, batch int }{{33, 1}, {33, 8}, {100000, 1}, {100000, 8}} {
		b.Run(fmt.Sprintf("%d/%d", size.clusters, size.batch), func(b *testing.B) {
			clusters := size.clusters
			r := manyClusters(clusters)
			s := mustCompile(b, r, Options{})
			var names [][]byte
			for i, c := range r.Clusters {
				if i%(1+clusters/20000) == 0 {
					w, _ := appendWire(nil, "_etcd-server-ssl-"+c.Name+"._tcp."+apex)
					names = append(names, w)
				}
			}
			msg := make([]byte, 1232)
			q := &front.Question{Type: dns.TypeSRV}
			zones := zonesOf(&Store{})
			zones.All()[0].current.Store(s)
			questions := make([][]byte, size.batch)
			i := 0
			b.ReportAllocs()
			for b.Loop() {
				for k := range questions {
					questions[k] = names[i%len(names)]
					i += 7919
				}
				if size.batch > 1 {
					zones.Warm(questions)
				}
				for _, q.Name = range questions {
					n := headerLen + copy(msg[headerLen:], q.Name) + 4
					if zones.Answer(q, msg, n, 1232).Len == 0 {
						b.Fatal("a miss")
					}
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*size.batch), "ns/answer")
		})
	}
}
