package node

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/coredns/coredns/core/dnsserver"
	"github.com/miekg/dns"
	"go.uber.org/zap"

	"github.com/etcd-dns/etcd-dns/certs"
	"github.com/etcd-dns/etcd-dns/internal/durable"
	"github.com/etcd-dns/etcd-dns/roster"
	"github.com/etcd-dns/etcd-dns/srvboot"
	"github.com/etcd-dns/etcd-dns/srvboot/member"
	"github.com/etcd-dns/etcd-dns/zone"
	"github.com/etcd-dns/etcd-dns/zone/front"
	"github.com/etcd-dns/etcd-dns/zone/sign"
	"github.com/etcd-dns/etcd-dns/zone/xfr"
)

// lastGood is the name of the Corefile that served last, below the data directory.
const lastGood = "Corefile.last-good"

// open reads the configuration, takes the node's locks and makes its parts; it starts none of them.
func open(c Config) (*Node, error) {
	n := &Node{config: c, log: c.Log, store: zone.NewStore(), zones: new(zone.Zones), notify: &notifier{log: c.Log}, rebinds: newPrompt(), retakes: newPrompt()}
	o, err := n.firstOptions()
	if err != nil {
		return nil, err
	}
	n.opts.Store(o)
	n.roster.Store(&roster.Roster{Domain: o.Domain})
	for _, w := range o.Warnings {
		n.log.Warn(w)
	}
	for _, step := range []func(*Options) error{n.loadBundle, n.findSelf, n.openDisk, n.makeParts} {
		if err := step(o); err != nil {
			if n.lock != nil {
				err = errors.Join(err, n.lock.Close())
			}
			return nil, err
		}
	}
	return n, nil
}

// firstOptions reads the Corefile, or the last good one when the Corefile is wrong: a typo must not take DNS away at
// the next power cut.
func (n *Node) firstOptions() (*Options, error) {
	c := n.config
	o, wrong, err := ReadLastGood(c.Corefile, c.Data)
	switch {
	case err != nil:
		return nil, err
	case wrong != nil && c.Strict:
		return nil, wrong
	case wrong != nil:
		n.refused(wrong)
		n.log.Error("the Corefile is wrong; starting from the last good one", errorFields(wrong)...)
	}
	return o, o.Override(c.Name, c.Data)
}

// ReadLastGood reads the Corefile. When it is wrong, wrong says why, and the options are those of the Corefile that
// served last, which is kept in the data directory; without that one, wrong comes back as the error. A Corefile that moves
// a member away from where it is remembered to be is wrong, too.
func ReadLastGood(corefile, data string) (o *Options, wrong, err error) {
	now, wrong := ReadCorefile(corefile)
	if now != nil {
		data = cmp.Or(data, now.Data)
	}
	data = cmp.Or(data, dataOf(corefile), DefaultData)
	good, err := readLastGood(corefile, data)
	if wrong == nil && err == nil {
		wrong = now.movesSaved(good, data)
	}
	switch {
	case wrong == nil:
		return now, nil, nil
	case err != nil:
		return nil, nil, wrong
	}
	return good, wrong, nil
}

// readLastGood reads the Corefile that served last as if it were at the path of the one of now, for the paths in it.
func readLastGood(corefile, data string) (*Options, error) {
	text, err := os.ReadFile(filepath.Join(data, lastGood))
	if err != nil {
		return nil, err
	}
	abs, err := filepath.Abs(corefile)
	if err != nil {
		return nil, err
	}
	return ParseCorefile(abs, text)
}

// dataOf finds the data directory in a Corefile that cannot be parsed; empty when it has none.
func dataOf(corefile string) string {
	text, _ := os.ReadFile(corefile) // what cannot be read names no directory
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) == 2 && f[0] == "data" {
			if filepath.IsAbs(f[1]) {
				return f[1]
			}
			return filepath.Join(filepath.Dir(corefile), f[1])
		}
	}
	return ""
}

// loadBundle reads the secrets and makes sure that they belong here.
func (n *Node) loadBundle(o *Options) (err error) {
	if key, beside := certs.RootKeyBeside(o.Bundle); beside {
		return &usageError{what: "the root key " + key + " lies beside the bundle; whoever takes this machine could make a new rack of yours",
			hint: "move it off this machine: no node needs it"}
	}
	if n.bundle, err = certs.LoadBundle(o.Bundle); err != nil {
		return err
	}
	n.latest.Store(n.bundle)
	if n.bundle.Domain() != o.Domain {
		return &usageError{what: fmt.Sprintf("the bundle %s is for %s, the Corefile for %s", o.Bundle, n.bundle.Domain(), o.Domain),
			hint: "use the Corefile and the bundle of one init, or run init for this domain"}
	}
	return nil
}

