//go:build linux

package lab

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/miekg/dns"
)

// The environment of a stand-in node: a small name server in the test binary, with which the lab is proved without
// the product.
const (
	standInRole   = "EDL_STANDIN"
	standInAddr   = "EDL_STANDIN_ADDR"
	standInDomain = "EDL_STANDIN_DOMAIN"
	standInData   = "EDL_STANDIN_DATA"
)

// standIn is the flavor of stand-in nodes. A stand-in says SERVFAIL for 300 ms, NXDOMAIN for 300 ms, and then serves
// the guide's records; its child stands for the member, and is started again when it dies.
type standIn struct{}

func (standIn) prepare(l *Lab) string {
	var b strings.Builder
	for _, n := range l.names {
		fmt.Fprintf(&b, "%s. NS %s.%s.\n%s.%s. A %s\n", l.Domain, n, l.Domain, n, l.Domain, l.Addr(n))
	}
	return b.String()
}

func (standIn) argv(l *Lab, n *node) (argv, env []string) {
	self, err := os.Executable()
	if err != nil {
		l.t.Fatal(err)
	}
	return []string{self}, []string{standInRole + "=node", standInAddr + "=" + l.Addr(n.name),
		standInDomain + "=" + l.Domain, standInData + "=" + n.data()}
}

// runStandIn is the main function of a stand-in.
func runStandIn(role string) int {
	if role == liarRole {
		return runLiar()
	}
	end := make(chan os.Signal, 1)
	signal.Notify(end, syscall.SIGTERM)
	if role == "member" {
		data, err := holdData(os.Getenv(standInData))
		if err != nil {
			fmt.Println("stand-in member:", err)
			return 1
		}
		defer func() { _ = data.Close() }()
		<-end
		return 0
	}
	zone := &standInZone{domain: dns.Fqdn(os.Getenv(standInDomain)), start: time.Now()}
	addr := netip.AddrPortFrom(netip.MustParseAddr(os.Getenv(standInAddr)), 53).String()
	failed := make(chan error, 2)
	for _, network := range []string{"udp", "tcp"} {
		go func() { failed <- (&dns.Server{Addr: addr, Net: network, Handler: zone}).ListenAndServe() }()
	}
	member := startStandInMember()
	for {
		select {
		case err := <-failed:
			fmt.Println("stand-in:", err)
			return 1
		case <-member.done:
			fmt.Println("stand-in: member died, starting another")
			member = startStandInMember()
		case <-end:
			_ = member.cmd.Process.Signal(syscall.SIGTERM)
			<-member.done
			return 0
		}
	}
}

// holdData opens a file where etcd would have its own.
func holdData(dir string) (*os.File, error) {
	member := filepath.Join(dir, "etcd", "member")
	if err := os.MkdirAll(member, 0o755); err != nil {
		return nil, err
	}
	return os.Create(filepath.Join(member, "db"))
}

func startStandInMember() *process {
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), standInRole+"=member")
	p := &process{cmd: cmd, done: make(chan struct{})}
	p.err = cmd.Start()
	go func() {
		_ = cmd.Wait()
		close(p.done)
	}()
	return p
}

// standInZone answers for the guide's records: three nodes, plain.
type standInZone struct {
	domain string
	start  time.Time
}

func (z *standInZone) ServeDNS(w dns.ResponseWriter, q *dns.Msg) {
	m := new(dns.Msg).SetReply(q)
	m.Authoritative = true
	name := strings.ToLower(q.Question[0].Name)
	age := time.Since(z.start)
	switch label := strings.TrimSuffix(name, "."+z.domain); {
	case label == "_etcd-server._tcp" && age < 300*time.Millisecond:
		m.Rcode, m.Authoritative = dns.RcodeServerFailure, false
	case label == "_etcd-server._tcp" && age < 600*time.Millisecond:
		m.Rcode = dns.RcodeNameError
	default:
		z.answer(m, label, q.Question[0])
	}
	if len(m.Answer) == 0 {
		soa, _ := dns.NewRR(fmt.Sprintf("%s 5 IN SOA infra0.%s hostmaster.%s 1 14400 3600 1209600 5", z.domain, z.domain, z.domain))
		m.Ns = append(m.Ns, soa)
	}
	_ = w.WriteMsg(m)
}

// answer fills in the records of the guide, or that there are none.
func (z *standInZone) answer(m *dns.Msg, label string, q dns.Question) {
	port := map[string]int{"_etcd-server._tcp": 2380, "_etcd-client._tcp": 2379}[label]
	known := port != 0 || label == "_tcp" || q.Name == z.domain
	for i := range 3 {
		target := fmt.Sprintf("infra%d", i)
		switch {
		case port != 0:
			z.add(m, q, fmt.Sprintf("SRV 0 0 %d %s.%s", port, target, z.domain))
		case label == target:
			known = true
			z.add(m, q, fmt.Sprintf("A 10.0.1.%d", 10+i))
		case q.Name == z.domain:
			z.add(m, q, fmt.Sprintf("NS %s.%s", target, z.domain))
		}
	}
	if !known {
		m.Rcode = dns.RcodeNameError
	}
}

func (z *standInZone) add(m *dns.Msg, q dns.Question, data string) {
	rr, err := dns.NewRR(q.Name + " 30 IN " + data)
	if err != nil {
		panic(err)
	}
	if rr.Header().Rrtype == q.Qtype {
		m.Answer = append(m.Answer, rr)
	}
}
