package certs

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// bundleFormat is the version of the bundle file. Fields may be added without a new version.
const bundleFormat = 1

// state is where a key of a set stands between its making and its end. A rotation moves keys through the states one
// bundle generation at a time.
type state string

const (
	next       state = "next"       // trusted, not used yet
	inUse      state = "primary"    // used; exactly one key of a set
	trusted    state = "trusted"    // no longer used, still trusted
	distrusted state = "distrusted" // kept so that its certificates can be refused by name
)

// body is the signed part of a bundle, format 1.
type body struct {
	ID         string    `json:"id"`
	Domain     string    `json:"domain"`
	Generation uint64    `json:"generation"`
	Created    time.Time `json:"created"`
	BirthUntil time.Time `json:"birth_until"`
	Plain      bool      `json:"plain,omitempty"`
	Clusters   []cluster `json:"clusters"`

	Roots    []keyEntry `json:"roots"`
	PeerCA   []keyEntry `json:"peer_ca"`
	ClientCA []keyEntry `json:"client_ca"`

	GossipKeys []secretEntry `json:"gossip_keys"`
	TSIGKeys   []secretEntry `json:"tsig_keys"`
	Cookies    cookies       `json:"cookie_secrets"`
	ZoneKeys   []keyEntry    `json:"zone_keys"`
	ACME       *acmeAccount  `json:"acme,omitempty"`
}

type cluster struct {
	SrvName string   `json:"srv_name"`
	Members []member `json:"members"`
}

type member struct {
	Name string `json:"name"`
	Slot int    `json:"slot"`
}

// keyEntry is one key pair of a set, in PEM. A root's key is never here.
type keyEntry struct {
	ID    string `json:"id"`
	State state  `json:"state"`
	Cert  string `json:"cert,omitempty"`
	Key   string `json:"key,omitempty"`
}

type secretEntry struct {
	ID        string `json:"id"`
	State     state  `json:"state"`
	Name      string `json:"name,omitempty"`
	Algorithm string `json:"algorithm,omitempty"`
	Secret    []byte `json:"secret"`
}

type cookies struct {
	Current  []byte `json:"current"`
	Previous []byte `json:"previous,omitempty"`
}

type acmeAccount struct {
	Directory  string `json:"directory"`
	AccountKey string `json:"account_key"`
	Email      string `json:"email,omitempty"`
	Profile    string `json:"profile,omitempty"`
}

type signature struct {
	Root  string `json:"root"`  // SHA-256 of the root certificate, hexadecimal
	Value string `json:"value"` // ECDSA over signingInput, ASN.1, base64
}

// UnmarshalJSON takes the field names as they are: encoding/json would match them in any case, and nothing signs them.
func (s *signature) UnmarshalJSON(data []byte) error {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(data, &fields); err != nil {
		return err
	}
	return errors.Join(json.Unmarshal(fields["root"], &s.Root), json.Unmarshal(fields["value"], &s.Value))
}

func (e keyEntry) stateOf() state    { return e.State }
func (e secretEntry) stateOf() state { return e.State }

// primary returns the key of the set that is in use; there must be exactly one.
func primary[E interface{ stateOf() state }](set []E) (entry E, err error) {
	n := 0
	for _, e := range set {
		switch e.stateOf() {
		case inUse:
			entry = e
			n++
		case next, trusted, distrusted:
		default:
			return entry, fmt.Errorf("unknown key state %q", e.stateOf())
		}
	}
	if n != 1 {
		return entry, fmt.Errorf("%d primary keys in a set, want one", n)
	}
	return entry, nil
}

// seal signs the body with the root and returns the bundle file.
func seal(b body, root issuingCA) ([]byte, error) {
	signed, err := json.Marshal(b)
	if err != nil {
		return nil, fmt.Errorf("encode bundle: %w", err)
	}
	return sealSigned(signed, root)
}

func sealSigned(signed []byte, root issuingCA) ([]byte, error) {
	input, err := signingInput(bundleFormat, signed)
	if err != nil {
		return nil, err
	}
	value, err := root.key.Sign(rand.Reader, input, nil)
	if err != nil {
		return nil, fmt.Errorf("sign bundle: %w", err)
	}
	out, err := json.MarshalIndent(struct {
		Format     int             `json:"format"`
		Signed     json.RawMessage `json:"signed"`
		Signatures []signature     `json:"signatures"`
	}{bundleFormat, json.RawMessage(signed), []signature{{fingerprint(root.cert), base64.StdEncoding.EncodeToString(value)}}}, "", "  ")
	return append(out, '\n'), err
}

