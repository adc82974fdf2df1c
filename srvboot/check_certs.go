package srvboot

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"
)

// expiryNotice is how long before its end a certificate is worth a warning: a third of the 90 days of a public CA.
const expiryNotice = 30 * 24 * time.Hour

// parsedCert is one certificate of the target with what signs it.
type parsedCert struct {
	CertFiles
	leaf  *x509.Certificate
	chain []*x509.Certificate
}

// String names the certificate for a person.
func (c parsedCert) String() string { return c.Use + " certificate " + c.Cert }

// readCerts reads the certificates, failing for those that cannot be read.
func (t Target) readCerts(f *findings) []parsedCert {
	var out []parsedCert
	for _, files := range t.Certificates {
		certs, err := readPEM(files.Cert)
		if err != nil {
			f.fail("ls -l "+files.Cert+"; openssl x509 -noout -text -in "+files.Cert, "%s certificate: %v", files.Use, err)
			continue
		}
		out = append(out, parsedCert{files, certs[0], certs[1:]})
	}
	return out
}

func readPEM(path string) ([]*x509.Certificate, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var certs []*x509.Certificate
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		certs = append(certs, c)
	}
	if len(certs) == 0 {
		return nil, fmt.Errorf("%s holds no certificate in PEM", path)
	}
	return certs, nil
}

// eachCert runs look on every certificate that can be read. Only certificate-key reports those that cannot, so that
// one bad file is one failure.
func eachCert(t Target, f *findings, look func(c parsedCert)) *CheckResult {
	if len(t.Certificates) == 0 {
		r := skipped("no certificate given")
		return &r
	}
	certs := t.readCerts(f)
	if len(certs) == 0 {
		r := skipped("see certificate-key: no certificate can be read")
		return &r
	}
	for _, c := range certs {
		look(c)
	}
	return nil
}

func checkCertificateKey(_ context.Context, t Target) CheckResult {
	if len(t.Certificates) == 0 {
		return skipped("no certificate given")
	}
	var f findings
	keys := 0
	for _, c := range t.readCerts(&f) {
		if c.Key == "" {
			continue
		}
		keys++
		if _, err := tls.LoadX509KeyPair(c.Cert, c.Key); err != nil {
			f.fail(fmt.Sprintf("openssl pkey -pubout -in %s; openssl x509 -noout -pubkey -in %s; the two must be equal", c.Key, c.Cert),
				"%s and key %s: %v", c, c.Key, err)
		}
	}
	if len(f) == 0 && keys == 0 {
		return skipped("no key given")
	}
	return f.result("%d certificates match their keys", keys)
}

func checkCertificateChain(_ context.Context, t Target) CheckResult {
	var f, unread findings
	checked := 0
	stop := eachCert(t, &unread, func(c parsedCert) {
		if c.CA == "" {
			return
		}
		checked++
		roots, err := readPEM(c.CA)
		if err != nil {
			f.fail("ls -l "+c.CA, "CA of the %s certificate: %v", c.Use, err)
			return
		}
		opts := x509.VerifyOptions{
			Roots: x509.NewCertPool(), Intermediates: x509.NewCertPool(),
			KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}, // certificate-usage looks at these
			// certificate-expiry looks at the time; the middle of the life tells a bad chain from a late one.
			CurrentTime: c.leaf.NotBefore.Add(c.leaf.NotAfter.Sub(c.leaf.NotBefore) / 2),
		}
		for _, r := range roots {
			opts.Roots.AddCert(r)
		}
		for _, i := range c.chain {
			opts.Intermediates.AddCert(i)
		}
		if _, err := c.leaf.Verify(opts); err != nil {
			f.fail(fmt.Sprintf("openssl verify -CAfile %s -untrusted %s %s", c.CA, c.Cert, c.Cert),
				"%s, issued by %q, is not signed by %s: %v", c, c.leaf.Issuer, c.CA, err)
		}
	})
	switch {
	case stop != nil:
		return *stop
	case checked == 0:
		return skipped("no CA given")
	}
	return f.result("%d certificates are signed by their CA", checked)
}

func checkCertificateExpiry(_ context.Context, t Target) CheckResult {
	now := t.now()
	var f, unread findings
	var first time.Time
	stop := eachCert(t, &unread, func(c parsedCert) {
		for _, x := range append([]*x509.Certificate{c.leaf}, c.chain...) {
			if first.IsZero() || x.NotAfter.Before(first) {
				first = x.NotAfter
			}
		}
		end, left := c.leaf.NotAfter.UTC().Format(time.RFC3339), c.leaf.NotAfter.Sub(now)
		// A certificate of a few days renews in time with less notice.
		notice := min(expiryNotice, c.leaf.NotAfter.Sub(c.leaf.NotBefore)/3)
		switch {
		case left <= 0:
			f.fail("renew it; etcd-dns cert list", "%s ended at %s, and it is %s", c, end, now.UTC().Format(time.RFC3339))
		case now.Before(c.leaf.NotBefore):
			f.fail("timedatectl; set the clock", "%s begins at %s, but it is %s", c, c.leaf.NotBefore.UTC().Format(time.RFC3339), now.UTC().Format(time.RFC3339))
		case left < notice:
			f.warn("renew it; etcd-dns cert list", "%s ends at %s, in %s", c, end, left.Round(time.Hour))
		}
		for _, x := range c.chain {
			if !now.Before(x.NotAfter) {
				f.fail("renew its issuer; etcd-dns cert list", "%s: its issuer %q ended at %s", c, x.Subject, x.NotAfter.UTC().Format(time.RFC3339))
			}
		}
	})
	if stop != nil {
		return *stop
	}
	return f.result("the first of them ends at %s", first.UTC().Format(time.RFC3339))
}

