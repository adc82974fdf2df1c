package stock

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/types"
)

// warnCertificates: etcd reads its certificates and looks at nothing in them. What others refuse shows as lines in its
// log, for ever, and in theirs. cluster is what the start is about, nil if it is none or only etcd can tell.
func warnCertificates(s *settings, cluster types.URLsMap, say func(string, ...any)) {
	if path := s.get("peer-cert-file"); path != "" {
		urls := cluster[s.get("name")]
		if urls == nil && s.get("discovery-srv") == "" { // whose targets are the URLs' hosts
			urls, _ = s.urls("initial-advertise-peer-urls") // what is wrong with them, etcd says
		}
		hosts := secureHosts(urls)
		if s.checksDomain(cluster.URLs()) {
			hosts = []string{strings.TrimSuffix(s.get("discovery-srv"), ".")}
		}
		usages := []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
		if s.get("peer-client-cert-file") == "" {
			usages = append(usages, x509.ExtKeyUsageClientAuth)
		}
		warnCertificate("--peer-cert-file "+path, path, "the other members", hosts, usages, say)
	}
	if path := s.get("cert-file"); path != "" {
		urls, _ := s.urls("advertise-client-urls")
		warnCertificate("--cert-file "+path, path, "clients", secureHosts(urls), []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, say)
	}
}

// secureHosts are the hosts of URLs with TLS.
func secureHosts(urls types.URLs) (hosts []string) {
	for _, u := range urls {
		if u.Scheme == "https" {
			hosts = append(hosts, u.Hostname())
		}
	}
	return hosts
}

// warnCertificate says why others, who come by these hosts, will refuse a certificate.
func warnCertificate(what, path, who string, hosts []string, usages []x509.ExtKeyUsage, say func(string, ...any)) {
	cert, err := readCertificate(path)
	if err != nil {
		return // etcd says it
	}
	const log = `this member will log "rejected connection … tls: bad certificate"`
	for _, host := range hosts {
		if cert.VerifyHostname(host) != nil {
			say("warning: %s is for %s, but not for %s, which %s look for: they will refuse it, and %s; make it anew with that name among the subject alternative names",
				what, namesIn(cert), host, who, log)
		}
	}
	if now := time.Now(); now.After(cert.NotAfter) {
		say("warning: %s has expired at %s: %s will refuse it, and %s", what, cert.NotAfter.UTC().Format(time.RFC3339), who, log)
	} else if now.Before(cert.NotBefore) {
		say("warning: %s is valid from %s on, and here it is %s: look at the clock", what, cert.NotBefore.UTC().Format(time.RFC3339), now.UTC().Format(time.RFC3339))
	}
	for _, u := range usages {
		if len(cert.ExtKeyUsage) > 0 && !slices.Contains(cert.ExtKeyUsage, u) && !slices.Contains(cert.ExtKeyUsage, x509.ExtKeyUsageAny) {
			say("warning: %s is not for TLS %s by its extended key usage: %s will refuse it, and log \"certificate specifies an incompatible key usage\"",
				what, map[x509.ExtKeyUsage]string{x509.ExtKeyUsageServerAuth: "servers", x509.ExtKeyUsageClientAuth: "clients, which members are to each other,"}[u], who)
		}
	}
}

// namesIn lists the names that a certificate is for.
func namesIn(c *x509.Certificate) string {
	names := slices.Clone(c.DNSNames)
	for _, ip := range c.IPAddresses {
		names = append(names, ip.String())
	}
	if len(names) == 0 {
		return "no name"
	}
	return strings.Join(names, ", ")
}

// readCertificate reads the first certificate of a file in PEM.
func readCertificate(path string) (*x509.Certificate, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the certificate: %w", err)
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, errors.New("no PEM in " + path)
	}
	return x509.ParseCertificate(block.Bytes)
}
