package member

import (
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/etcd-dns/etcd-dns/roster"
	"github.com/etcd-dns/etcd-dns/srvboot"
)

// Target is one SRV record of priority 0 and weight 0.
type Target struct {
	// Host is an absolute name, lower case, without its trailing dot.
	Host string
	Port uint16
}

// View is what a member is told of its domain: these names exist, and no others. It is not changed once it is set.
type View struct {
	// Domain is the discovery domain, lower case, without its trailing dot.
	Domain string
	// SRV holds the targets by owner name, such as "_etcd-server-ssl._tcp.rack1.example.com".
	SRV map[string][]Target
	// Hosts holds addresses by name. Below the domain it is everything there is; PTR questions for these addresses
	// are answered from it too.
	Hosts map[string][]netip.Addr
}

// ViewOf makes the view by which a member boots: exactly members are in SRV, every target has an address, and no two
// share one (etcd#5244). The roster's other nodes have addresses in it, but are not in SRV.
func ViewOf(members []srvboot.GenesisMember, r roster.Roster, srvName string) (View, error) {
	v := View{
		Domain: strings.TrimSuffix(strings.ToLower(r.Domain), "."),
		SRV:    map[string][]Target{},
		Hosts:  map[string][]netip.Addr{},
	}
	for _, n := range r.Nodes {
		if len(n.Addrs) > 0 {
			v.Hosts[n.Name+"."+v.Domain] = slices.Clone(n.Addrs)
		}
		if len(n.PeerAddrs) > 0 {
			v.Hosts[n.PeerHost()+"."+v.Domain] = slices.Clone(n.PeerAddrs)
		}
	}
	holder := map[netip.Addr]string{}
	for _, m := range members {
		owner, t, err := serviceOf(m, v.Domain, srvName)
		if err != nil {
			return View{}, err
		}
		if len(v.Hosts[t.Host]) == 0 {
			return View{}, fmt.Errorf("no address is known of %s, the host of member %s", t.Host, m.Name)
		}
		for _, a := range v.Hosts[t.Host] {
			if other, taken := holder[a]; taken {
				return View{}, fmt.Errorf("members %s and %s share the address %s", other, m.Name, a)
			}
			holder[a] = m.Name
		}
		v.SRV[owner] = append(v.SRV[owner], t)
	}
	if len(v.SRV) > 1 {
		return View{}, fmt.Errorf("some members of %s have https peer URLs and some http", v.Domain)
	}
	return v, nil
}

// serviceOf splits a member's peer URL into the SRV record that names it.
func serviceOf(m srvboot.GenesisMember, domain, srvName string) (owner string, t Target, err error) {
	u, err := url.Parse(m.PeerURL)
	if err != nil {
		return "", Target{}, fmt.Errorf("peer URL of member %s: %w", m.Name, err)
	}
	service := map[string]string{"https": "_etcd-server-ssl", "http": "_etcd-server"}[u.Scheme]
	port, portErr := strconv.ParseUint(u.Port(), 10, 16)
	if service == "" || portErr != nil || !below(u.Hostname(), domain) {
		return "", Target{}, fmt.Errorf("peer URL %s of member %s is not https://NAME.%s:PORT", m.PeerURL, m.Name, domain)
	}
	if srvName != "" {
		service += "-" + srvName
	}
	return service + "._tcp." + domain, Target{Host: u.Hostname(), Port: uint16(port)}, nil
}

// below reports whether name lies at or below domain; both without trailing dots and in lower case.
func below(name, domain string) bool {
	return name == domain || strings.HasSuffix(name, "."+domain)
}
