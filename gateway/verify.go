package gateway

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
)

// verify checks that an endpoint has a certificate for its host. The client has none, which the server may not like, but says so
// after it has shown its own (RFC 8446 §2).
func verify(ctx context.Context, conn net.Conn, roots *x509.CertPool, host string) error {
	verified := false
	c := tls.Client(conn, &tls.Config{RootCAs: roots, ServerName: host, MinVersion: tls.VersionTLS12,
		VerifyConnection: func(tls.ConnectionState) error { verified = true; return nil }}) // called last, and only if all is well
	if err := c.HandshakeContext(ctx); err != nil && !verified {
		return fmt.Errorf("the certificate of %s: %w", host, err)
	}
	return nil
}
