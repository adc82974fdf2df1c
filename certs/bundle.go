// Package certs holds the rack's secrets, and keeps the certificates of one node issued, valid and published.
//
// The bundle is the one secrets file that every node holds. From it each node issues its own certificates, so that a
// rack boots in any order, with no first node and no network. Nothing here needs etcd or DNS to run.
package certs

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"slices"
	"time"
)

// Bundle is a checked, immutable bundle: its signature, its chains and its keys fit together. It is safe for
// concurrent use.
type Bundle struct {
	raw  []byte // the file's bytes; unknown fields live here
	body body

	roots    []*x509.Certificate // all that are not distrusted, primary first
	peerCA   issuingCA           // signs what names a node: peer and server certificates
	clientCA issuingCA           // signs clients only; it cannot sign any host name
}

// issuingCA is one certificate authority whose key every node holds.
type issuingCA struct {
	cert *x509.Certificate
	key  crypto.Signer
}

// ID names the rack for ever: the first 16 octets of the SHA-256 of the first root certificate, as 32 hexadecimal
// digits. It stays the same when roots are rotated.
func (b *Bundle) ID() string { return b.body.ID }

// Domain is the discovery domain: absolute, lower case, with its trailing dot.
func (b *Bundle) Domain() string { return b.body.Domain }

// Generation counts the bundle's versions from 1; of two valid bundles of one ID the higher generation wins.
func (b *Bundle) Generation() uint64 { return b.body.Generation }

// Created is when the rack's bundle was made, by the clock of the machine that made it. Any earlier time is wrong.
func (b *Bundle) Created() time.Time { return b.body.Created }

// BirthUntil is when the permission for a rack of blank nodes to be born ends (safety.md R1).
func (b *Bundle) BirthUntil() time.Time { return b.body.BirthUntil }

// Plain says that the clusters speak without TLS. The admin port uses TLS all the same.
func (b *Bundle) Plain() bool { return b.body.Plain }

// SrvNames returns the srv-names of the clusters, sorted; the default cluster's is empty.
func (b *Bundle) SrvNames() []string {
	var out []string
	for _, c := range b.body.Clusters {
		out = append(out, c.SrvName)
	}
	return out
}

// Names returns the initial member names of the cluster, in the operator's order; nil if there is no such cluster.
func (b *Bundle) Names(srvName string) []string {
	var out []string
	for _, c := range b.body.Clusters {
		for _, n := range c.Members {
			if c.SrvName == srvName {
				out = append(out, n.Name)
			}
		}
	}
	return out
}

// Slot returns the node's fixed number, 0 to 63. At first it is the name's place among all names of the bundle,
// clusters in the order of SrvNames; a number is never given to another name of the domain.
func (b *Bundle) Slot(name string) (slot int, ok bool) {
	for _, c := range b.body.Clusters {
		for _, n := range c.Members {
			if n.Name == name {
				return n.Slot, true
			}
		}
	}
	return 0, false
}

// RootPEM returns every root certificate that is not distrusted: what nodes and clients trust.
func (b *Bundle) RootPEM() []byte {
	var out bytes.Buffer
	for _, c := range b.roots {
		out.Write(certPEM(c.Raw))
	}
	return out.Bytes()
}

// Secrets are the bundle's shared secrets other than certificate authorities. The caller owns the copy.
type Secrets struct {
	// TSIGName, TSIGAlgorithm and TSIG sign zone transfers and NOTIFY (RFC 8945). The name and the algorithm are
	// absolute domain names.
	TSIGName, TSIGAlgorithm string
	TSIG                    []byte
	// Cookie and PreviousCookie are the 16-octet secrets of DNS server cookies (RFC 9018); the previous one is nil
	// until the first roll-over.
	Cookie, PreviousCookie []byte
	// ZoneKey is the zone signing key, P-256 (DNSSEC algorithm 13, RFC 6605), as PKCS #8 PEM.
	ZoneKey []byte
}

// Secrets returns the secrets in use.
func (b *Bundle) Secrets() Secrets {
	tsig, _ := primary(b.body.TSIGKeys)
	zone, _ := primary(b.body.ZoneKeys)
	return Secrets{
		TSIGName:       tsig.Name,
		TSIGAlgorithm:  tsig.Algorithm,
		TSIG:           slices.Clone(tsig.Secret),
		Cookie:         slices.Clone(b.body.Cookies.Current),
		PreviousCookie: slices.Clone(b.body.Cookies.Previous),
		ZoneKey:        []byte(zone.Key),
	}
}

// Marshal returns the bundle's file content. Fields that this version does not know are kept.
func (b *Bundle) Marshal() ([]byte, error) { return bytes.Clone(b.raw), nil }

// pool returns the trusted roots.
func (b *Bundle) pool() *x509.CertPool {
	pool := x509.NewCertPool()
	for _, c := range b.roots {
		pool.AddCert(c)
	}
	return pool
}

func certPEM(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}
