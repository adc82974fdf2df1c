//go:build linux

package front

import (
	"crypto/rand"
	"net"
	"sync"
	"testing"
	"unsafe"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"
)

// A whole cycle, from the kernel and back to it, allocates nothing.
func TestReaderDoesNotAllocate(t *testing.T) {
	for _, address := range []string{"127.0.0.1", "::"} {
		t.Run(address, func(t *testing.T) {
			f, _ := testFront(t, address, 1)
			client, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(at(f, "127.0.0.1")))
			if err != nil {
				t.Fatal(err)
			}
			if err := f.Steer(true); err != nil {
				t.Fatal(err)
			}
			s := f.group.udp[0]
			s.batch = newBatch(s, f)
			q := query1(t, hot, dns.TypeSRV, withOPT(1232, true, cookieOption(testClientCookie)))
			in := make([]byte, 4096)
			var answered, failed int
			if err := s.raw.Control(func(fd uintptr) {
				allocs := testing.AllocsPerRun(200, func() {
					for range 3 {
						if _, err := client.Write(q); err != nil {
							failed++
						}
					}
					n, err := s.batch.cycle(fd)
					if n != 3 || err != nil {
						failed++
					}
					for range 3 {
						if n, err := client.Read(in); err == nil && n > len(q) {
							answered++
						}
					}
					if n, err = s.batch.cycle(fd); n != 0 || err != nil {
						failed++
					}
				})
				if allocs != 0 {
					t.Errorf("%s: %v allocations for three queries", address, allocs)
				}
			}); err != nil {
				t.Fatal(err)
			}
			if failed > 0 || answered != 3*201 {
				t.Errorf("%s: %d answers and %d failures", address, answered, failed)
			}
			if err := client.Close(); err != nil {
				t.Error(err)
			}
			if err := f.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

// An answer that the kernel does not take costs itself only.
func TestUnsentIsSkipped(t *testing.T) {
	f, _ := testFront(t, "127.0.0.1", 1)
	defer f.Close()
	s := f.group.udp[0]
	b := newBatch(s, f)
	l, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	to := l.LocalAddr().(*net.UDPAddr)
	for i := range 5 {
		sa := (*unix.RawSockaddrInet4)(unsafe.Pointer(&b.names[i]))
		sa.Family, sa.Addr = unix.AF_INET, [4]byte(to.IP.To4())
		if i != 1 && i != 4 { // nobody can be sent to port 0
			sa.Port = uint16(to.Port)>>8 | uint16(to.Port)<<8
		}
		b.out[i][0] = byte(i)
		b.queue(i, i, 1)
	}
	if err := s.raw.Control(func(fd uintptr) { b.send(fd, 5) }); err != nil {
		t.Fatal(err)
	}
	in := make([]byte, 16)
	for _, want := range []byte{0, 2, 3} {
		if n, err := l.Read(in); err != nil || n != 1 || in[0] != want {
			t.Fatalf("got %v %v, want %d", in[:n], err, want)
		}
	}
	if got := f.Totals().Unsent; got != 2 {
		t.Errorf("%d unsent, want 2", got)
	}
}

// A query longer than a reader's buffer is answered FORMERR by its header.
func TestLongQuery(t *testing.T) {
	f, _ := testFront(t, "127.0.0.1", 1)
	runFront(t, f)
	q := append(query1(t, hot, dns.TypeSRV, nil), make([]byte, maxQuery)...)
	got := askOver(t, "udp", f.config.Address, q)
	if got.Rcode != dns.RcodeFormatError || got.Id != 0xbeef || len(got.Question) != 0 || !got.Response {
		t.Errorf("got\n%v", got)
	}
}

// Garbage at full speed, and misses that nobody answers, keep nobody else from being served.
func TestFlood(t *testing.T) {
	f, _ := testFront(t, "127.0.0.1", 2)
	blocked := make(chan struct{})
	f.SetServer(serverFunc(func(dns.ResponseWriter, *dns.Msg) { <-blocked }), nil)
	runFront(t, f)
	defer close(blocked)
	halt := make(chan struct{})
	var flood sync.WaitGroup
	for _, fixed := range [][]byte{nil, query1(t, "example.net.", dns.TypeA, nil)} {
		c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(f.config.Address))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		flood.Go(func() {
			b := make([]byte, 300)
			for i := 0; ; i++ {
				select {
				case <-halt:
					return
				default:
				}
				p := fixed
				if p == nil {
					_, _ = rand.Read(b) // it never fails
					p = b[:i%len(b)]
					if len(p) >= headerLen { // nine in ten look usual up to the question, the others are answers
						copy(p[2:], "\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00")
						if i%10 == 0 {
							p[2] = flagQR
						}
					}
				}
				_, _ = c.Write(p) // an error is an ICMP message about an earlier one
			}
		})
	}
	q := query1(t, hot, dns.TypeSRV, nil)
	for got, served := f.Totals(), 0; got.Shed < 1000 || got.Dropped < 100 || served < 200; got, served = f.Totals(), served+1 {
		if r := askOver(t, "udp", f.config.Address, q); r.Rcode != dns.RcodeSuccess {
			t.Fatalf("got\n%v", r)
		}
	}
	close(halt)
	flood.Wait()
}
