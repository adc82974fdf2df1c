package certs

import (
	"crypto"
	"crypto/x509"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// desired is what a published certificate should be.
type desired struct {
	subject string // the one name that certmagic knows it by: the leaf's first
	leaf    leaf
	ca      issuingCA
}

// The purposes of the node's certificates, in the order in which they are issued.
const (
	peerSlot   = "peer"
	clientSlot = "client"
	serverSlot = "server"
)

// desiredFor returns what the node's certificate for the purpose should be. peerHost is the host label of its peer URL.
func desiredFor(purpose string, b *Bundle, node, peerHost string, addrs []netip.Addr) desired {
	domain := strings.TrimSuffix(b.Domain(), ".")
	host := node + "." + domain
	names := []string{host, domain, "localhost"}
	switch purpose {
	case peerSlot:
		if peerHost != node {
			names = append(names, peerHost+"."+domain)
		}
		return desired{host, leaf{dns: names, ips: sanAddrs(addrs), uri: identityURI(b.ID(), node),
			usages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}, b.peerCA}
	case serverSlot:
		return desired{host, leaf{dns: names, ips: sanAddrs(addrs),
			usages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}, b.peerCA}
	default: // etcd's calls to itself: gateway and health
		return desired{node, leaf{cn: node, usages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}, b.clientCA}
	}
}

// sanAddrs returns the addresses as a certificate holds them, sorted: with loopback, without zones, IPv4 in four octets.
func sanAddrs(addrs []netip.Addr) []net.IP {
	all := []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()}
	for _, a := range addrs {
		if a = a.Unmap().WithZone(""); a.IsValid() && !a.IsUnspecified() && !a.IsMulticast() {
			all = append(all, a)
		}
	}
	slices.SortFunc(all, netip.Addr.Compare)
	var out []net.IP
	for _, a := range slices.Compact(all) {
		out = append(out, a.AsSlice())
	}
	return out
}

// pair is a published certificate with its chain and key.
type pair struct {
	chain []*x509.Certificate // the leaf first
	key   crypto.Signer
}

// mismatch says why the pair is not what is desired, or returns "". Whether it is valid now is for usable to say.
func (d desired) mismatch(p pair, now time.Time) string {
	c := p.chain[0]
	switch {
	case !samePublicKey(c, p.key):
		return "it belongs to another key"
	case len(p.chain) != 2 || !p.chain[1].Equal(d.ca.cert):
		return "another CA issued it"
	case firstName(c) != d.subject || c.Subject.CommonName != d.leaf.cn || !slices.Equal(c.DNSNames, d.leaf.dns):
		return "its names differ"
	case !slices.EqualFunc(c.IPAddresses, d.leaf.ips, net.IP.Equal):
		return "the node's addresses changed"
	case !slices.Equal(uris(c), d.uris()):
		return "its node identity differs"
	case !slices.Equal(c.ExtKeyUsage, d.leaf.usages):
		return "its extended key usage differs"
	case !now.Before(renewAt(c)) && c.NotAfter.Before(d.ca.cert.NotAfter): // else a new one would end no later
		return "it is due for renewal"
	}
	return ""
}

func (d desired) uris() []string {
	if d.leaf.uri == "" {
		return nil
	}
	return []string{d.leaf.uri}
}

func uris(c *x509.Certificate) []string {
	var out []string
	for _, u := range c.URIs {
		out = append(out, u.String())
	}
	return out
}

// renewAt is when to renew: after 60 to 70 % of the lifetime. The serial number spreads the nodes of a rack.
func renewAt(c *x509.Certificate) time.Time {
	var jitter uint8
	if s := c.SerialNumber.Bytes(); len(s) > 0 {
		jitter = s[len(s)-1]
	}
	life := c.NotAfter.Sub(c.NotBefore)
	return c.NotBefore.Add(life/100*60 + life/10*time.Duration(jitter)/256)
}

// sans returns all subject alternative names in their order, for people.
func sans(c *x509.Certificate) []string {
	out := slices.Clone(c.DNSNames)
	for _, ip := range c.IPAddresses {
		out = append(out, ip.String())
	}
	return append(out, uris(c)...)
}

// verify checks that the pair is what is desired, and that its users will accept it now.
func (d desired) verify(p pair, roots *x509.CertPool, now time.Time) error {
	if reason := d.mismatch(p, now); reason != "" {
		return errors.New(reason)
	}
	return d.usable(p, roots, now)
}

// usable checks the pair as its users do: key, chain, name constraints and each extended key usage, now.
func (d desired) usable(p pair, roots *x509.CertPool, now time.Time) error {
	if !samePublicKey(p.chain[0], p.key) {
		return errors.New("it belongs to another key")
	}
	issuing := x509.NewCertPool()
	for _, c := range p.chain[1:] {
		issuing.AddCert(c)
	}
	for _, usage := range d.leaf.usages {
		o := x509.VerifyOptions{Roots: roots, Intermediates: issuing, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{usage}}
		if _, err := p.chain[0].Verify(o); err != nil {
			return err
		}
	}
	return nil
}
