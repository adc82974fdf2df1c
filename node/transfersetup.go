package node

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"time"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/plugin"
	"go.uber.org/zap"
)

// blocksKey is where an instance that starts keeps its transfer directives.
type blocksKey struct{}

// setupTransfer is the directive's: each instance brings its own policy.
func (s *nameServer) setupTransfer(c *caddy.Controller) error {
	blocks, err := parseTransfer(&c.Dispenser, c.File(), c.ServerBlockKeys)
	if err != nil {
		s.refused(err)
		return plugin.Error(transferName, err)
	}
	cfg := dnsserver.GetConfig(c)
	if len(c.ServerBlockKeys) == 0 || c.ServerBlockKeyIndex == 0 {
		all, _ := c.Get(blocksKey{}).([]transferBlock)
		c.Set(blocksKey{}, append(all, blocks...))
	}
	cfg.AddPlugin(func(next plugin.Handler) plugin.Handler {
		return &transferPlugin{transfers: s.transfers, own: blocks, shared: s.fronts.shared, next: next}
	})
	return nil
}

// transferBlocks are the transfer directives of an instance.
func transferBlocks(inst *caddy.Instance) []transferBlock {
	inst.StorageMu.RLock()
	defer inst.StorageMu.RUnlock()
	blocks, _ := inst.Storage[blocksKey{}].([]transferBlock)
	return blocks
}

// admitKey makes the bundle's TSIG key known at a door, beside those of plugin tsig. A server that knows no key would take
// each signature for good.
func (s *nameServer) admitKey(cfg *dnsserver.Config) error {
	secrets := map[string]string{}
	maps.Copy(secrets, cfg.TsigSecret)
	for name, secret := range s.transfers.key.Secrets() {
		if other, ok := secrets[name]; ok && other != secret {
			return fmt.Errorf("the TSIG key %s is the bundle's; give the key of the tsig block another name", name)
		}
		secrets[name] = secret
	}
	cfg.TsigSecret = secrets
	return nil
}

// stuckLimit is how long a TCP peer may take nothing of what is sent to it.
const stuckLimit = 10 * time.Second

// limitWrites has the kernel end connections whose peer does not read: CoreDNS writes without a deadline, and hides its
// sockets.
func limitWrites(inst *caddy.Instance, log *zap.Logger) {
	for _, s := range inst.Servers() {
		a, ok := s.Addr().(*net.TCPAddr)
		if !ok {
			continue
		}
		if err := setUserTimeout(a.AddrPort(), stuckLimit); err != nil && !errors.Is(err, errors.ErrUnsupported) {
			log.Warn("connections that do not read are not cut", zap.Stringer("listener", a), zap.Error(err))
		}
	}
}

// behindLimit is how long a secondary may be behind before the status speaks of it.
const behindLimit = time.Minute

// warnings name the secondaries that stay behind.
func (t *transfers) warnings(now time.Time) (out []string) {
	for _, s := range t.notifier.Status() {
		if s.Lag(now) > behindLimit {
			text := fmt.Sprintf("the secondary %s was not seen to have serial %d of %s", s.Address, s.Serial, s.Zone)
			if s.Error != "" {
				text += ": " + s.Error
			}
			out = append(out, text)
		}
	}
	return out
}
