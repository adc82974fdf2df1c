package member

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"
)

// Format is the version of Spec and of the reports.
const Format = 1

// The inherited descriptors of the child, see the package comment.
const (
	fdSpec = 3 + iota
	fdReports
	fdControl
	fdLock
)

// maxSpec bounds the Spec line; seven members of a domain with 64 nodes need about 10 KiB.
const maxSpec = 1 << 20

// Spec is everything that a child needs to know to run its member.
type Spec struct {
	Format int `json:"format"`
	// Name is the node's name, and the member's.
	Name string `json:"name"`
	// DataDir is the etcd data directory.
	DataDir string `json:"data_dir"`
	// Domain is the discovery domain without a trailing dot; SrvName the suffix of the service names, empty for the
	// default cluster.
	Domain  string `json:"domain"`
	SrvName string `json:"srv_name,omitempty"`

	// New, Token and the expected IDs are those of srvboot.Launch; Launcher.Start sets them.
	New             bool   `json:"new"`
	Token           string `json:"token"`
	ExpectClusterID string `json:"expect_cluster_id,omitempty"`
	ExpectMemberID  string `json:"expect_member_id,omitempty"`

	// The URLs are as for etcd: the advertised peer URL is exactly the SRV target with its port, and the listen URLs
	// name IP addresses.
	AdvertisePeer   []string `json:"advertise_peer"`
	AdvertiseClient []string `json:"advertise_client"`
	ListenPeer      []string `json:"listen_peer"`
	ListenClient    []string `json:"listen_client"`

	// TLS is nil for a plain cluster.
	TLS *TLSFiles `json:"tls,omitempty"`

	// HeartbeatMs and ElectionMs are milliseconds, QuotaBytes the limit of the database; 0 means etcd's default.
	HeartbeatMs uint  `json:"heartbeat_ms,omitempty"`
	ElectionMs  uint  `json:"election_ms,omitempty"`
	QuotaBytes  int64 `json:"quota_bytes,omitempty"`
	// LogLevel is etcd's log level, such as "warn"; empty means "info".
	LogLevel string `json:"log_level,omitempty"`

	// Resolver is the abstract socket of the parent's Resolver, and Hosts the addresses that the SRV targets must
	// resolve to. Launcher.Start sets both.
	Resolver string                  `json:"resolver"`
	Hosts    map[string][]netip.Addr `json:"hosts,omitempty"`
}

// TLSFiles are paths of PEM files. etcd reads certificates and keys again for each handshake, and the CA files only
// when it starts.
type TLSFiles struct {
	// PeerCert needs both extended key usages; PeerCA is trusted for peers.
	PeerCert string `json:"peer_cert"`
	PeerKey  string `json:"peer_key"`
	PeerCA   string `json:"peer_ca"`
	// ServerCert is shown to clients; ClientCA is what their certificates must come from.
	ServerCert string `json:"server_cert"`
	ServerKey  string `json:"server_key"`
	ClientCA   string `json:"client_ca"`
	// ClientCert is what etcd's gRPC gateway shows to its own server; without it there is no gateway, because
	// ServerCert may lack clientAuth (etcd server/embed/etcd.go grpcGatewayDial).
	ClientCert string `json:"client_cert,omitempty"`
	ClientKey  string `json:"client_key,omitempty"`
	// PeerCRL and ClientCRL are DER files, read again for each handshake; empty means no revocation.
	PeerCRL   string `json:"peer_crl,omitempty"`
	ClientCRL string `json:"client_crl,omitempty"`
}

// encode returns the line for the child.
func (s Spec) encode() ([]byte, error) {
	s.Format = Format
	b, err := json.Marshal(s)
	if err != nil {
		return nil, fmt.Errorf("encode the member's spec: %w", err)
	}
	return append(b, '\n'), nil
}

// errNoSpec says that the parent went away before it gave an order.
var errNoSpec = errors.New("the parent closed the pipe before it wrote a spec")

// readSpec reads the line that encode made.
func readSpec(r *bufio.Reader) (Spec, error) {
	var line []byte
	for {
		part, err := r.ReadSlice('\n')
		line = append(line, part...)
		if len(line) > maxSpec {
			return Spec{}, fmt.Errorf("the spec is longer than %d octets", maxSpec)
		}
		if err == nil {
			break
		}
		if errors.Is(err, bufio.ErrBufferFull) {
			continue
		}
		return Spec{}, errNoSpec
	}
	var s Spec
	if err := json.Unmarshal(line, &s); err != nil {
		return Spec{}, fmt.Errorf("decode the spec: %w", err)
	}
	if s.Format != Format {
		return Spec{}, fmt.Errorf("the spec has format %d, this binary understands %d", s.Format, Format)
	}
	return s, nil
}

// inherited opens a descriptor that the parent passed. It must be of the wanted file type, because a process started
// by hand may have anything there, Go's own epoll descriptor included.
func inherited(fd int, fileType uint32) (*os.File, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Mode&unix.S_IFMT != fileType {
		return nil, fmt.Errorf("descriptor %d was not passed by a parent", fd)
	}
	unix.CloseOnExec(fd)
	if err := unix.SetNonblock(fd, true); err != nil {
		return nil, fmt.Errorf("descriptor %d: %w", fd, err)
	}
	return os.NewFile(uintptr(fd), fmt.Sprintf("fd%d", fd)), nil
}
