package certs

import (
	"crypto/tls"
	"errors"
	"fmt"
	"strings"
)

var errNotReady = errors.New("the node's peer certificate is not issued yet")

// AdminServerTLS returns the configuration of the node's admin port. It presents the current peer certificate, and
// accepts only nodes of the same bundle; PeerIdentity then says which one. Ordinary client certificates are refused.
func (m *Manager) AdminServerTLS() *tls.Config {
	return &tls.Config{
		MinVersion:             tls.VersionTLS13,
		ClientAuth:             tls.RequireAndVerifyClientCert,
		ClientCAs:              m.roots,
		Time:                   m.opts.Now,
		SessionTicketsDisabled: true, // every connection proves its identity anew
		GetCertificate:         func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return m.peerCertificate() },
		VerifyConnection: func(cs tls.ConnectionState) error {
			_, err := m.sameBundle(&cs)
			return err
		},
	}
}

// AdminClientTLS returns the configuration for calling the admin port of a node, under whatever address: the node
// that answers must prove by its certificate that it is that one, of the same bundle.
func (m *Manager) AdminClientTLS(node string) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		RootCAs:    m.roots,
		Time:       m.opts.Now,
		ServerName: node + "." + strings.TrimSuffix(m.opts.Bundle.Domain(), "."),
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return m.peerCertificate()
		},
		VerifyConnection: func(cs tls.ConnectionState) error {
			got, err := m.sameBundle(&cs)
			if err == nil && got != node {
				err = fmt.Errorf("node %q answered, want %q", got, node)
			}
			return err
		},
	}
}

// ClientTLS returns the configuration for calling etcd members of the bundle as a client, with the certificate that they
// call themselves with. It has no common name, so that it stands for no user of etcd.
func (m *Manager) ClientTLS() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		RootCAs:    m.roots,
		Time:       m.opts.Now,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			if c := m.slots[1].serving.Load(); c != nil {
				return c, nil
			}
			return nil, errNotReady
		},
	}
}

func (m *Manager) peerCertificate() (*tls.Certificate, error) {
	if c := m.slots[0].serving.Load(); c != nil {
		return c, nil
	}
	return nil, errNotReady
}

// sameBundle returns the node at the other end, which must be of this node's bundle.
func (m *Manager) sameBundle(cs *tls.ConnectionState) (node string, err error) {
	bundle, node, err := PeerIdentity(cs)
	if err == nil && bundle != m.opts.Bundle.ID() {
		err = fmt.Errorf("node %q belongs to bundle %s, this one to %s", node, bundle, m.opts.Bundle.ID())
	}
	return node, err
}
