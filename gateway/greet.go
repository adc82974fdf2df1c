package gateway

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

// greetTimeout bounds the greeting. A member that is alive takes milliseconds, and one whose machine is overloaded must not be taken for
// one that hangs.
const greetTimeout = 3 * time.Second

// greet has a server of TLS show its certificate, which a process that hangs, or a port that somebody else holds, cannot. With roots the
// certificate must be for the host and signed by one of them: if it is not, the error is a *tls.CertificateVerificationError. It hangs
// up before the server can ask who the client is, and with a plain end of the stream: of that etcd says nothing above debug
// (embed/config_logging.go), so greetings cost nobody's log anything.
func greet(ctx context.Context, conn net.Conn, roots *x509.CertPool, host string) error {
	shown := errors.New("enough was seen")
	c := tls.Client(onlyHello{conn}, &tls.Config{RootCAs: roots, InsecureSkipVerify: roots == nil, ServerName: host, MinVersion: tls.VersionTLS12, //nolint:gosec // without CAs it looks for life alone
		VerifyConnection: func(tls.ConnectionState) error { return shown }}) // called last, and only if all is well
	err := c.HandshakeContext(ctx)
	if half, ok := conn.(interface{ CloseWrite() error }); ok && half.CloseWrite() == nil {
		// A close with something unread would be a reset (RFC 2525 §2.17).
		end, _ := ctx.Deadline()
		_ = conn.SetReadDeadline(end)
		_, _ = io.Copy(io.Discard, conn)
	}
	if errors.Is(err, shown) {
		return nil
	}
	return fmt.Errorf("TLS with %s: %w", host, err)
}

// onlyHello lets nothing but a ClientHello pass, which is the client's only handshake record before the server's certificate
// (RFC 8446 §2). What it swallows is the alert that would say why the client leaves.
type onlyHello struct{ net.Conn }

// handshakeRecord is the content type of RFC 8446 §5.1.
const handshakeRecord = 22

func (c onlyHello) Write(p []byte) (int, error) {
	if len(p) > 0 && p[0] != handshakeRecord {
		return len(p), nil
	}
	return c.Conn.Write(p)
}
