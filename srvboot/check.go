package srvboot

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/etcd-dns/etcd-dns/roster"
	"golang.org/x/sync/errgroup"
)

// Level says how a check came out.
type Level string

const (
	// LevelOK means: as it should be.
	LevelOK Level = "ok"
	// LevelWarn means: works, but something deserves attention.
	LevelWarn Level = "warn"
	// LevelFail means: does not work, or is not safe.
	LevelFail Level = "fail"
	// LevelSkip means: nothing to look at; Detail says why.
	LevelSkip Level = "skip"
)

// CheckResult is what one check found.
type CheckResult struct {
	Name   string `json:"name"`
	Level  Level  `json:"level"`
	Detail string `json:"detail"`
	// Hint is a command or a record to publish; set with warn and fail.
	Hint string `json:"hint,omitempty"`
}

// Check looks at one thing and changes nothing.
type Check struct {
	// Name is lower case with hyphens and never changes, since scripts know it.
	Name string
	// Blocks says that a failure stands in the way of a start. The other checks only inform.
	Blocks bool
	Run    func(ctx context.Context, t Target) CheckResult
}

// Resolver asks the DNS; *net.Resolver is one.
type Resolver interface {
	LookupSRV(ctx context.Context, service, proto, name string) (string, []*net.SRV, error)
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
}

// Target is what the checks look at. A zero field skips the checks that need it, so that they also run against
// domains and certificates that were not made here.
type Target struct {
	// Domain is the discovery domain, with or without its trailing dot; SrvName the suffix of --discovery-srv-name.
	Domain, SrvName string
	// Scheme is "https" or "http" when it is known which of -ssl and plain belongs into the DNS.
	Scheme string
	// Node is the node's name; its host is Node.Domain unless PeerURLs say otherwise.
	Node string
	// PeerURLs and ClientURLs are those advertised; ListenPeerURLs and ListenClientURLs those bound.
	PeerURLs, ClientURLs, ListenPeerURLs, ListenClientURLs []string
	// Listen are the further addresses that the node binds.
	Listen []Listener
	// Certificates are the files to look at.
	Certificates []CertFiles
	// CustomCA says that peers verify each other by a CA file, so that etcd does not check the discovery domain.
	CustomCA bool
	// DataDir is the data directory of Node in cluster SrvName of Bundle.
	DataDir, Bundle string
	// Ephemeral allows a data directory that does not outlive a power cut.
	Ephemeral bool
	// HostsFile is the path of the hosts file, such as /etc/hosts.
	HostsFile string
	// Peers are the host names of the other members, in addition to the SRV targets.
	Peers []string
	// LocalAddrs are this host's addresses. They are the interfaces' when it is nil and Node is set.
	LocalAddrs []netip.Addr
	// Resolver, nil to skip all that asks the DNS.
	Resolver Resolver
	// SkipDNS, when not empty, skips the checks of what the domain publishes, with this reason: before birth nothing is
	// published, and a restart does not look.
	SkipDNS string
	// Spare, when not empty, says why the domain does not publish this node as a member, and should not.
	Spare string
	// Delegation says what the parent zone should hold; nil to skip.
	Delegation *Delegation
	// Now is the clock, time.Now when nil; NotBefore a moment that has certainly passed, such as the bundle's creation.
	Now       func() time.Time
	NotBefore time.Time
	// Boot says that a member is about to start: a port that another run of etcd-dns holds is then a failure, and what
	// only informs (Check.Blocks) is a warning at most. Without it the checks report on a host that may be running.
	Boot bool
}

// Listener is one address to bind.
type Listener struct {
	// Network is "tcp" or "udp"; Addr an IP address and port.
	Network, Addr string
	// What the address is for, such as "DNS".
	What string
}

// CertFiles is one certificate with its key, in PEM.
type CertFiles struct {
	// Use is "peer", "server" or "client"; it decides the key usages that are needed.
	Use string
	// Cert is the certificate's file with its chain; Key and CA may be empty, to skip what they are for.
	Cert, Key, CA string
}

// Delegation is what the parent zone should hold.
type Delegation struct {
	// NameServers is the NS set expected.
	NameServers []roster.NameServer
	// Recursive is the address and port of a recursive name server, to find the parent's servers with.
	Recursive string
	// Port is where the parent's servers are asked; 53 when 0.
	Port uint16
}

