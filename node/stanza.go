package node

import (
	"cmp"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/coredns/caddy/caddyfile"
	"github.com/miekg/dns"
)

// stanza is the state of reading one etcdsrv block.
type stanza struct {
	*caddyfile.Dispenser
	path string
	o    *Options
	// seen holds the line of each property that may stand only once, "CLUSTER/WORD".
	seen map[string]int
	// all are the properties of the block as a whole, which every cluster starts from.
	all ClusterOptions
	// records are the record lines, which need the domain and the nodes to be judged.
	records []recordLine
	// blocks are the lines of the cluster blocks, by name.
	blocks map[string]int
	// words are those of the cluster block being read.
	words []wordAt
	// cluster is the block being read; nil outside `cluster NAME { … }`.
	cluster *ClusterOptions
}

// property reads the value of one word of the block.
type property func(p *stanza, args []string) error

// properties are the words of an etcdsrv block.
func properties() map[string]property {
	return map[string]property{
		"bundle": path1(func(o *Options, v string) { o.Bundle = v }), "data": path1(func(o *Options, v string) { o.Data = v }),
		"name": (*stanza).name, "node": (*stanza).node, "ns": (*stanza).ns, "cluster": (*stanza).clusterBlock,
		"rrl": (*stanza).rrl, "admin_port": (*stanza).adminPort, "gossip_port": (*stanza).gossipPort, "join": (*stanza).join, "ttl": (*stanza).ttl, "email": (*stanza).email, "parent": (*stanza).parent, "record": (*stanza).record,
		"aliases": flag(func(o *Options, v bool) { o.Aliases = v }), "ephemeral": flag(func(o *Options, v bool) { o.Ephemeral = v }),
		"transfer_insecure": flag(func(o *Options, v bool) { o.TransferInsecure = v }),
		"peer_port":         port(func(c *ClusterOptions, v uint16) { c.PeerPort = v }), "client_port": port(func(c *ClusterOptions, v uint16) { c.ClientPort = v }),
		"tls": (*stanza).tls, "timing": (*stanza).timing, "heartbeat": interval(func(c *ClusterOptions, v time.Duration) { c.Heartbeat = v }),
		"election": interval(func(c *ClusterOptions, v time.Duration) { c.Election = v }), "quota": (*stanza).quota,
		"replace": (*stanza).replace, "size": (*stanza).size, "discovery": (*stanza).discovery,
		"endpoints": (*stanza).endpoints, "id": (*stanza).clusterID,
		"ca":   outsidePath(func(o *OutsideOptions) *string { return &o.CA }),
		"cert": outsidePath(func(o *OutsideOptions) *string { return &o.Cert }), "key": outsidePath(func(o *OutsideOptions) *string { return &o.Key }),
	}
}

// clusterProperties are those of the words above that a cluster block may hold.
var clusterProperties = []string{"client_port", "election", "heartbeat", "node", "peer_port", "quota", "replace", "size", "timing", "tls"}

// outsideProperties are those that a cluster block with endpoints may hold, and no other block.
var outsideProperties = []string{"ca", "cert", "endpoints", "id", "key"}

// repeatable words may stand more than once.
var repeatable = []string{"cluster", "join", "node", "ns", "record", "rrl"}

// property reads one line of the block.
func (p *stanza) property() error {
	word, line := p.Val(), p.Line()
	all := properties()
	read, ok := all[word]
	known := sortedKeys(all)
	if p.cluster != nil {
		known = slices.Concat(clusterProperties, outsideProperties)
	} else {
		known = slices.DeleteFunc(known, func(w string) bool { return slices.Contains(outsideProperties, w) })
	}
	ok = ok && slices.Contains(known, word)
	if !ok {
		return p.errorf("unknown property %q", didYouMean(word, known), word)
	}
	if !slices.Contains(repeatable, word) {
		key := p.clusterName() + "/" + word
		if first, twice := p.seen[key]; twice {
			return p.errorf("%s stands here and in line %d", "keep one of the two", word, first)
		}
		p.seen[key] = line
	}
	args := p.RemainingArgs()
	block := ""
	if p.cluster != nil {
		block = "cluster " + p.cluster.Name
	}
	p.alike(block, word, args)
	return read(p, args)
}

