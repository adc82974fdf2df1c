package node

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/coredns/coredns/plugin"
	"github.com/miekg/dns"

	"github.com/etcd-dns/etcd-dns/zone"
)

const (
	v4Reverse = "in-addr.arpa." // RFC 1035 §3.5
	v6Reverse = "ip6.arpa."     // RFC 3596 §2.5

	// maxReverse bounds the zones of one block: a CIDR key off the octet boundary becomes up to 128 of them.
	maxReverse = 64
)

// reverse takes the reverse zones among the keys of the server block. CoreDNS has made names of CIDR keys already when
// its plugins are set up, and has not in the file itself; NormalizeExact gives the same names of both.
func (p *stanza) reverse(keys []string) error {
	for _, key := range keys {
		for _, name := range plugin.Host(key).NormalizeExact() {
			name = dns.CanonicalName(name)
			if !strings.HasSuffix("."+name, ".arpa.") {
				continue
			}
			z, problem, hint := reverseZone(name)
			if problem != "" {
				return p.errorf("the server block key %s: %s", hint, key, problem)
			}
			for _, other := range p.o.Reverse {
				if dns.IsSubDomain(other.Zone, z.Zone) || dns.IsSubDomain(z.Zone, other.Zone) {
					return p.errorf("the reverse zones %s and %s overlap", "name the larger one only", other.Zone, z.Zone)
				}
			}
			if p.o.Reverse = append(p.o.Reverse, z); len(p.o.Reverse) > maxReverse {
				return p.errorf("the server block has more than %d reverse zones", "name a larger prefix, such as 10.0.0.0/16, or the /24 zones that you use", maxReverse)
			}
		}
	}
	return nil
}

// warnReverse warns of reverse zones that would be empty.
func (p *stanza) warnReverse() error {
	for _, z := range p.o.Reverse {
		if !slices.ContainsFunc(p.o.Nodes, func(n NodeLine) bool {
			return slices.ContainsFunc(slices.Concat(n.Addrs, n.Peers), z.Prefix.Contains)
		}) {
			p.warnf("the reverse zone %s (%s) has no node's address", z.Zone, z.Prefix)
		}
	}
	return nil
}

// reverseZone reads the name of a reverse zone. The prefix of an RFC 2317 zone whose name tells no range is all of the
// /24.
func reverseZone(name string) (z zone.Reverse, problem, hint string) {
	z.Zone = name
	const expect = "name an octet boundary, such as 10.0.1.0/24 or 1.0.10.in-addr.arpa, or a nibble boundary of IPv6"
	if rest, ok := strings.CutSuffix(name, "."+v6Reverse); ok {
		labels := strings.Split(rest, ".")
		if z.Prefix, ok = nibbles(labels); !ok {
			return z, fmt.Sprintf("%s is not a reverse zone", name), expect
		}
		if z.Prefix.IsSingleIP() {
			return z, fmt.Sprintf("%s is the name of one address, not a zone", name), expect
		}
		return z, "", ""
	}
	rest, ok := strings.CutSuffix(name, "."+v4Reverse)
	if !ok {
		return z, fmt.Sprintf("%s is not a reverse zone", name), expect
	}
	labels := strings.Split(rest, ".")
	slices.Reverse(labels)
	if z.Prefix, ok = octets(labels); ok {
		if z.Prefix.IsSingleIP() {
			return z, fmt.Sprintf("%s is the name of one address, not a zone", name),
				"for a part of a /24 use the RFC 2317 name that its owner delegates, such as 0/25.1.0.10.in-addr.arpa"
		}
		return z, "", ""
	}
	if len(labels) != 4 {
		return z, fmt.Sprintf("%s is not a reverse zone", name), expect
	}
	net24, ok := octets(labels[:3])
	if !ok || !classlessLabel(labels[3]) {
		return z, fmt.Sprintf("%s is not a reverse zone", name), expect
	}
	if z.Prefix, ok = classless(net24, labels[3]); !ok {
		return z, fmt.Sprintf("%s stands for no part of %s", name, net24), "begin at a multiple of the size, as in 0/25, 128/25 or 64/26"
	}
	return z, "", ""
}

// octets reads one to four labels, most significant first.
func octets(labels []string) (netip.Prefix, bool) {
	if len(labels) > 4 {
		return netip.Prefix{}, false
	}
	var a [4]byte
	for i, l := range labels {
		n, ok := octet(l)
		if !ok {
			return netip.Prefix{}, false
		}
		a[i] = n
	}
	return netip.PrefixFrom(netip.AddrFrom4(a), 8*len(labels)), true
}

// octet reads a decimal number from 0 to 255 without leading zeros.
func octet(s string) (byte, bool) {
	n, err := strconv.ParseUint(s, 10, 8)
	return byte(n), err == nil && strconv.FormatUint(n, 10) == s
}

// nibbles reads labels of one hexadecimal digit each, least significant first.
func nibbles(labels []string) (netip.Prefix, bool) {
	if len(labels) > 32 {
		return netip.Prefix{}, false
	}
	var a [16]byte
	for i := range labels {
		l := labels[len(labels)-1-i]
		n, err := strconv.ParseUint(l, 16, 4)
		if err != nil || len(l) != 1 {
			return netip.Prefix{}, false
		}
		a[i/2] |= byte(n) << (4 * (1 - i%2))
	}
	return netip.PrefixFrom(netip.AddrFrom16(a), 4*len(labels)), true
}

// classlessLabel reports whether the label can stand in the place of the last octet.
func classlessLabel(s string) bool {
	return s != "" && len(s) <= 63 && strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789-/_") == "" && s == strings.Join(strings.Fields(s), "")
}

// classless returns what an RFC 2317 label stands for: 0/25 and 0-127 say it themselves, any other name may have been
// agreed on, and is taken for all of the /24.
func classless(net24 netip.Prefix, label string) (netip.Prefix, bool) {
	a := net24.Addr().As4()
	if first, bits, ok := strings.Cut(label, "/"); ok {
		start, ok1 := octet(first)
		length, ok2 := octet(bits)
		if !ok1 || !ok2 || length < 25 || length > 32 {
			return netip.Prefix{}, false
		}
		a[3] = start
		p := netip.PrefixFrom(netip.AddrFrom4(a), int(length))
		return p, p.Masked() == p
	}
	if first, last, ok := strings.Cut(label, "-"); ok {
		start, ok1 := octet(first)
		end, ok2 := octet(last)
		for bits := 25; ok1 && ok2 && bits <= 32; bits++ {
			size := 1 << (32 - bits)
			if int(start)%size == 0 && int(end) == int(start)+size-1 {
				a[3] = start
				return netip.PrefixFrom(netip.AddrFrom4(a), bits), true
			}
		}
	}
	return net24, true
}
