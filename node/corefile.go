package node

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/coredns/caddy/caddyfile"
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/plugin"
	"github.com/miekg/dns"

	"github.com/etcd-dns/etcd-dns/zone/front"
)

// ConfigError is a mistake in the Corefile: where it stands, what it is, and what to write instead.
type ConfigError struct {
	File string
	// Line is 1 for the first line; 0 when the mistake has no line.
	Line int
	What string
	// Fix is the hint.
	Fix string
}

// Error names the place first, as compilers do.
func (e *ConfigError) Error() string {
	if e.Line == 0 {
		return fmt.Sprintf("%s: %s", e.File, e.What)
	}
	return fmt.Sprintf("%s:%d: %s", e.File, e.Line, e.What)
}

// Hint says what to write instead.
func (e *ConfigError) Hint() string { return e.Fix }

// ReadCorefile reads and checks the configuration. Plugins other than etcdsrv are checked when CoreDNS starts.
func ReadCorefile(path string) (*Options, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("find %s: %w", path, err)
	}
	text, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, &ConfigError{File: path, What: "no such Corefile",
			Fix: "etcd-dns init --domain rack1.example.com --node infra0=10.0.1.10 … --out /etc/etcd-dns, or --corefile FILE"}
	}
	if err != nil {
		return nil, fmt.Errorf("read the Corefile: %w", err)
	}
	return ParseCorefile(path, text)
}

// ParseCorefile checks the text of a Corefile. Relative paths in it are relative to path.
func ParseCorefile(path string, text []byte) (*Options, error) {
	blocks, err := caddyfile.Parse(path, bytes.NewReader(text), Directives())
	if err != nil {
		return nil, syntaxError(path, err)
	}
	if err := checkNSID(path, blocks); err != nil {
		return nil, err
	}
	for _, b := range blocks {
		tokens, ok := b.Tokens[pluginName]
		if !ok {
			continue
		}
		d := caddyfile.NewDispenserTokens(path, tokens)
		o, err := parseStanza(&d, path, b.Keys)
		if err != nil || o != nil {
			return o, err
		}
	}
	return nil, &ConfigError{File: path, What: "no server block with a configured etcdsrv plugin",
		Fix: "add `etcdsrv { … }` to the block of the delegated subdomain; see docs/corefile.md"}
}

// checkNSID refuses an identity for which answers have no room.
func checkNSID(path string, blocks []caddyfile.ServerBlock) error {
	for _, b := range blocks {
		if tokens, ok := b.Tokens["nsid"]; ok {
			if n := len(nsidData(words(tokens))); n > front.MaxNSID {
				return &ConfigError{File: path, Line: tokens[0].Line, What: fmt.Sprintf("nsid has %d octets, expected %d at most", n, front.MaxNSID),
					Fix: "write a short name of this server, or nothing for its host name"}
			}
		}
	}
	return nil
}

// syntaxError gives caddyfile's own errors the shape of ours. Their text begins with FILE:LINE already.
func syntaxError(path string, err error) error {
	what := err.Error()
	e := &ConfigError{File: path, What: what, Fix: "see docs/corefile.md for the words that a server block may hold"}
	if rest, ok := strings.CutPrefix(what, path+":"); ok {
		var line int
		if n, _ := fmt.Sscanf(rest, "%d", &line); n == 1 {
			e.Line = line
			_, e.What, _ = strings.Cut(rest, " - ")
			e.What = strings.TrimPrefix(e.What, "Error during parsing: ")
		}
	}
	if word, ok := unknownDirective(e.What); ok {
		e.What = fmt.Sprintf("unknown plugin %q", word)
		e.Fix = didYouMean(word, Directives())
	}
	return e
}

// unknownDirective finds the word in caddyfile's "Unknown directive 'x'".
func unknownDirective(what string) (string, bool) {
	rest, ok := strings.CutPrefix(what, "Unknown directive '")
	if !ok {
		return "", false
	}
	word, _, ok := strings.Cut(rest, "'")
	return word, ok
}

// parseStanza reads one etcdsrv directive. It returns nil options for a directive without a body: that is another
// door to the node, not its configuration.
func parseStanza(d *caddyfile.Dispenser, path string, keys []string) (*Options, error) {
	p := stanza{Dispenser: d, path: path, seen: map[string]int{}, blocks: map[string]int{}, o: &Options{Corefile: path, Rate: DefaultRate}}
	for d.Next() {
		if args := d.RemainingArgs(); len(args) > 0 {
			return nil, p.errorf("etcdsrv takes no argument but got %q", "write its properties between { and }", args[0])
		}
		body := false
		for d.NextBlock() {
			body = true
			if err := p.property(); err != nil {
				return nil, err
			}
		}
		if !body {
			return nil, nil
		}
	}
	if err := p.domain(keys); err != nil {
		return nil, err
	}
	if err := p.reverse(keys); err != nil {
		return nil, err
	}
	return p.finish()
}

// domain takes the first key of the server block that is not a reverse zone, and its port.
func (p *stanza) domain(keys []string) error {
	for _, key := range keys {
		z := plugin.Host(key).NormalizeExact()
		if len(z) == 0 || strings.HasSuffix(z[0], ".arpa.") {
			continue
		}
		p.o.Domain = dns.CanonicalName(z[0])
		p.o.DNSPort = portOf(key)
		if n, ok := dns.IsDomainName(p.o.Domain); !ok || n < 1 {
			return p.errorf("the server block %q is not a domain name", "name the delegated subdomain, such as rack1.example.com", key)
		}
		return nil
	}
	return p.errorf("the server block of etcdsrv names no domain but %s",
		"name the delegated subdomain, such as rack1.example.com", strings.Join(keys, " "))
}

func portOf(key string) uint16 {
	_, rest, ok := strings.Cut(key, "://")
	if !ok {
		rest = key
	}
	var port uint16
	if i := strings.LastIndexByte(rest, ':'); i >= 0 {
		if n, _ := fmt.Sscanf(rest[i+1:], "%d", &port); n == 1 {
			return port
		}
	}
	_, _ = fmt.Sscanf(dnsserver.Port, "%d", &port)
	return port
}