// checkCertificateUsage: one certificate serves both directions between peers, so it needs both extended key usages.
func checkCertificateUsage(_ context.Context, t Target) CheckResult {
	var f, unread findings
	stop := eachCert(t, &unread, func(c parsedCert) {
		needs := map[string][]x509.ExtKeyUsage{
			"peer": {x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}, "server": {x509.ExtKeyUsageServerAuth},
			"client": {x509.ExtKeyUsageClientAuth},
		}[c.Use]
		has := c.leaf.ExtKeyUsage
		if len(has) == 0 && len(c.leaf.UnknownExtKeyUsage) == 0 {
			return // RFC 5280 §4.2.1.12: without the extension every use is allowed
		}
		for _, n := range needs {
			if !slices.Contains(has, n) && !slices.Contains(has, x509.ExtKeyUsageAny) {
				f.fail("issue it with extendedKeyUsage = "+usages(needs), "%s has the usages %s, but lacks %s", c, usages(has), usages([]x509.ExtKeyUsage{n}))
			}
		}
	})
	if stop != nil {
		return *stop
	}
	return f.result("the extended key usages fit")
}

func usages(list []x509.ExtKeyUsage) string {
	var out []string
	for _, u := range list {
		switch u {
		case x509.ExtKeyUsageServerAuth:
			out = append(out, "serverAuth")
		case x509.ExtKeyUsageClientAuth:
			out = append(out, "clientAuth")
		default:
			out = append(out, fmt.Sprintf("number %d", u))
		}
	}
	return strings.Join(out, ",")
}

// checkCertificateNames wants the host (etcd verifies the URL's host when there is a CA file), the discovery domain
// (when there is none) and every local address (the other side compares the address that a connection comes from, and
// otherwise needs reverse DNS; client/pkg/transport/listener_tls.go checkSAN).
func checkCertificateNames(_ context.Context, t Target) CheckResult {
	local, err := t.localAddrs()
	if err != nil {
		return skipped(err.Error())
	}
	var f, unread findings
	compared := 0
	stop := eachCert(t, &unread, func(c parsedCert) {
		if c.Use == "client" {
			return // nobody connects to a client
		}
		names, urls := []string{}, t.PeerURLs
		if c.Use == "server" {
			urls = t.ClientURLs
		}
		if own := t.hostIn(urls); own != "" {
			names = append(names, own)
		}
		if t.Domain != "" {
			names = append(names, t.domain())
		}
		for _, n := range names {
			compared++
			if c.leaf.VerifyHostname(n) != nil {
				f.fail("issue it with subjectAltName = DNS:"+n, "%s is for %s, but not for %s", c, sans(c.leaf), n)
			}
		}
		for _, a := range local {
			compared++
			if c.leaf.VerifyHostname(a.String()) != nil {
				f.warn("issue it with subjectAltName = IP:"+a.String(), "%s is for %s, but not for this host's address %s", c, sans(c.leaf), a)
			}
		}
	})
	switch {
	case stop != nil:
		return *stop
	case compared == 0:
		return skipped("no names to compare with")
	}
	return f.result("the certificates hold all %d names and addresses", compared)
}

func sans(c *x509.Certificate) string {
	out := slices.Clone(c.DNSNames)
	for _, ip := range c.IPAddresses {
		out = append(out, ip.String())
	}
	if len(out) == 0 {
		return "no name"
	}
	return strings.Join(out, ", ")
}

// checkCertificateFiles looks at who can read the keys.
func checkCertificateFiles(_ context.Context, t Target) CheckResult {
	var f findings
	keys := 0
	for _, c := range t.Certificates {
		if c.Key == "" {
			continue
		}
		info, err := os.Stat(c.Key)
		if errors.Is(err, os.ErrNotExist) {
			continue // certificate-key reports it
		}
		keys++
		if err != nil {
			f.fail("ls -l "+c.Key, "key: %v", err)
			continue
		}
		if mode := info.Mode().Perm(); mode&0o077 != 0 {
			f.warn("chmod 600 "+c.Key, "the key %s has mode %04o: others than its owner may read it, expected 0600", c.Key, mode)
		}
	}
	if keys == 0 {
		return skipped("no key given")
	}
	return f.result("only their owner may read the %d keys", keys)
}