func (p *stanza) clusterName() string {
	if p.cluster == nil {
		return ""
	}
	return p.cluster.Name
}

// settings is what the cluster words set: the cluster being read, or what all clusters start from.
func (p *stanza) settings() *ClusterOptions {
	if p.cluster == nil {
		return &p.all
	}
	return p.cluster
}

// errorf makes the error for the current line. args belong to what.
func (p *stanza) errorf(what, hint string, args ...any) error {
	return p.errorAt(p.Line(), hint, what, args...)
}

func (p *stanza) errorAt(line int, hint, what string, args ...any) error {
	return &ConfigError{File: p.path, Line: line, What: fmt.Sprintf(what, args...), Fix: hint}
}

func (p *stanza) warnf(what string, args ...any) {
	p.o.Warnings = append(p.o.Warnings, fmt.Sprintf("%s:%d: ", p.path, p.Line())+fmt.Sprintf(what, args...))
}

// path1 reads one path, relative to the Corefile.
func path1(set func(*Options, string)) property {
	return func(p *stanza, args []string) error {
		if len(args) != 1 {
			return p.errorf("expected one path but got %d words", "write one path, absolute or relative to the Corefile", len(args))
		}
		v := args[0]
		if !filepath.IsAbs(v) {
			v = filepath.Join(filepath.Dir(p.path), v)
		}
		set(p.o, filepath.Clean(v))
		return nil
	}
}

func flag(set func(*Options, bool)) property {
	return func(p *stanza, args []string) error {
		if len(args) != 1 || !slices.Contains([]string{"on", "off", "yes", "no"}, args[0]) {
			return p.errorf("expected on or off but got %q", "write on or off", strings.Join(args, " "))
		}
		set(p.o, args[0] == "on" || args[0] == "yes")
		return nil
	}
}

// parent reads `none`; there is no other word, because a parent zone is found by itself.
func (p *stanza) parent(args []string) error {
	if len(args) != 1 || args[0] != "none" {
		return p.errorf("expected parent none but got %q", "leave the line out: the parent zone is found through the resolver", strings.Join(args, " "))
	}
	p.o.NoParent = true
	return nil
}

func port(set func(*ClusterOptions, uint16)) property {
	return func(p *stanza, args []string) error {
		v, err := p.portArg(args)
		if err == nil {
			set(p.settings(), v)
		}
		return err
	}
}

func (p *stanza) adminPort(args []string) (err error) {
	p.o.AdminPort, err = p.portArg(args)
	return err
}

func (p *stanza) portArg(args []string) (uint16, error) {
	if len(args) == 1 {
		if v, err := strconv.ParseUint(args[0], 10, 16); err == nil && v > 0 {
			return uint16(v), nil
		}
	}
	return 0, p.errorf("%q is not a port", "write one number from 1 to 65535", strings.Join(args, " "))
}

func interval(set func(*ClusterOptions, time.Duration)) property {
	return func(p *stanza, args []string) error {
		v, err := p.duration(args, 10*time.Millisecond, 50*time.Second) // etcd server/embed/config.go: maxElectionMs 50000
		if err == nil {
			set(p.settings(), v)
		}
		return err
	}
}

func (p *stanza) duration(args []string, least, most time.Duration) (time.Duration, error) {
	if len(args) == 1 {
		v, err := time.ParseDuration(args[0])
		if n, e := strconv.Atoi(args[0]); e == nil {
			v, err = time.Duration(n)*time.Second, nil
		}
		if err == nil && v >= least && v <= most {
			return v, nil
		}
	}
	return 0, p.errorf("%q is not a time from %s to %s", "write a number with its unit, such as 500ms or 30s",
		strings.Join(args, " "), least, most)
}