// findSelf finds this node's line.
func (n *Node) findSelf(o *Options) (err error) {
	if n.name, err = o.OwnName(); err != nil {
		return err
	}
	n.line, _ = o.node(n.name)
	n.places = newPlaces(n.name)
	return nil
}

// openDisk makes the data directory, keeps other runs out of it, and begins a life.
func (n *Node) openDisk(o *Options) (err error) {
	if err := os.MkdirAll(o.Data, 0o700); err != nil {
		return fmt.Errorf("make the data directory: %w", err)
	}
	if n.lock, err = srvboot.LockNode(srvboot.LockOptions{Dir: o.Data, Domain: o.Domain, Node: n.name}); err != nil {
		return err
	}
	n.disk = srvboot.NewDisk(srvboot.DiskOptions{Dir: o.Data, Node: n.name, Bundle: n.bundle.ID(), SrvName: n.line.Cluster, Log: n.log.Named("disk")})
	if name, bundle := n.disk.Owner(); bundle != "" && (bundle != n.bundle.ID() || name != n.name) {
		return &usageError{what: fmt.Sprintf("the data directory %s belongs to node %s of bundle %s; this is node %s of bundle %s",
			o.Data, name, bundle, n.name, n.bundle.ID()),
			hint: "give this node its own data directory, or the name and the bundle that the data was made with"}
	}
	// Nothing writes there yet.
	if err := durable.RemoveTemps(o.Data); err != nil {
		return err
	}
	n.beginLife()
	n.memLock = srvboot.NewMemberLock(o.Data, n.log.Named("lock"))
	n.keepLastGood(o)
	return nil
}

// keepLastGood saves the Corefile that serves, unless the start itself came from there.
func (n *Node) keepLastGood(o *Options) {
	if n.corefileError() != "" {
		return
	}
	if err := saveLastGood(o); err != nil {
		n.log.Error("the Corefile serves, but a start without it would use an older one", zap.Error(err))
	}
}

func saveLastGood(o *Options) error {
	text, err := os.ReadFile(o.Corefile)
	if err != nil {
		return fmt.Errorf("read the Corefile: %w", err)
	}
	old, err := os.ReadFile(o.File(lastGood))
	if err == nil && string(old) == string(text) {
		return nil
	}
	if err := durable.WriteFile(o.File(lastGood), text, 0o600); err != nil {
		return fmt.Errorf("save the last good Corefile: %w", err)
	}
	return nil
}

// machineID tells one machine from another (machine-id(5)); a machine without one is told by its host name.
func machineID() string {
	if text, err := os.ReadFile("/etc/machine-id"); err == nil && len(strings.TrimSpace(string(text))) > 0 {
		return strings.TrimSpace(string(text))
	}
	host, _ := os.Hostname()
	return host
}

// makeParts builds the object graph.
func (n *Node) makeParts(o *Options) (err error) {
	n.certs = certs.NewManager(certs.Options{Bundle: n.bundle, Node: n.name, PeerHost: n.line.roster(0).PeerHost(), Dir: o.File("certs"), Addrs: n.certAddrs,
		Log: n.log.Named("certs"), Now: time.Now})
	n.peers = &peers{bundle: n.bundle.ID(), port: o.AdminPort, addrs: n.askAt, tls: n.certs.AdminClientTLS, corefile: func() string { return n.options().alikeDigest() },
		news: func() srvboot.News { return n.boot.News() }}
	n.resolver = member.NewResolver(member.ResolverOptions{Own: n.addrs, Log: n.log.Named("resolver")})
	n.launcher = member.NewLauncher(member.Options{Base: n.spec, View: n.view, Resolver: n.resolver, Lock: n.memLock.File,
		OnStart: n.memLock.Record, Log: n.log})
	n.boot = srvboot.NewBoot(srvboot.BootOptions{Home: n.home, Peers: n.peers, Storage: n.disk, Launcher: n.launcher, Preflight: n.preflight,
		Publish: func(v roster.View) error { return n.publisher.publish(v) }, State: n.fillState, News: func() { n.onlooker.Prompt("") }, DiskReplaced: n.config.DiskReplaced, Moved: n.config.Moved,
		Log: n.log.Named("boot"), Timing: srvboot.DefaultTiming()})
	n.followers = newFollowers(n.log.Named("follow"), func() { n.publisher.prompts.send() })
	n.followers.set(o)
	n.tokens = newTokenService(n)
	timing := srvboot.DefaultTiming()
	n.onlooker = srvboot.NewOnlooker(srvboot.OnlookerOptions{Homes: n.otherHomes, Ask: n.peers.State, Every: timing.Slow, Timeout: timing.AskTimeout})
	n.zones.Set(n.store)
	if err := n.makeDNSSEC(o); err != nil {
		return err
	}
	n.numbering = newNumbering(n.name, n.bundle, o.File("slot.json"), n.log)
	n.publisher = newPublisher(n, zone.NewPublisher(n.store, n.zoneOptions(o), zone.NewSerials(o.File("serial"), n.numbering.own(), time.Now)))
	secrets := n.bundle.Secrets()
	n.transfers = newTransfers(n.log.Named("transfer"), xfr.Key{Name: secrets.TSIGName, Algorithm: secrets.TSIGAlgorithm, Secret: secrets.TSIG}, n.options,
		n.addrs, n.zones.Transferable)
	n.parent = newParentWatch(n)
	n.rumor = newRumor(n)
	n.fronts = newFronts(n.log.Named("front"), n.zones, secrets.Cookie, secrets.PreviousCookie, n.rateLimit)
	n.dns = &nameServer{log: n.log, zones: n.zones, transfers: n.transfers, fronts: n.fronts, certificate: n.serverCertificate, identity: dnsserver.NewTLSConfigIdentity(), addrs: n.addrs, check: n.checkReload, refused: n.refused, apply: n.applyOptions,
		read: func() (string, []byte, error) {
			path := n.options().Corefile
			if n.corefileError() != "" && n.dns.instance() == nil {
				text, err := os.ReadFile(n.options().File(lastGood))
				return path, text, err
			}
			text, err := os.ReadFile(path)
			return path, text, err
		}}
	return nil
}