// signingInput is the digest that roots sign: format and content, whatever the white space.
func signingInput(format int, signed []byte) ([]byte, error) {
	var b bytes.Buffer
	fmt.Fprintf(&b, "etcd-dns bundle, format %d\n", format)
	if err := json.Compact(&b, signed); err != nil {
		return nil, err
	}
	sum := sha256.Sum256(b.Bytes())
	return sum[:], nil
}

func fingerprint(c *x509.Certificate) string {
	sum := sha256.Sum256(c.Raw)
	return hex.EncodeToString(sum[:])
}

const damagedHint = "the bundle is damaged; copy it again from the machine where etcd-dns init ran"

// openBundle reads and checks a bundle file's content. Every error has a hint.
func openBundle(raw []byte) (*Bundle, error) {
	// A map, because struct fields would match keys in any case, and what is not signed must be exact.
	var env map[string]json.RawMessage
	if err := json.Unmarshal(raw, &env); err != nil {
		return nil, withHint(damagedHint, "bundle: not JSON: %w", err)
	}
	var format int
	if err := json.Unmarshal(env["format"], &format); err != nil || format < 1 {
		return nil, withHint(damagedHint, "bundle: format is %q, want a number from 1", env["format"])
	}
	if format > bundleFormat {
		return nil, withHint("install the version of etcd-dns that wrote the bundle, or a later one",
			"bundle: format %d is newer than this version of etcd-dns reads (%d)", format, bundleFormat)
	}
	var sigs []signature
	if err := json.Unmarshal(env["signatures"], &sigs); err != nil {
		return nil, withHint(damagedHint, "bundle: signatures: %w", err)
	}
	b := &Bundle{raw: bytes.Clone(raw)}
	if err := json.Unmarshal(env["signed"], &b.body); err != nil {
		return nil, withHint(damagedHint, "bundle: signed part: %w", err)
	}
	if err := b.openKeys(); err != nil {
		return nil, withHint(damagedHint, "bundle: %w", err)
	}
	if err := b.checkSignatures(format, env["signed"], sigs); err != nil {
		return nil, withHint(damagedHint, "bundle: %w", err)
	}
	if err := b.checkBody(); err != nil {
		return nil, withHint(damagedHint, "bundle: %w", err)
	}
	return b, nil
}

// checkSignatures wants at least one signature, and every one valid, by a root that is not distrusted.
func (b *Bundle) checkSignatures(format int, signed []byte, sigs []signature) error {
	input, err := signingInput(format, signed)
	if err != nil {
		return err
	}
	if len(sigs) == 0 {
		return errors.New("not signed")
	}
	for _, s := range sigs {
		i := slices.IndexFunc(b.roots, func(c *x509.Certificate) bool { return fingerprint(c) == s.Root })
		if i < 0 {
			return fmt.Errorf("signed by root %.16q…, which the bundle does not hold or distrusts", s.Root)
		}
		pub, ok := b.roots[i].PublicKey.(*ecdsa.PublicKey)
		value, err := base64.StdEncoding.Strict().DecodeString(s.Value)
		if err != nil || !ok || !ecdsa.VerifyASN1(pub, input, value) {
			return fmt.Errorf("the signature of root %.16s… does not match the content", s.Root)
		}
	}
	return nil
}

// openKeys parses the certificate authorities.
func (b *Bundle) openKeys() error {
	first, err := primary(b.body.Roots)
	if err != nil {
		return fmt.Errorf("roots: %w", err)
	}
	for _, e := range b.body.Roots {
		if e.State == distrusted {
			continue
		}
		c, err := parseCert([]byte(e.Cert))
		if err != nil {
			return fmt.Errorf("root %q: %w", e.ID, err)
		}
		if e.ID == first.ID {
			b.roots = slices.Insert(b.roots, 0, c)
		} else {
			b.roots = append(b.roots, c)
		}
	}
	if b.peerCA, err = openIssuing(b.body.PeerCA); err != nil {
		return fmt.Errorf("peer CA: %w", err)
	}
	if b.clientCA, err = openIssuing(b.body.ClientCA); err != nil {
		return fmt.Errorf("client CA: %w", err)
	}
	return nil
}

