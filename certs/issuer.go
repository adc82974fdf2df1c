package certs

import (
	"bytes"
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"github.com/caddyserver/certmagic"
	"go.uber.org/zap"
)

// engine obtains certificates for one purpose through certmagic. certmagic manages one name per certificate and cannot
// tell two certificates of one name apart, hence a cache, a configuration and a storage for each purpose. When to
// renew is decided by the manager, so nothing is put into the cache. It is used by one goroutine.
type engine struct {
	cache  *certmagic.Cache
	config *certmagic.Config
	store  *memory
	issuer *ownIssuer
	key    fixedKey
}

// newEngine starts certmagic's maintenance goroutine; close ends it.
func newEngine(purpose string, log *zap.Logger) *engine {
	e := &engine{store: newMemory(), issuer: &ownIssuer{purpose: purpose}}
	log = log.Named("certmagic").WithOptions(zap.IncreaseLevel(zap.WarnLevel)) // every step is logged by the manager
	e.cache = certmagic.NewCache(certmagic.CacheOptions{
		GetConfigForCert: func(certmagic.Certificate) (*certmagic.Config, error) { return e.config, nil },
		Logger:           log,
	})
	e.config = certmagic.New(e.cache, certmagic.Config{
		Issuers:             []certmagic.Issuer{e.issuer},
		KeySource:           &e.key,
		Storage:             e.store,
		DisableStorageCheck: true,
		DisableARI:          true,
		OCSP:                certmagic.OCSPConfig{DisableStapling: true}, // the own CA has no responder
		Logger:              log,
	})
	return e
}

func (e *engine) close() { e.cache.Stop() }

// order says which certificate to obtain.
type order struct {
	want     desired
	key      crypto.Signer
	now      time.Time
	lifetime time.Duration
}

// obtain returns a new certificate and its CA, PEM.
func (e *engine) obtain(ctx context.Context, o order) ([]byte, error) {
	e.issuer.order, e.key.Signer = o, o.key
	if err := e.config.RenewCertSync(ctx, o.want.subject, true); err != nil {
		return nil, err
	}
	return e.store.Load(ctx, certmagic.StorageKeys.SiteCert(e.issuer.IssuerKey(), o.want.subject))
}

// fixedKey is a certmagic.KeyGenerator that always returns the same key. With a stable key any certificate file
// matches the key file, so etcd, which reads both at each handshake, cannot see a torn pair.
type fixedKey struct{ crypto.Signer }

func (k *fixedKey) GenerateKey() (crypto.PrivateKey, error) { return k.Signer, nil }

// ownIssuer is a certmagic.Issuer that signs with an issuing CA of the bundle.
type ownIssuer struct {
	purpose string
	order   order
}

// IssuerKey separates the purposes in certmagic's storage.
func (i *ownIssuer) IssuerKey() string { return "etcd-dns-" + i.purpose }

// Issue signs the certificate ordered. Of the request it takes the public key; certmagic asks for one name only.
func (i *ownIssuer) Issue(_ context.Context, csr *x509.CertificateRequest) (*certmagic.IssuedCertificate, error) {
	if err := csr.CheckSignature(); err != nil {
		return nil, fmt.Errorf("certificate request: %w", err)
	}
	t, err := leafTemplate(i.order.want.leaf, i.order.want.ca, i.order.now, i.order.lifetime)
	if err != nil {
		return nil, err
	}
	cert, err := signCert(t, csr.PublicKey, i.order.want.ca)
	if err != nil {
		return nil, err
	}
	// certmagic files and renews a certificate under the first name of the leaf, so that name must be the subject.
	if first := firstName(cert); first != i.order.want.subject {
		return nil, fmt.Errorf("the certificate's first name is %q, want %q: %w", first, i.order.want.subject, errors.ErrUnsupported)
	}
	chain := bytes.Join([][]byte{certPEM(cert.Raw), certPEM(i.order.want.ca.cert.Raw)}, nil)
	return &certmagic.IssuedCertificate{Certificate: chain}, nil
}

// firstName is certmagic's idea of a certificate's name: the common name, else the first DNS name.
func firstName(c *x509.Certificate) string {
	if c.Subject.CommonName != "" || len(c.DNSNames) == 0 {
		return c.Subject.CommonName
	}
	return c.DNSNames[0]
}
