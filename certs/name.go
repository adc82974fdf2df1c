package certs

import "strings"

const (
	maxNodes    = 64 // slots take the low six bits of a zone serial
	maxSrvName  = 46 // `_etcd-server-ssl-NAME` must fit a label of 63 octets (RFC 1035 §2.3.4)
	maxNodeName = 58 // so that NAME-peer, the host name of a peer address, still fits a label
	maxFQDN     = 253
)

// foldDomain returns the domain in the form the zone uses: absolute, lower case, with its trailing dot.
func foldDomain(domain string) (string, error) {
	d := lower(strings.TrimSuffix(domain, "."))
	labels := strings.Split(d, ".")
	const hint = "delegate a subdomain to the nodes and name it, as in: etcd-dns init --domain rack1.example.com …"
	if len(labels) < 2 {
		return "", withHint(hint, "discovery domain %q: want a domain name of at least two labels", domain)
	}
	for _, l := range labels {
		if !isHostLabel(l) {
			return "", withHint(hint, "discovery domain %q: label %q is not a host label (letters, digits and inner hyphens, 1 to 63 octets)", domain, l)
		}
	}
	if isDigits(labels[len(labels)-1]) {
		return "", withHint(hint, "discovery domain %q: looks like an address; its last label is all digits", domain)
	}
	if n := len("_etcd-server-ssl._tcp.") + len(d); n > maxFQDN {
		return "", withHint(hint, "discovery domain %q: its SRV names would have %d octets, at most %d fit", domain, n, maxFQDN)
	}
	return d + ".", nil
}

// foldNode returns the node's name in lower case. domain is already folded.
func foldNode(name, domain string) (string, error) {
	n := lower(name)
	const hint = "name each node by one host label, as in: --node infra0=10.0.1.10"
	switch {
	case !isHostLabel(n) || len(n) > maxNodeName:
		return "", withHint(hint, "node name %q: want one host label (letters, digits and inner hyphens, 1 to %d octets)", name, maxNodeName)
	case isDigits(n):
		return "", withHint(hint, "node name %q: all digits, and etcd names members that it does not know 0, 1, 2 …", name)
	case n == "localhost":
		return "", withHint(hint, "node name %q: reserved for the loopback addresses", name)
	}
	if l := len(n) + len("-peer.") + len(domain) - 1; l > maxFQDN {
		return "", withHint("choose a shorter node name or domain", "node name %q: its host names would have %d octets, at most %d fit", name, l, maxFQDN)
	}
	return n, nil
}

// foldSrvName returns the cluster's srv-name in lower case; the default cluster's is empty.
func foldSrvName(name, domain string) (string, error) {
	n := lower(name)
	if n == "" {
		return "", nil
	}
	const hint = "choose another srv-name, as in: --srv-name foo"
	switch {
	case !isHostLabel(n) || len(n) > maxSrvName:
		return "", withHint(hint, "srv-name %q: want one host label of 1 to %d octets", name, maxSrvName)
	case n == "ssl" || strings.HasPrefix(n, "ssl-"):
		return "", withHint(hint, "srv-name %q: _etcd-server-%s would be the TLS name of another cluster", name, n)
	}
	if l := len("_etcd-server-ssl-._tcp.") + len(n) + len(domain) - 1; l > maxFQDN {
		return "", withHint(hint, "srv-name %q: its SRV names would have %d octets, at most %d fit", name, l, maxFQDN)
	}
	return n, nil
}

// isHostLabel says whether s is a lower-case label of a host name (RFC 1123 §2.1).
func isHostLabel(s string) bool {
	if len(s) < 1 || len(s) > 63 || s[0] == '-' || s[len(s)-1] == '-' {
		return false
	}
	return !strings.ContainsFunc(s, func(r rune) bool {
		return r != '-' && (r < '0' || r > '9') && (r < 'a' || r > 'z')
	})
}

func isDigits(s string) bool { return strings.Trim(s, "0123456789") == "" }

// lower folds ASCII only: strings.ToLower would make host names of letters that merely look like them.
func lower(s string) string {
	return strings.Map(func(r rune) rune {
		if 'A' <= r && r <= 'Z' {
			r += 'a' - 'A'
		}
		return r
	}, s)
}