func openIssuing(set []keyEntry) (issuingCA, error) {
	e, err := primary(set)
	if err != nil {
		return issuingCA{}, err
	}
	cert, err := parseCert([]byte(e.Cert))
	if err != nil {
		return issuingCA{}, err
	}
	key, err := parseKey([]byte(e.Key))
	if err != nil {
		return issuingCA{}, err
	}
	if !samePublicKey(cert, key) {
		return issuingCA{}, fmt.Errorf("the key does not belong to certificate %s", cert.Subject)
	}
	return issuingCA{cert: cert, key: key}, nil
}

// checkBody checks what the signature cannot: that the signer wrote sense.
func (b *Bundle) checkBody() error {
	if !isBundleID(b.body.ID) {
		return fmt.Errorf("id %q, want 32 hexadecimal digits", b.body.ID)
	}
	if d, err := foldDomain(b.body.Domain); err != nil || d != b.body.Domain {
		return fmt.Errorf("domain %q is not absolute and lower case", b.body.Domain)
	}
	if b.body.Generation < 1 || b.body.Created.IsZero() || b.body.BirthUntil.Before(b.body.Created) {
		return errors.New("generation, created or birth_until are out of range")
	}
	for _, ca := range []struct {
		issuingCA
		unit string
	}{{b.peerCA, peerUnit}, {b.clientCA, clientUnit}} {
		if !ca.cert.IsCA || !slices.Contains(ca.cert.Subject.OrganizationalUnit, ca.unit) {
			return fmt.Errorf("%s is not a %s CA", ca.cert.Subject, ca.unit)
		}
		if !slices.ContainsFunc(b.roots, func(r *x509.Certificate) bool { return ca.cert.CheckSignatureFrom(r) == nil }) {
			return fmt.Errorf("no root signed the CA %s", ca.cert.Subject)
		}
	}
	if err := b.checkSecrets(); err != nil {
		return err
	}
	return b.checkMembers()
}

func (b *Bundle) checkSecrets() error {
	_, err := primary(b.body.GossipKeys)
	if err != nil || slices.ContainsFunc(b.body.GossipKeys, func(e secretEntry) bool { return len(e.Secret) != 32 }) {
		return fmt.Errorf("gossip_keys: want keys of 32 octets, and one primary among them")
	}
	tsig, err := primary(b.body.TSIGKeys)
	if err != nil || len(tsig.Secret) < 16 || !strings.HasSuffix(tsig.Name, ".") {
		return fmt.Errorf("tsig_keys: want one primary key of at least 16 octets with an absolute name")
	}
	if len(b.body.Cookies.Current) != 16 {
		return fmt.Errorf("cookie_secrets: want 16 octets")
	}
	zone, err := primary(b.body.ZoneKeys)
	if err != nil {
		return fmt.Errorf("zone_keys: %w", err)
	}
	if _, err := parseKey([]byte(zone.Key)); err != nil {
		return fmt.Errorf("zone_keys: %w", err)
	}
	return nil
}

func (b *Bundle) checkMembers() error {
	names, slots, srvNames := map[string]bool{}, map[int]bool{}, map[string]bool{}
	for _, c := range b.body.Clusters {
		srv, err := foldSrvName(c.SrvName, b.body.Domain)
		if err != nil || srv != c.SrvName || srvNames[srv] || len(c.Members) == 0 {
			return fmt.Errorf("cluster %q: bad or repeated srv-name, or no members", c.SrvName)
		}
		srvNames[srv] = true
		for _, m := range c.Members {
			name, err := foldNode(m.Name, b.body.Domain)
			if err != nil || name != m.Name || names[name] || slots[m.Slot] || m.Slot < 0 || m.Slot >= maxNodes {
				return fmt.Errorf("member %q with slot %d: bad or repeated", m.Name, m.Slot)
			}
			names[name], slots[m.Slot] = true, true
		}
	}
	if len(names) == 0 {
		return errors.New("no members")
	}
	return nil
}
