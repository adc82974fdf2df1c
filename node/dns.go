package node

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"syscall"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/plugin"
	"github.com/coredns/coredns/plugin/pkg/parse"
	"github.com/coredns/coredns/plugin/pkg/transport"
	"github.com/miekg/dns"
	"go.uber.org/zap"

	"github.com/etcd-dns/etcd-dns/srvboot"
	"github.com/etcd-dns/etcd-dns/zone"
)

// nameServer runs CoreDNS in this process. Its plugin instances come and go with every Corefile reload and only
// borrow the zones, which outlive them. CoreDNS keeps its registry in package variables, so there is one
// nameServer in a process.
type nameServer struct {
	log   *zap.Logger
	zones *zone.Zones
	// read returns the Corefile's path and text; it is asked at start and at every reload.
	read func() (path string, text []byte, err error)
	// check judges the options of a Corefile before it may replace the running one.
	check func(*Options) error
	// refused is told why a Corefile was not taken; apply is told the options of the Corefile that now serves.
	refused func(error)
	apply   func(*Options)
	// certificate is shown at tls://, https:// and quic:// doors that have no tls line of their own.
	certificate func(*tls.ClientHelloInfo) (*tls.Certificate, error)
	// transfers hands the zone to secondaries; its key is known at every door.
	transfers *transfers
	// addrs are bound when the server block has no bind line.
	addrs func() []netip.Addr

	// fronts are the fast paths beside CoreDNS's sockets.
	fronts *fronts

	// identity says that all our doors have one TLS policy; set before start, then read-only.
	identity *dnsserver.TLSConfigIdentity

	mu sync.Mutex
	// inst and pending are guarded by mu; pending are the options of the Corefile being started.
	inst    *caddy.Instance
	pending *Options
}

// serverType is CoreDNS's name with caddy.
const serverType = "dns"

// register tells CoreDNS and caddy about this server. It may run once in a process.
func (s *nameServer) register() error {
	caddy.Quiet, dnsserver.Quiet = true, true
	plugin.Register(pluginName, s.setup)
	plugin.Register(transferName, s.setupTransfer)
	// CoreDNS refuses every class but IN itself unless a plugin of this list is in a server block.
	dnsserver.EnableChaos[pluginName] = struct{}{}
	if err := dnsserver.SetDirectives(Directives()); err != nil {
		return fmt.Errorf("set the plugin order: %w", err)
	}
	// The reload plugin asks caddy for the Corefile anew; without a loader it would get CoreDNS's whoami default.
	caddy.RegisterCaddyfileLoader("etcd-dns", caddy.LoaderFunc(func(string) (caddy.Input, error) { return s.input() }))
	caddy.RegisterEventHook("etcd-dns", func(event caddy.EventName, info any) error {
		if inst, ok := info.(*caddy.Instance); ok && event == caddy.InstanceStartupEvent {
			s.started(inst)
		}
		return nil
	})
	return nil
}

func (s *nameServer) input() (caddy.Input, error) {
	path, text, err := s.read()
	if err != nil {
		return nil, err
	}
	return caddy.CaddyfileInput{Filepath: path, Contents: text, ServerTypeName: serverType}, nil
}

// setup is the plugin's: it parses the stanza and borrows the store.
func (s *nameServer) setup(c *caddy.Controller) error {
	o, err := parseStanza(&c.Dispenser, c.File(), c.ServerBlockKeys)
	if err == nil && o != nil {
		err = s.check(o)
	}
	if err != nil {
		s.refused(err)
		return plugin.Error(pluginName, err)
	}
	if o != nil {
		s.mu.Lock()
		s.pending = o
		s.mu.Unlock()
	}
	cfg := dnsserver.GetConfig(c)
	if addrs := s.addrs(); len(cfg.ListenHosts) == 1 && cfg.ListenHosts[0] == "" && len(addrs) > 0 {
		cfg.ListenHosts = nil
		for _, a := range addrs {
			cfg.ListenHosts = append(cfg.ListenHosts, a.String())
		}
	}
	if s.instance() == nil { // later instances take over the sockets of the first
		// Setup runs for the first key of a block only; the others listen at its hosts, and on ports of their own.
		for i := range c.ServerBlockKeys {
			key := *c
			key.ServerBlockKeyIndex = i
			door := dnsserver.GetConfig(&key)
			if err := checkPorts(door.Transport, cfg.ListenHosts, door.Port); err != nil {
				return plugin.Error(pluginName, err)
			}
		}
	}
	if cfg.TLSConfig == nil && slices.ContainsFunc(c.ServerBlockKeys, encrypted) {
		// CoreDNS would serve such a door in plain text (core/dnsserver/server_tls.go). All keys of a block have the TLS
		// configuration of the first.
		cfg.TLSConfig = &tls.Config{GetCertificate: s.certificate, MinVersion: tls.VersionTLS12}
		cfg.SetTLSConfigIdentity(s.identity)
	}
	if err := s.admitKey(cfg); err != nil {
		return plugin.Error(pluginName, err)
	}
	// RFC 2136 §3.3: UPDATE gets the zone's REFUSED; by default CoreDNS answers NOTIMP.
	cfg.AllowOpcode(dns.OpcodeUpdate)
	cfg.AddPlugin(func(next plugin.Handler) plugin.Handler {
		return signedPlugin{shared: s.fronts.shared, key: s.transfers.key, next: next}
	})
	s.plan(c, cfg)
	h := zone.NewHandler(s.zones, s.fronts.shared)
	cfg.AddPlugin(func(next plugin.Handler) plugin.Handler {
		h.Next = next
		return h
	})
	if err := answerOutside(c); err != nil {
		return plugin.Error(pluginName, err)
	}
	return nil
}

