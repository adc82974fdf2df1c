package certs

import (
	"bytes"
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/etcd-dns/etcd-dns/internal/durable"
)

const (
	certMode = 0o644
	keyMode  = 0o600

	diskHint = "make the data directory writable, with space left: df -h; the published files stay in use"
)

// slot keeps one pair of published files right: a stable key, and a certificate that etcd can use at any instant.
type slot struct {
	purpose           string
	certPath, keyPath string
	engine            *engine
	log               *zap.Logger

	key       crypto.Signer
	published pair // as last read from disk; no chain if there is none
	ownIssue  bool // this run issued what is published

	serving atomic.Pointer[tls.Certificate] // the last pair that was right; read by TLS handshakes
}

// load reads the published files, and makes the key if there is none.
func (s *slot) load() error {
	s.published = pair{}
	key, err := s.loadKey()
	if err != nil {
		return err
	}
	s.key = key
	data, err := os.ReadFile(s.certPath)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return withHint(diskHint, "read published %s certificate: %w", s.purpose, err)
	}
	chain, err := parseChain(data)
	if err != nil {
		s.log.Warn("the published certificate is damaged and will be replaced", zap.String("file", s.certPath), zap.Error(err))
		return nil
	}
	s.published = pair{chain: chain, key: key}
	return nil
}

// loadKey returns the slot's key. It lives as long as its file; a damaged file is replaced, since the node can issue
// a certificate for any key.
func (s *slot) loadKey() (crypto.Signer, error) {
	data, err := os.ReadFile(s.keyPath)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, withHint(diskHint, "read %s key: %w", s.purpose, err)
	}
	if err == nil {
		key, err := parseKey(data)
		if err == nil {
			s.guardKey()
			return key, nil
		}
		s.log.Warn("the key file is damaged and will be replaced", zap.String("file", s.keyPath), zap.Error(err))
	}
	key, err := newKey()
	if err != nil {
		return nil, err
	}
	encoded, err := keyPEM(key)
	if err != nil {
		return nil, err
	}
	if err := durable.WriteFile(s.keyPath, encoded, keyMode); err != nil {
		return nil, withHint(diskHint, "write %s key: %w", s.purpose, err)
	}
	return key, nil
}

// guardKey takes away what others may do with the key file.
func (s *slot) guardKey() {
	fi, err := os.Stat(s.keyPath)
	if err != nil || fi.Mode().Perm()&0o077 == 0 {
		return
	}
	s.log.Warn("the key file was open to others", zap.String("file", s.keyPath), zap.Stringer("mode", fi.Mode()),
		zap.NamedError("chmod", os.Chmod(s.keyPath, keyMode)))
}

// settle makes the published certificate what is desired. On an error the published files stay as they are.
func (s *slot) settle(ctx context.Context, want desired, roots *x509.CertPool, now time.Time) error {
	reason := "there is none"
	if len(s.published.chain) > 0 {
		if want.usable(s.published, roots, now) == nil {
			s.serve() // even if a better one cannot be published
		}
		err := want.verify(s.published, roots, now)
		if err == nil {
			return nil
		}
		reason = err.Error()
	}
	encoded, err := s.engine.obtain(ctx, order{want: want, key: s.key, now: now, lifetime: leafLifetime})
	if err != nil {
		return fmt.Errorf("issue %s certificate: %w", s.purpose, err)
	}
	chain, err := parseChain(encoded)
	if err != nil {
		return fmt.Errorf("issue %s certificate: %w", s.purpose, err)
	}
	fresh := pair{chain: chain, key: s.key}
	if err := want.verify(fresh, roots, now); err != nil {
		return fmt.Errorf("the new %s certificate is not usable: %w", s.purpose, err)
	}
	if err := durable.WriteFile(s.certPath, encoded, certMode); err != nil {
		return withHint(diskHint, "publish %s certificate: %w", s.purpose, err)
	}
	s.published, s.ownIssue = fresh, true
	s.serve()
	s.log.Info("published certificate", zap.String("slot", s.purpose), zap.String("because", reason),
		zap.Strings("sans", sans(chain[0])), zap.Time("not_after", chain[0].NotAfter))
	return nil
}

// serve hands the published pair to TLS handshakes.
func (s *slot) serve() {
	if old := s.serving.Load(); old != nil && bytes.Equal(old.Certificate[0], s.published.chain[0].Raw) {
		return
	}
	c := &tls.Certificate{PrivateKey: s.published.key, Leaf: s.published.chain[0]}
	for _, x := range s.published.chain {
		c.Certificate = append(c.Certificate, x.Raw)
	}
	s.serving.Store(c)
}
