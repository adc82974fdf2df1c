package member

import (
	"crypto/tls"
	"fmt"
	"net/url"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/tlsutil"
	"go.etcd.io/etcd/client/pkg/v3/transport"
	"go.etcd.io/etcd/pkg/v3/featuregate"
	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/features"
	"go.uber.org/zap"
)

// corruptCheckEvery is how often the leader compares everybody's key-value hash. It reads the whole database, so a
// shorter time costs a large one dearly.
const corruptCheckEvery = 12 * time.Hour

// config translates the spec into etcd's own configuration.
func (s Spec) config(lg *zap.Logger) (*embed.Config, error) {
	cfg := embed.NewConfig()
	cfg.Name, cfg.Dir = s.Name, s.DataDir
	// NewConfig presets a static cluster, which Validate would refuse beside DNS discovery.
	cfg.InitialCluster = ""
	cfg.DNSCluster, cfg.DNSClusterServiceName = s.Domain, s.SrvName
	cfg.InitialClusterToken = s.Token
	cfg.ClusterState = embed.ClusterStateFlagExisting
	if s.New {
		cfg.ClusterState = embed.ClusterStateFlagNew
	}
	cfg.StrictReconfigCheck, cfg.PreVote = true, true
	cfg.CorruptCheckTime = corruptCheckEvery
	if s.HeartbeatMs > 0 {
		cfg.TickMs = s.HeartbeatMs
	}
	if s.ElectionMs > 0 {
		cfg.ElectionMs = s.ElectionMs
	}
	cfg.QuotaBackendBytes = s.QuotaBytes
	cfg.ZapLoggerBuilder = embed.NewZapLoggerBuilder(lg)
	if err := cfg.ZapLoggerBuilder(cfg); err != nil {
		return nil, fmt.Errorf("set etcd's logger: %w", err)
	}
	if err := s.setURLs(cfg); err != nil {
		return nil, err
	}
	if err := setGates(cfg, features.CompactHashCheck); err != nil {
		return nil, err
	}
	s.setTLS(cfg)
	return cfg, nil
}

func (s Spec) setURLs(cfg *embed.Config) error {
	for _, u := range []struct {
		what string
		from []string
		to   *[]url.URL
	}{
		{"advertised peer URL", s.AdvertisePeer, &cfg.AdvertisePeerUrls},
		{"advertised client URL", s.AdvertiseClient, &cfg.AdvertiseClientUrls},
		{"peer listen URL", s.ListenPeer, &cfg.ListenPeerUrls},
		{"client listen URL", s.ListenClient, &cfg.ListenClientUrls},
	} {
		if len(u.from) == 0 {
			return fmt.Errorf("the spec has no %s", u.what)
		}
		*u.to = nil
		for _, raw := range u.from {
			parsed, err := url.Parse(raw)
			if err != nil {
				return fmt.Errorf("%s: %w", u.what, err)
			}
			*u.to = append(*u.to, *parsed)
		}
	}
	return nil
}

func (s Spec) setTLS(cfg *embed.Config) {
	t := s.TLS
	if t == nil {
		return
	}
	cfg.TlsMinVersion = string(tlsutil.TLSVersion12)
	cfg.PeerTLSInfo = transport.TLSInfo{
		CertFile: t.PeerCert, KeyFile: t.PeerKey, TrustedCAFile: t.PeerCA, CRLFile: t.PeerCRL,
		ClientCertAuth: true,
		// Every peer certificate holds the discovery domain; a certificate of the same CA without it is no peer's.
		AllowedHostnames: []string{s.Domain},
		MinVersion:       tls.VersionTLS12,
	}
	cfg.ClientTLSInfo = transport.TLSInfo{
		CertFile: t.ServerCert, KeyFile: t.ServerKey, TrustedCAFile: t.ClientCA, CRLFile: t.ClientCRL,
		ClientCertFile: t.ClientCert, ClientKeyFile: t.ClientKey,
		ClientCertAuth: true,
		MinVersion:     tls.VersionTLS12,
	}
	cfg.EnableGRPCGateway = t.ClientCert != ""
}

// setGates turns on feature gates of etcd, the others keep their defaults.
func setGates(cfg *embed.Config, on ...featuregate.Feature) error {
	gate := featuregate.New("ServerFeatureGate", cfg.GetLogger())
	if err := gate.Add(features.DefaultEtcdServerFeatureGates); err != nil {
		return fmt.Errorf("set etcd's feature gates: %w", err)
	}
	want := map[string]bool{}
	for _, f := range on {
		want[string(f)] = true
	}
	if err := gate.SetFromMap(want); err != nil {
		return fmt.Errorf("set etcd's feature gates: %w", err)
	}
	cfg.ServerFeatureGate = gate
	return nil
}