// makeDNSSEC builds the owner of the signing state.
func (n *Node) makeDNSSEC(o *Options) error {
	ring, err := sign.NewRing(n.bundle.Secrets().ZoneKey)
	if err != nil {
		return fmt.Errorf("bundle %s: %w", o.Bundle, err)
	}
	d := &dnssec{domain: o.Domain, node: n.name, bundle: n.bundle.ID(), created: n.bundle.Created(), file: o.File(dnssecFile), ring: ring,
		log: n.log.Named("dnssec"), now: time.Now, synced: certs.ClockSynced, ask: n.peers.DNSSEC, ready: n.certs.Ready(), state: blankDNSSEC(),
		heard: map[string]heard{}, faults: map[string]string{}, prompts: newPrompt(), syncs: newPrompt(),
		changed: func() { n.publisher.prompts.send() },
		others: func() []string {
			return slices.DeleteFunc(n.options().names(), func(name string) bool { return name == n.name })
		}}
	d.look = (&looker{domain: o.Domain, ring: ring, keys: d.keys, parent: parentServers{o.Domain, n.askParent},
		records: func() []dns.RR { return n.options().Records },
		servers: func(ctx context.Context) []nameServerAddr { return nameServerAddrs(ctx, n.roster.Load(), o.DNSPort) }}).look
	n.dnssec = d
	return nil
}

// serverCertificate reads the published pair at each handshake, as etcd does, so that a renewal needs no signal.
func (n *Node) serverCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	f := n.certs.Files()
	pair, err := tls.LoadX509KeyPair(f.ServerCert, f.ServerKey)
	if err != nil {
		return nil, fmt.Errorf("the server certificate is not there yet: %w", err)
	}
	return &pair, nil
}

func (n *Node) zoneOptions(o *Options) zone.Options {
	return zone.Options{Contact: o.Contact, TTL: o.TTL, Aliases: o.Aliases, Records: o.Records, Signer: n.dnssec.signer()}
}

// certAddrs are the addresses that this node's certificates carry: its configured ones and those of its interfaces,
// since a peer may see it come from any.
func (n *Node) certAddrs() []netip.Addr {
	out := append(slices.Clone(n.addrs()), n.line.Peers...)
	local, err := localAddrs()
	if err != nil {
		n.log.Error("the interface addresses cannot be listed; certificates carry the configured ones only", zap.Error(err))
	}
	for _, p := range local {
		if a := p.Addr().Unmap(); !a.IsLoopback() && !a.IsLinkLocalUnicast() && !slices.Contains(out, a) {
			out = append(out, a)
		}
	}
	return out
}

// rateLimit returns the limit of the fast path: the rack's own addresses have none.
func (n *Node) rateLimit() front.Settings {
	o := n.options()
	set := front.Settings{RatePerSecond: o.Rate, Exempt: slices.Clone(o.RateExempt)}
	for _, l := range n.static().Nodes {
		for _, a := range append(slices.Clone(l.Addrs), l.PeerAddrs...) {
			set.Exempt = append(set.Exempt, netip.PrefixFrom(a, a.BitLen()))
		}
	}
	return set
}
