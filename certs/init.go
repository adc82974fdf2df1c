package certs

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"slices"
	"time"
)

// defaultGenesisWithin is how long after init a rack of blank nodes may be born (safety.md R1).
const defaultGenesisWithin = 7 * day

// InitOptions say what a new bundle is for.
type InitOptions struct {
	// Domain is the discovery domain, with or without the trailing dot, in any case.
	Domain string
	// Names are the initial member names of each cluster by its srv-name, in the operator's order. The default
	// cluster's srv-name is empty. Upper case is folded. At most 64 names, each in one cluster only.
	Names map[string][]string
	// Plain says that the clusters speak without TLS (`tls off`). The admin port uses TLS all the same.
	Plain bool
	// GenesisWithin is how long from now a rack of blank nodes may be born; 0 means 7 days.
	GenesisWithin time.Duration
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// RootKey is the root's private key, PKCS #8 PEM. It stays with the operator, away from every node: who has it can
// make certificates and bundles that the whole rack trusts.
type RootKey []byte

// String keeps the key out of logs.
func (RootKey) String() string { return "(root key)" }

// GoString keeps the key out of logs.
func (RootKey) GoString() string { return "(root key)" }

// NewBundle makes the secrets of a new rack. The caller writes both results to different directories. An error about
// the options has a hint.
func NewBundle(o InitOptions) (*Bundle, RootKey, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.GenesisWithin == 0 {
		o.GenesisWithin = defaultGenesisWithin
	}
	if o.GenesisWithin < 0 {
		return nil, nil, withHint("--genesis-within 168h", "genesis within %s: want a positive duration", o.GenesisWithin)
	}
	domain, err := foldDomain(o.Domain)
	if err != nil {
		return nil, nil, err
	}
	clusters, err := foldClusters(o.Names, domain)
	if err != nil {
		return nil, nil, err
	}
	created := o.Now().UTC().Truncate(time.Second)
	root, peer, client, err := newCAs(domain, created)
	if err != nil {
		return nil, nil, err
	}
	b := body{
		Domain: domain, Generation: 1, Created: created, BirthUntil: created.Add(o.GenesisWithin),
		Plain: o.Plain, Clusters: clusters,
	}
	sum := sha256.Sum256(root.cert.Raw)
	b.ID = hex.EncodeToString(sum[:16])
	if err := b.addKeys(root, peer, client); err != nil {
		return nil, nil, err
	}
	raw, err := seal(b, root)
	if err != nil {
		return nil, nil, err
	}
	key, err := keyPEM(root.key)
	if err != nil {
		return nil, nil, err
	}
	bundle, err := openBundle(raw) // what was written must be readable
	return bundle, key, err
}

// addKeys fills in the first generation of every key set.
func (b *body) addKeys(root, peer, client issuingCA) error {
	const first = "g1"
	b.Roots = []keyEntry{{ID: first, State: inUse, Cert: string(certPEM(root.cert.Raw))}}
	for _, set := range []struct {
		to *[]keyEntry
		ca issuingCA
	}{{&b.PeerCA, peer}, {&b.ClientCA, client}} {
		key, err := keyPEM(set.ca.key)
		if err != nil {
			return err
		}
		*set.to = []keyEntry{{ID: first, State: inUse, Cert: string(certPEM(set.ca.cert.Raw)), Key: string(key)}}
	}
	zone, err := newKey()
	if err != nil {
		return err
	}
	key, err := keyPEM(zone)
	if err != nil {
		return err
	}
	b.ZoneKeys = []keyEntry{{ID: first, State: inUse, Key: string(key)}}
	b.GossipKeys = []secretEntry{{ID: first, State: inUse, Secret: secret(32)}}
	b.TSIGKeys = []secretEntry{{ID: first, State: inUse, Secret: secret(32), Name: "transfer." + b.Domain, Algorithm: "hmac-sha256."}}
	b.Cookies = cookies{Current: secret(16)}
	return nil
}

func secret(octets int) []byte {
	s := make([]byte, octets)
	rand.Read(s) // never fails (crypto/rand)
	return s
}

const namesHint = "give each node its own name, as in: --node infra0 --node infra1 --node infra2"

// foldClusters checks the names and numbers the nodes: the default cluster first, then by srv-name.
func foldClusters(names map[string][]string, domain string) ([]cluster, error) {
	folded := map[string][]string{}
	for _, srvName := range slices.Sorted(maps.Keys(names)) {
		srv, err := foldSrvName(srvName, domain)
		if err != nil {
			return nil, err
		}
		if _, twice := folded[srv]; twice {
			return nil, withHint(namesHint, "srv-name %q is given twice", srv)
		}
		if len(names[srvName]) == 0 {
			return nil, withHint(namesHint, "cluster %q has no nodes", srv)
		}
		folded[srv] = names[srvName]
	}
	var out []cluster
	var all []string
	for _, srv := range slices.Sorted(maps.Keys(folded)) {
		c := cluster{SrvName: srv}
		for _, name := range folded[srv] {
			n, err := foldNode(name, domain)
			if err != nil {
				return nil, err
			}
			c.Members = append(c.Members, member{Name: n, Slot: len(all)})
			all = append(all, n)
		}
		out = append(out, c)
	}
	return out, checkNames(all)
}

// checkNames refuses names that collide.
func checkNames(names []string) error {
	if len(names) == 0 {
		return withHint(namesHint, "no node names")
	}
	if len(names) > maxNodes {
		return withHint("split the rack into several domains", "%d node names, a domain has at most %d", len(names), maxNodes)
	}
	for i, n := range names {
		if slices.Contains(names[:i], n) {
			return withHint(namesHint, "node name %q is given twice", n)
		}
		if slices.Contains(names, n+"-peer") {
			return withHint(namesHint, "node name %q is also the host name of %s's peer address", n+"-peer", n)
		}
	}
	return nil
}