// encrypted reports whether the doors of a server block's key speak TLS.
func encrypted(key string) bool {
	tr, _ := parse.Transport(key)
	return tr != transport.DNS
}

// started runs when an instance serves: at the first start and after each reload, the reload plugin's included.
func (s *nameServer) started(inst *caddy.Instance) {
	s.mu.Lock()
	first := s.inst == nil
	s.inst = inst
	o := s.pending
	s.pending = nil
	s.mu.Unlock()
	s.transfers.serving(transferBlocks(inst))
	limitWrites(inst, s.log)
	if _, again := inst.Caddyfile().(served); o != nil && !first && !again {
		s.apply(o)
	}
	if err := s.openDoors(inst); err != nil {
		s.log.Error("no fast path; CoreDNS answers every query itself", zap.Error(err))
	}
}

// instance is nil before the first start.
func (s *nameServer) instance() *caddy.Instance {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.inst
}

// start brings CoreDNS up; when it returns, queries are answered.
func (s *nameServer) start() error {
	in, err := s.input()
	if err != nil {
		return err
	}
	var own *usageError
	switch _, err := caddy.Start(in); {
	case errors.As(err, &own):
		return own // it says all by itself
	case err != nil:
		return &usageError{what: "start the name server: " + err.Error(), cause: err, hint: "correct that plugin's lines; docs/corefile.md lists the plugins"}
	}
	return nil
}

// reload starts an instance from the Corefile as it is now; on any error the running one keeps serving.
func (s *nameServer) reload() error {
	in, err := s.input()
	if err != nil {
		return err
	}
	// Our own stanza is read first, because caddy's errors lose their type.
	o, err := ParseCorefile(in.Path(), in.Body())
	if err == nil {
		err = s.check(o)
	}
	if err != nil {
		return err
	}
	if _, err := s.instance().Restart(in); err != nil {
		return fmt.Errorf("reload the name server: %w", err)
	}
	return nil
}

// rebind starts an instance from the Corefile that serves, at the addresses of now; on any error the running one goes on.
func (s *nameServer) rebind() error {
	inst := s.instance()
	if _, err := inst.Restart(served{inst.Caddyfile()}); err != nil {
		return fmt.Errorf("move the name server: %w", err)
	}
	return nil
}

// served is a Corefile that serves already, and is started once more: there is nothing to apply.
type served struct{ caddy.Input }

// stop ends the name server: callbacks first, which close the metrics and ready listeners, then the servers.
func (s *nameServer) stop() error {
	inst := s.instance()
	if inst == nil {
		return nil
	}
	return errors.Join(append(inst.ShutdownCallbacks(), inst.Stop())...)
}

// checkPorts fails when somebody holds a door's port. CoreDNS sets SO_REUSEPORT, so a second server of the same user
// would start without an error and take half of the queries.
func checkPorts(door string, hosts []string, port string) error {
	datagrams := door == transport.DNS || door == transport.QUIC || door == transport.HTTPS3
	streams := door != transport.QUIC && door != transport.HTTPS3
	for _, h := range hosts {
		if h == "" {
			h = "::"
		}
		at, err := netip.ParseAddrPort(net.JoinHostPort(h, port))
		if err != nil {
			continue // an interface's name, which CoreDNS resolves
		}
		if streams {
			l, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(at))
			if err != nil {
				return portError("tcp", at, err)
			}
			_ = l.Close()
		}
		if datagrams {
			p, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(at))
			if err != nil {
				return portError("udp", at, err)
			}
			_ = p.Close()
		}
	}
	return nil
}

// portError names who holds a port, or what is missing to bind it.
func portError(network string, at netip.AddrPort, err error) error {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		holder := srvboot.PortHolder(network, at.String())
		return &usageError{what: fmt.Sprintf("%s port %s is taken by %s", network, at, holder), cause: err,
			hint: fmt.Sprintf("stop it, or give this one another address or port; see: ss -lnp 'sport = :%d'", at.Port())}
	case errors.Is(err, os.ErrPermission):
		exe, _ := os.Executable()
		return &usageError{what: fmt.Sprintf("no permission to bind %s port %s", network, at), cause: err,
			hint: "setcap cap_net_bind_service=+ep " + exe + ", or AmbientCapabilities=CAP_NET_BIND_SERVICE in the systemd unit"}
	}
	return fmt.Errorf("bind %s port %s: %w", network, at, err)
}
