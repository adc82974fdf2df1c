package certs

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
)

// identityScheme is the scheme of the URI in every peer certificate: etcd-dns://BUNDLE/NODE.
const identityScheme = "etcd-dns"

func identityURI(bundle, node string) string { return identityScheme + "://" + bundle + "/" + node }

// parseIdentity accepts only what identityURI makes, octet for octet; net/url folds the scheme's case.
func parseIdentity(uri string) (*url.URL, error) {
	u, err := url.Parse(uri)
	if err != nil {
		return nil, fmt.Errorf("node identity: %w", err)
	}
	if _, _, err := splitIdentity(u); err != nil {
		return nil, err
	}
	return u, nil
}

func splitIdentity(u *url.URL) (bundle, node string, err error) {
	bundle, node = u.Host, strings.TrimPrefix(u.Path, "/")
	if !isBundleID(bundle) || !isHostLabel(node) || u.String() != identityURI(bundle, node) {
		return "", "", fmt.Errorf("node identity %q, want etcd-dns://BUNDLE/NODE", u)
	}
	return bundle, node, nil
}

// isBundleID says whether s is 32 lower-case hexadecimal digits.
func isBundleID(s string) bool { return len(s) == 32 && strings.Trim(s, "0123456789abcdef") == "" }

// PeerIdentity returns the rack and the node that the other side of a connection proved to be. The connection must
// have been verified against the bundle's roots, with the certificate issued by a peer CA, allowed to authenticate
// clients, and naming exactly one node. The caller compares the results with what it expects; the configurations of
// AdminServerTLS and AdminClientTLS have done so.
func PeerIdentity(cs *tls.ConnectionState) (bundle, node string, err error) {
	if cs == nil || len(cs.VerifiedChains) == 0 {
		return "", "", errors.New("node identity: no verified certificate")
	}
	isPeer := func(chain []*x509.Certificate) bool {
		return len(chain) >= 2 && slices.Contains(chain[1].Subject.OrganizationalUnit, peerUnit)
	}
	i := slices.IndexFunc(cs.VerifiedChains, isPeer)
	if i < 0 {
		return "", "", fmt.Errorf("node identity: certificate %q was not issued by a peer CA", cs.VerifiedChains[0][0].Subject)
	}
	cert := cs.VerifiedChains[i][0]
	if !slices.Contains(cert.ExtKeyUsage, x509.ExtKeyUsageClientAuth) {
		return "", "", errors.New("node identity: the certificate is not one of a peer, it lacks clientAuth")
	}
	if len(cert.URIs) != 1 {
		return "", "", fmt.Errorf("node identity: %d URIs in the certificate, want one", len(cert.URIs))
	}
	return splitIdentity(cert.URIs[0])
}
