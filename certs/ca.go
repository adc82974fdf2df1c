package certs

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"strings"
	"time"
)

const (
	day = 24 * time.Hour

	rootLifetime    = 3650 * day
	issuingLifetime = 1826 * day
	leafLifetime    = 90 * day

	// clockTolerance is how far a clock may be off at first boot. A hardware clock kept in local time is off by up to
	// 14 hours. Leaves are backdated by it, and CAs by twice that, so no leaf is older than its CA.
	clockTolerance = 24 * time.Hour

	// peerUnit and clientUnit are the organizational units of the issuing CAs. Only the offline root key makes CAs, so
	// the unit of a verified issuer can be trusted.
	peerUnit   = "peer"
	clientUnit = "client"
)

// newCAs makes the root and the two issuing CAs of a new bundle.
func newCAs(domain string, created time.Time) (root, peer, client issuingCA, err error) {
	host := strings.TrimSuffix(domain, ".")
	mark := make([]byte, 4)
	rand.Read(mark) // never fails (crypto/rand)
	name := func(unit string) pkix.Name {
		n := pkix.Name{CommonName: fmt.Sprintf("etcd-dns %s CA g1 %s", unit, hex.EncodeToString(mark)), OrganizationalUnit: []string{unit}}
		if len(host) <= 64 { // ub-organization-name, RFC 5280 appendix A.1
			n.Organization = []string{host}
		}
		return n
	}
	root, err = signCA(caTemplate(name("root"), created, rootLifetime, host), issuingCA{})
	if err != nil {
		return root, peer, client, err
	}
	t := caTemplate(name(peerUnit), created, issuingLifetime, host)
	t.MaxPathLenZero = true
	if peer, err = signCA(t, root); err != nil {
		return root, peer, client, err
	}
	t = caTemplate(name(clientUnit), created, issuingLifetime, host)
	t.MaxPathLenZero = true
	// etcd tells peers from clients by the domain in their names (AllowedHostnames), so the CA of clients must not be
	// able to sign any. The empty constraint matches every name (RFC 5280 §4.2.1.10).
	t.PermittedDNSDomains, t.ExcludedDNSDomains = nil, []string{""}
	t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	client, err = signCA(t, root)
	return root, peer, client, err
}

func caTemplate(name pkix.Name, created time.Time, lifetime time.Duration, host string) *x509.Certificate {
	return &x509.Certificate{
		Subject:                     name,
		NotBefore:                   created.Add(-2 * clockTolerance),
		NotAfter:                    created.Add(lifetime),
		IsCA:                        true,
		BasicConstraintsValid:       true,
		KeyUsage:                    x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		PermittedDNSDomainsCritical: true,
		PermittedDNSDomains:         []string{host, "localhost"},
	}
}

// signCA signs a CA with the parent, or with itself if there is none.
func signCA(t *x509.Certificate, parent issuingCA) (issuingCA, error) {
	key, err := newKey()
	if err != nil {
		return issuingCA{}, err
	}
	if parent.cert == nil {
		parent = issuingCA{cert: t, key: key}
	}
	cert, err := signCert(t, key.Public(), parent)
	return issuingCA{cert: cert, key: key}, err
}

// signCert gives the template a random serial number of 128 bits and signs it.
func signCert(t *x509.Certificate, pub crypto.PublicKey, ca issuingCA) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, fmt.Errorf("serial number: %w", err)
	}
	t.SerialNumber = serial.Add(serial, big.NewInt(1))
	der, err := x509.CreateCertificate(rand.Reader, t, ca.cert, pub, ca.key)
	if err != nil {
		return nil, fmt.Errorf("sign certificate for %s: %w", t.Subject, err)
	}
	return x509.ParseCertificate(der)
}

// leaf is what a certificate that is not a CA's says.
type leaf struct {
	cn     string
	org    string
	dns    []string
	ips    []net.IP
	uri    string
	usages []x509.ExtKeyUsage
}

// leafTemplate is valid from now, backdated, for at most lifetime and no longer than the CA.
func leafTemplate(l leaf, ca issuingCA, now time.Time, lifetime time.Duration) (*x509.Certificate, error) {
	t := &x509.Certificate{
		Subject:     pkix.Name{CommonName: l.cn},
		DNSNames:    l.dns,
		IPAddresses: l.ips,
		NotBefore:   now.Add(-clockTolerance).UTC(),
		NotAfter:    now.Add(lifetime).UTC(),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: l.usages,

		BasicConstraintsValid: true,
	}
	if l.org != "" {
		t.Subject.Organization = []string{l.org}
	}
	if l.uri != "" {
		u, err := parseIdentity(l.uri)
		if err != nil {
			return nil, err
		}
		t.URIs = append(t.URIs, u)
	}
	if t.NotAfter.After(ca.cert.NotAfter) {
		t.NotAfter = ca.cert.NotAfter
	}
	if !now.Before(t.NotAfter) {
		return nil, withHint("check the clock with: date; if it is right: etcd-dns ca rotate",
			"the issuing CA %q expired on %s, and the clock says %s", ca.cert.Subject.CommonName,
			ca.cert.NotAfter.Format(time.DateOnly), now.Format(time.DateOnly))
	}
	return t, nil
}

func newKey() (*ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("generate P-256 key: %w", err)
	}
	return key, nil
}

// keyPEM encodes as PKCS #8, which OpenSSL and Go read alike.
func keyPEM(key crypto.Signer) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encode private key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// parseKey reads one PKCS #8 key. Its type must be one that signs.
func parseKey(data []byte) (crypto.Signer, error) {
	block, rest := pem.Decode(data)
	if block == nil || block.Type != "PRIVATE KEY" || len(bytes.TrimSpace(rest)) > 0 {
		return nil, errors.New("want exactly one PEM block PRIVATE KEY")
	}
	k, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("private key: %w", err)
	}
	signer, ok := k.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("private key of type %T does not sign", k)
	}
	return signer, nil
}

// parseCert reads one certificate.
func parseCert(data []byte) (*x509.Certificate, error) {
	chain, err := parseChain(data)
	if err != nil {
		return nil, err
	}
	if len(chain) != 1 {
		return nil, fmt.Errorf("%d certificates, want one", len(chain))
	}
	return chain[0], nil
}

// parseChain reads certificates, the leaf first. Anything else in data is an error.
func parseChain(data []byte) ([]*x509.Certificate, error) {
	var chain []*x509.Certificate
	for len(bytes.TrimSpace(data)) > 0 {
		var block *pem.Block
		block, data = pem.Decode(data)
		if block == nil || block.Type != "CERTIFICATE" {
			return nil, errors.New("want PEM blocks CERTIFICATE only")
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate %d: %w", len(chain)+1, err)
		}
		chain = append(chain, c)
	}
	if len(chain) == 0 {
		return nil, errors.New("no certificate")
	}
	return chain, nil
}

// samePublicKey says whether the private key belongs to the certificate.
func samePublicKey(cert *x509.Certificate, key crypto.Signer) bool {
	pub, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool })
	return ok && pub.Equal(cert.PublicKey)
}