func (p *stanza) ttl(args []string) (err error) {
	p.o.TTL, err = p.duration(args, time.Second, time.Hour)
	return err
}

// email reads a mailbox and turns it into the SOA's RNAME (RFC 1035 §8: the @ becomes a dot, dots before it are
// escaped).
func (p *stanza) email(args []string) error {
	local, host, ok := "", "", false
	if len(args) == 1 {
		local, host, ok = strings.Cut(args[0], "@")
	}
	if !ok || local == "" || host == "" {
		return p.errorf("%q is not a mail address", "write one address, such as hostmaster@example.com", strings.Join(args, " "))
	}
	rname := strings.ReplaceAll(local, ".", `\.`) + "." + dns.CanonicalName(host)
	if _, valid := dns.IsDomainName(rname); !valid {
		return p.errorf("%q does not fit a domain name", "write a shorter address", args[0])
	}
	p.o.Contact = rname
	return nil
}

func (p *stanza) tls(args []string) error {
	if len(args) != 1 || (args[0] != "on" && args[0] != "off") {
		return p.errorf("expected tls on or tls off but got %q", "TLS is on by default; tls off makes a plain cluster", strings.Join(args, " "))
	}
	p.settings().Plain = args[0] == "off"
	return nil
}

// timing presets: etcd's advice is a heartbeat of about the round trip and an election timeout of ten times that
// (etcd docs, tuning). One rack has round trips far below 1 ms; the floor is what scheduling and fsync need.
var presets = map[string][2]time.Duration{
	"rack":  {50 * time.Millisecond, 500 * time.Millisecond},
	"metro": {100 * time.Millisecond, time.Second},
	"wan":   {300 * time.Millisecond, 3 * time.Second},
}

func (p *stanza) timing(args []string) error {
	preset, ok := presets[strings.Join(args, " ")]
	if !ok {
		return p.errorf("unknown timing %q", didYouMean(strings.Join(args, " "), sortedKeys(presets)), strings.Join(args, " "))
	}
	p.settings().Heartbeat, p.settings().Election = preset[0], preset[1]
	if p.cluster == nil {
		p.o.Timing = args[0]
	}
	return nil
}

// gossipPort reads where the nodes gossip.
func (p *stanza) gossipPort(args []string) (err error) {
	p.o.GossipPort, err = p.portArg(args)
	return err
}

// join reads places where nodes may gossip: addresses, with a port unless it is the rack's.
func (p *stanza) join(args []string) error {
	if len(args) == 0 {
		return p.errorf("expected addresses", "write join 10.0.1.10, or leave the line out: nodes with addresses are found by their lines")
	}
	for _, arg := range args {
		at, err := netip.ParseAddrPort(arg)
		if err != nil {
			var a netip.Addr
			if a, err = netip.ParseAddr(arg); err == nil {
				at = netip.AddrPortFrom(a, 0)
			}
		}
		if err != nil || at.Addr().Zone() != "" || at.Addr().IsUnspecified() || at.Addr().IsMulticast() {
			return p.errorf("%q is not the address of a machine", "write an address, or ADDRESS:PORT", arg)
		}
		p.o.Join = append(p.o.Join, netip.AddrPortFrom(at.Addr().Unmap(), at.Port()))
	}
	return nil
}

// replace reads who replaces a member that lost its disk.
func (p *stanza) replace(args []string) error {
	who := strings.Join(args, " ")
	if who != "auto" && who != "manual" {
		return p.errorf("expected replace auto or manual but got %q", "write replace auto, or replace manual to decide each time yourself", who)
	}
	p.settings().Replace = who
	return nil
}

