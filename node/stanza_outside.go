package node

import (
	"cmp"
	"encoding/hex"
	"net"
	"net/netip"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/miekg/dns"
)

// wordAt is a property and its line.
type wordAt struct {
	word string
	line int
}

// outside checks a cluster block that has been read: it either has nodes of ours, or endpoints of somebody else's.
func (p *stanza) outside() error {
	words := p.words
	p.words = nil
	o := p.cluster.Outside
	if o == nil {
		return nil
	}
	at := func(known []string) (wordAt, bool) {
		i := slices.IndexFunc(words, func(w wordAt) bool { return slices.Contains(known, w.word) })
		if i < 0 {
			return wordAt{}, false
		}
		return words[i], true
	}
	foreign, _ := at(outsideProperties)
	if len(o.Endpoints) == 0 {
		return p.errorAt(foreign.line, "add endpoints https://HOST:2379, or remove "+foreign.word+": our own clusters have the bundle's certificates",
			"%s belongs to a cluster with endpoints, and cluster %s has none", foreign.word, p.cluster.Name)
	}
	if own, ok := at(clusterProperties); ok {
		return p.errorAt(own.line, "a cluster that the rack does not run has its own settings: give it a block with endpoints alone",
			"%s stands in the block of cluster %s, which has endpoints", own.word, p.cluster.Name)
	}
	if (o.Cert == "") != (o.Key == "") {
		return p.errorAt(foreign.line, "write both cert FILE and key FILE", "cluster %s has one of cert and key", p.cluster.Name)
	}
	return nil
}

// outsideOptions are those of the block being read.
func (p *stanza) outsideOptions() *OutsideOptions {
	if p.cluster.Outside == nil {
		p.cluster.Outside = &OutsideOptions{}
	}
	return p.cluster.Outside
}

// endpoints reads URLs of members.
func (p *stanza) endpoints(args []string) error {
	if len(args) == 0 {
		return p.errorf("endpoints without a URL", "write endpoints https://HOST:2379 of some of its members")
	}
	for _, a := range args {
		u, err := url.Parse(a)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.User != nil {
			return p.errorf("%q is not a client URL of etcd", "write https://HOST:2379, or http:// for one without TLS", a)
		}
		if _, err := netip.ParseAddr(u.Hostname()); err != nil {
			if _, ok := dns.IsDomainName(u.Hostname()); !ok {
				return p.errorf("%q in %q is neither an address nor a host name", "write https://HOST:2379", u.Hostname(), a)
			}
		}
		port := cmp.Or(u.Port(), strconv.Itoa(DefaultClientPort))
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return p.errorf("%q is not a port", "write one number from 1 to 65535", port)
		}
		full := u.Scheme + "://" + net.JoinHostPort(strings.ToLower(u.Hostname()), port)
		if o := p.outsideOptions(); !slices.Contains(o.Endpoints, full) {
			o.Endpoints = append(o.Endpoints, full)
		}
	}
	return nil
}

// clusterID reads which etcd cluster is meant.
func (p *stanza) clusterID(args []string) error {
	text := strings.ToLower(strings.Join(args, " "))
	if raw, err := hex.DecodeString(text); err != nil || len(raw) != 8 {
		return p.errorf("%q is not the ID of an etcd cluster", "write the 16 hexadecimal digits of: etcdctl endpoint status -w fields", strings.Join(args, " "))
	}
	p.outsideOptions().ID = text
	return nil
}

// outsidePath reads one path, relative to the Corefile.
func outsidePath(field func(*OutsideOptions) *string) property {
	return func(p *stanza, args []string) error {
		return path1(func(_ *Options, v string) { *field(p.outsideOptions()) = filepath.Clean(v) })(p, args)
	}
}
