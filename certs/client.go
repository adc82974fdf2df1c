package certs

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/etcd-dns/etcd-dns/internal/durable"
)

// defaultClientLifetime is how long a client certificate lives. Nothing renews it, unlike a node's own.
const defaultClientLifetime = 365 * day

// ClientOptions are the choices about a client certificate.
type ClientOptions struct {
	// Lifetime is how long it is valid from now; 0 means 365 days. It never outlives the CA.
	Lifetime time.Duration
	// Proxy leaves the common name out: etcd's gRPC proxy refuses a certificate with one, since all its clients would be that user.
	// The name is the organization then.
	Proxy bool
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// IssueClient makes a certificate for a client of etcd, followed by its CA, and its key. The common name is name, which
// etcd takes for the user name when authentication is on. It carries no other names, so that it cannot join as a
// peer. An error about name or options has a hint.
func (b *Bundle) IssueClient(name string, o ClientOptions) (certificate, key []byte, err error) {
	if err := checkClientName(name); err != nil {
		return nil, nil, err
	}
	if o.Lifetime == 0 {
		o.Lifetime = defaultClientLifetime
	}
	if o.Lifetime < 0 {
		return nil, nil, withHint("--lifetime 8760h", "lifetime %s: want a positive duration", o.Lifetime)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	signer, err := newKey()
	if err != nil {
		return nil, nil, err
	}
	l := leaf{cn: name, usages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	if o.Proxy {
		l.cn, l.org = "", name
	}
	t, err := leafTemplate(l, b.clientCA, o.Now(), o.Lifetime)
	if err != nil {
		return nil, nil, err
	}
	cert, err := signCert(t, signer.Public(), b.clientCA)
	if err != nil {
		return nil, nil, err
	}
	key, err = keyPEM(signer)
	return append(certPEM(cert.Raw), certPEM(b.clientCA.cert.Raw)...), key, err
}

// checkClientName wants a name that is a file name and fits a common name (ub-common-name, RFC 5280 appendix A.1).
func checkClientName(name string) error {
	const hint = "choose a name such as alice: etcd-dns cert client alice --bundle F --out DIR"
	if len(name) < 1 || len(name) > 64 || strings.ContainsAny(name[:1], ".-@") || strings.ContainsFunc(name, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("._-@", r)
	}) {
		return withHint(hint, "client name %q: want 1 to 64 letters, digits and . _ - @, beginning with a letter, digit or _", name)
	}
	if strings.EqualFold(name, "ca") {
		return withHint(hint, "client name %q: its file would be ca.crt", name)
	}
	return nil
}

// ClientFiles are the paths that WriteClient wrote.
type ClientFiles struct{ CA, Cert, Key string }

// WriteClient issues a client certificate and writes DIR/ca.crt, DIR/NAME.crt and DIR/NAME.key (0600). It makes dir
// (0700) if need be, and overwrites nothing: an existing ca.crt must hold the same roots.
func (b *Bundle) WriteClient(dir, name string, o ClientOptions) (ClientFiles, error) {
	certificate, key, err := b.IssueClient(name, o)
	if err != nil {
		return ClientFiles{}, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return ClientFiles{}, withHint("choose another --out", "client certificate: %w", err)
	}
	f := ClientFiles{CA: filepath.Join(dir, "ca.crt"), Cert: filepath.Join(dir, name+".crt"), Key: filepath.Join(dir, name+".key")}
	if err := b.createCA(f.CA); err != nil {
		return ClientFiles{}, err
	}
	// The key is first: it is what two concurrent writers of one name must fight for.
	if err := createNew(f.Key, key, 0o600); err != nil {
		return ClientFiles{}, err
	}
	if err := createNew(f.Cert, certificate, 0o644); err != nil {
		return ClientFiles{}, errors.Join(err, os.Remove(f.Key))
	}
	return f, nil
}

func (b *Bundle) createCA(path string) error {
	err := durable.Create(path, b.RootPEM(), 0o644)
	if !errors.Is(err, fs.ErrExist) {
		return err
	}
	have, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("client certificate: %w", err)
	}
	if !bytes.Equal(have, b.RootPEM()) {
		return withHint("choose another --out", "%s exists and holds other roots than the bundle; nothing was written", path)
	}
	return nil
}

func createNew(path string, data []byte, perm fs.FileMode) error {
	err := durable.Create(path, data, perm)
	if errors.Is(err, fs.ErrExist) {
		return withHint("choose another name or another --out", "%s exists and is not overwritten", path)
	}
	return err
}