const (
	// checkTimeout bounds one check, so that a silent name server cannot hold up the others.
	checkTimeout = 5 * time.Second
	// checksAtOnce bounds the checks that run at the same time.
	checksAtOnce = 8
)

// Checks is the list, in the order of its report: names, DNS, URLs, certificates, host.
func Checks() []Check {
	return []Check{
		{Name: "node-name", Blocks: true, Run: checkNodeName},
		{Name: "srv-one-scheme", Blocks: true, Run: checkSRVOneScheme},
		{Name: "srv-own-name", Blocks: true, Run: checkSRVOwnName},
		{Name: "srv-peer-url", Blocks: true, Run: checkSRVPeerURL},
		{Name: "srv-targets-resolve", Blocks: true, Run: checkSRVTargetsResolve},
		{Name: "srv-targets-disjoint", Blocks: true, Run: checkSRVTargetsDisjoint},
		{Name: "srv-targets-in-domain", Blocks: true, Run: checkSRVTargetsInDomain},
		{Name: "peer-address", Blocks: true, Run: checkPeerAddress},
		{Name: "hosts-file", Blocks: true, Run: checkHostsFile},
		{Name: "delegation", Run: checkDelegation},
		{Name: "listen-urls", Blocks: true, Run: checkListenURLs},
		{Name: "advertise-client-urls", Run: checkAdvertiseClientURLs},
		{Name: "certificate-key", Blocks: true, Run: checkCertificateKey},
		{Name: "certificate-chain", Blocks: true, Run: checkCertificateChain},
		{Name: "certificate-expiry", Blocks: true, Run: checkCertificateExpiry},
		{Name: "certificate-names", Blocks: true, Run: checkCertificateNames},
		{Name: "certificate-usage", Blocks: true, Run: checkCertificateUsage},
		{Name: "certificate-files", Run: checkCertificateFiles},
		{Name: "clock", Blocks: true, Run: checkClock},
		{Name: "ports-free", Blocks: true, Run: checkPortsFree},
		{Name: "data-dir", Blocks: true, Run: checkDataDir},
	}
}

// RunChecks runs all of Checks, several at a time, and returns their results in the order of the list. Each name is
// looked up once.
func RunChecks(ctx context.Context, t Target) []CheckResult {
	t = t.withDefaults()
	checks := Checks()
	results := make([]CheckResult, len(checks))
	var g errgroup.Group
	g.SetLimit(checksAtOnce)
	for i, c := range checks {
		g.Go(func() error {
			results[i] = c.run(ctx, t)
			return nil
		})
	}
	_ = g.Wait() // no check returns an error
	return results
}

func (c Check) run(ctx context.Context, t Target) CheckResult {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	r := c.Run(ctx, t)
	r.Name = c.Name
	if t.Boot && !c.Blocks && r.Level == LevelFail {
		r.Level = LevelWarn
	}
	return r
}

// withDefaults fills in what RunChecks shares among the checks.
func (t Target) withDefaults() Target {
	if t.Resolver != nil {
		t.Resolver = &onceResolver{ask: t.Resolver}
	}
	return t
}

// now reads the target's clock.
func (t Target) now() time.Time {
	if t.Now != nil {
		return t.Now()
	}
	return time.Now()
}

// onceResolver asks each question once and gives everybody the same answer, so that the checks of one run agree.
type onceResolver struct {
	ask Resolver
	// srv and addrs hold functions that ask on their first call.
	srv, addrs sync.Map
}

type srvAnswer struct {
	cname   string
	records []*net.SRV
	err     error
}

func (o *onceResolver) LookupSRV(ctx context.Context, service, proto, name string) (string, []*net.SRV, error) {
	// The first asker's deadline counts for all; every check has the same.
	f, _ := o.srv.LoadOrStore([3]string{service, proto, name}, sync.OnceValue(func() srvAnswer {
		cname, records, err := o.ask.LookupSRV(ctx, service, proto, name)
		return srvAnswer{cname, records, err}
	}))
	a := f.(func() srvAnswer)()
	return a.cname, a.records, a.err
}

func (o *onceResolver) LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error) {
	f, _ := o.addrs.LoadOrStore([2]string{network, host}, sync.OnceValues(func() ([]netip.Addr, error) {
		return o.ask.LookupNetIP(ctx, network, host)
	}))
	return f.(func() ([]netip.Addr, error))()
}