// quota reads bytes with an optional unit of 1024.
func (p *stanza) quota(args []string) error {
	text := strings.ToUpper(strings.Join(args, ""))
	text = strings.TrimSuffix(strings.TrimSuffix(text, "B"), "I")
	shift := 0
	if i := strings.IndexAny(text, "MG"); i > 0 && i == len(text)-1 {
		shift = map[byte]int{'M': 20, 'G': 30}[text[i]]
		text = text[:i]
	}
	n, err := strconv.ParseInt(text, 10, 32+10)
	if err != nil || n <= 0 || n<<shift > 8<<30 || n<<shift < 16<<20 {
		return p.errorf("%q is not a quota from 16MiB to 8GiB", "write a size, such as 2GiB", strings.Join(args, " "))
	}
	p.settings().Quota = n << shift
	return nil
}

func (p *stanza) name(args []string) error {
	if len(args) != 1 {
		return p.errorf("expected one name but got %d words", "write the name of one of the node lines", len(args))
	}
	label, err := p.label(args[0])
	p.o.Name = label
	return err
}

// node reads NAME [ADDRESS…] [peer ADDRESS…].
func (p *stanza) node(args []string) error {
	if len(args) == 0 {
		return p.errorf("node without a name", "write node NAME ADDRESS, such as node infra0 10.0.1.10")
	}
	label, err := p.label(args[0])
	if err != nil {
		return err
	}
	n := NodeLine{Name: label, Cluster: p.clusterName(), Line: p.Line()}
	into := &n.Addrs
	for _, a := range args[1:] {
		if a == "peer" && into == &n.Addrs {
			into = &n.Peers
			continue
		}
		addr, err := p.addr(a)
		if err != nil {
			return err
		}
		if slices.ContainsFunc(*into, func(b netip.Addr) bool { return b.Is4() == addr.Is4() }) {
			p.warnf("%s of node %s is not published: a name has one address of each family, the first", addr, label)
		}
		*into = append(*into, addr)
	}
	if first, twice := p.o.node(label); twice && first.Cluster != n.Cluster {
		return p.errorf("node %s is in %s here and in %s in line %d", "a node runs one member: keep one of the lines, or name another machine", label,
			clusterWord(n.Cluster), clusterWord(first.Cluster), first.Line)
	} else if twice {
		return p.errorf("node %s stands here and in line %d", "give each node its own name", label, first.Line)
	}
	if len(p.o.Nodes) == maxNodes {
		return p.errorf("node %s is the %dth, and a domain has %d at most", "give further racks domains of their own", label, maxNodes+1, maxNodes)
	}
	p.o.Nodes = append(p.o.Nodes, n)
	return nil
}

// label checks a host label: letters, digits and inner hyphens, at most 63 octets (RFC 1123 §2.1), and not digits
// alone, because SRV discovery in etcd names unknown members "0", "1", …
func (p *stanza) label(s string) (string, error) {
	lower := strings.ToLower(s)
	if lower != s {
		p.warnf("the name %q is taken as %q: names are lower case, because etcd compares them as strings", s, lower)
	}
	if reason := badLabel(lower); reason != "" {
		return "", p.errorf("%q cannot name a node: %s", "use letters, digits and inner hyphens, such as infra0", s, reason)
	}
	return lower, nil
}

func badLabel(s string) string {
	switch {
	case s == "" || len(s) > 63:
		return "a label has 1 to 63 octets (RFC 1035 §2.3.4)"
	case strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789-") != "":
		return "a host label holds letters, digits and hyphens only (RFC 1123 §2.1)"
	case strings.HasPrefix(s, "-") || strings.HasSuffix(s, "-"):
		return "a host label neither begins nor ends with a hyphen (RFC 1123 §2.1)"
	case strings.Trim(s, "0123456789") == "":
		return "all digits, which is how etcd names members that it does not know"
	case strings.HasSuffix(s, "-peer"):
		return "names ending in -peer are kept for peer addresses"
	}
	for _, r := range s {
		if !strings.ContainsRune("abcdefghijklmnopqrstuvwxyz0123456789-", r) {
			return "a host label holds letters, digits and hyphens only (RFC 1123 §2.1)"
		}
	}
	return ""
}

func sortedKeys[V any](m map[string]V) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	slices.SortFunc(out, cmp.Compare)
	return out
}
