//go:build linux

package lab

import (
	"encoding/json"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// front is a rack with every kind of resolver in front of it, twice: one comes from the root by the parent's delegation, and one has
// what `delegation --resolver` prints and comes from another root, whose example.com denies that there is a rack. All parents
// are signed, and all resolvers that can validate.
type front struct {
	*Lab
	resolvers []*resolver
	// bogus are resolvers whose parent has a wrong DS.
	bogus []*resolver
}

// A signed rack, which is asked for while every node says that it is not born: the denials are signed too, and a resolver may make
// its own of them (RFC 8198).
func TestResolversSigned(t *testing.T) {
	t.Parallel()
	f := &front{Lab: New(t, Options{IPv6: hasIPv6()})}
	release := portTaken(t, f.Lab)
	f.StartAll()
	f.Wait("every node says that nothing is born", 30*time.Second, func() error { return f.nodesSay("NXDOMAIN") })
	f.Wait("dnssec on", 10*time.Second, func() error { return f.Tool("infra1", "dnssec", "on").Err() })
	ds := f.announce(t)
	f.start(ds)
	heard := f.tap()
	f.birth(t, "NXDOMAIN", release)
	f.WaitHealthy()
	f.resolve(t, true)
	t.Run("Names", func(t *testing.T) { f.nameTricks(t, heard) })
	t.Run("WrongDS", f.wrongDS)
}

// A rack without signatures and without TLS, which is asked for while one of its nodes has not been started, so that the others cannot
// say whether it is born.
func TestResolversUnsigned(t *testing.T) {
	t.Parallel()
	f := &front{Lab: New(t, Options{IPv6: hasIPv6(), Plain: true})}
	f.Start("infra0")
	f.Start("infra1")
	f.waitNodes("infra0", "infra1")
	f.start(nil)
	f.birth(t, "SERVFAIL", func() { f.Start("infra2") })
	f.WaitHealthy()
	f.resolve(t, false)
}

// nodesSay is an error unless every node gives this answer for the members.
func (f *front) nodesSay(want string) error {
	for _, n := range f.names {
		if got := f.Ask(clientHost, f.Addr(n), f.service("server"), dns.TypeSRV); got != want {
			return errorf("%s says %s", n, got)
		}
	}
	return nil
}

// announce brings a zone that has just been signed to where its DS may be told: that takes an hour of the kernel's clock, so infra0's
// disk is made to say that it has passed, which the other nodes take over. It returns the DS.
func (f *front) announce(t *testing.T) (ds *dns.DS) {
	t.Helper()
	file := filepath.Join(f.node("infra0").data(), "dnssec.json")
	var state map[string]any
	f.Wait("signatures by infra0", 30*time.Second, func() error {
		text, err := os.ReadFile(file)
		if err == nil {
			err = json.Unmarshal(text, &state)
		}
		if err == nil && state["mode"] != "on" {
			err = errors.New(string(text))
		}
		return err
	})
	if r := f.Tool("infra0", "delegation", "--resolver", "unbound"); !strings.Contains(r.Stdout, "signed, but not for long enough") {
		t.Errorf("before the hour has passed: %v", r)
	}
	f.Kill("infra0")
	state["announced"], state["steps"] = true, state["steps"].(float64)+1
	text, err := json.Marshal(state)
	if err == nil {
		err = os.WriteFile(file, text, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	f.Start("infra0")
	f.Wait("CDS and the denial of birth at every node", 30*time.Second, func() error {
		for _, n := range f.names {
			m, err := f.Query(clientHost, f.Addr(n), f.Domain, dns.TypeCDS)
			if err != nil || len(m.Answer) != 1 {
				return errorf("%s: %v, %v", n, m, err)
			}
			ds = &m.Answer[0].(*dns.CDS).DS
		}
		return f.nodesSay("NXDOMAIN")
	})
	return ds
}

// start signs the parents, which have what the product says that they should, and starts the resolvers. ds is what it says of DS.
func (f *front) start(ds *dns.DS) {
	f.t.Helper()
	records := f.Must("infra0", f.bin(), append([]string{"delegation", "--offline"}, place(f.node("infra0"))...)...)
	f.writeDelegation(records)
	bare := f.twinParent(bareHost, bareAddr, func(zone string) string { return strings.Replace(zone, records, "", 1) })
	if ds != nil {
		f.startBogus(ds)
	}
	anchor := f.signChain(f.host(parentHost))
	f.reloadParent()
	for i, k := range resolverKinds {
		r := f.Tool("infra0", "delegation", "--resolver", k.kind)
		if r.Code != 0 {
			f.t.Fatal(r)
		}
		_, always, _ := strings.Cut(r.Stdout, "# Where a parent delegates")
		direct := resolverOptions{Roots: parentAddr, Anchor: anchor, Careful: ds != nil, Printed: "#" + always}
		stub := resolverOptions{Roots: bareAddr, Anchor: bare, Printed: r.Stdout, Stub: true}
		if k.kind == "dnsmasq" {
			direct.Upstream, direct.Roots, stub.Roots = f.resolvers[0].Addr, netip.Addr{}, netip.Addr{}
		}
		f.resolvers = append(f.resolvers, f.startKind(k, k.kind, resolverAt(30+i), direct), f.startKind(k, k.kind+"-stub", resolverAt(40+i), stub))
	}
	for _, r := range slices.Concat(f.resolvers, f.bogus) {
		f.waitResolver(f.t, r)
	}
}

// resolverAt is the address of a resolver's host.
func resolverAt(last int) netip.Addr { return netip.AddrFrom4([4]byte{10, 0, 2, byte(last)}) }

// startBogus starts resolvers below a parent with a wrong DS in the place of ds.
func (f *front) startBogus(ds *dns.DS) {
	f.t.Helper()
	anchor := f.twinParent(wrongHost, wrongAddr, func(zone string) string {
		return strings.ReplaceAll(zone, strings.ToUpper(ds.Digest), strings.Repeat("00", len(ds.Digest)/2))
	})
	for i, k := range resolverKinds {
		o := resolverOptions{Roots: wrongAddr, Anchor: anchor}
		if k.kind == "dnsmasq" {
			o.Upstream, o.Roots = f.bogus[0].Addr, netip.Addr{}
		}
		f.bogus = append(f.bogus, f.startKind(k, k.kind+"-bogus", resolverAt(50+i), o))
	}
}

// everything are questions for all that a client may ask, and what a healthy rack answers.
func (f *front) everything() []asked {
	var v4, v6 []string
	for _, n := range f.names {
		both := f.both(n)
		v4 = append(v4, both[0].String())
		if f.IPv6 {
			v6 = append(v6, both[1].String())
		}
	}
	all := func(addrs []string) string {
		if len(addrs) == 0 {
			return "NODATA"
		}
		return strings.Join(addrs, ", ")
	}
	out := append(f.services(),
		asked{Question{f.Domain, dns.TypeA}, all(v4)}, asked{Question{f.Domain, dns.TypeAAAA}, all(v6)},
		asked{Question{"_tcp." + f.Domain, dns.TypeSRV}, "NODATA"}, asked{Question{"infra1." + f.Domain, dns.TypeSRV}, "NODATA"},
		asked{Question{"nosuch." + f.Domain, dns.TypeA}, "NXDOMAIN"}, asked{Question{"_nosuch._tcp." + f.Domain, dns.TypeSRV}, "NXDOMAIN"})
	for i, n := range f.names {
		six := "NODATA"
		if f.IPv6 {
			six = v6[i]
		}
		out = append(out, asked{Question{n + "." + f.Domain, dns.TypeA}, v4[i]}, asked{Question{n + "." + f.Domain, dns.TypeAAAA}, six})
	}
	return out
}

// services are the four names of the two schemes, of which a rack has one.
func (f *front) services() (out []asked) {
	for _, what := range []string{"server", "client"} {
		for _, ssl := range []string{"-ssl", ""} {
			q := asked{Question{"_etcd-" + what + ssl + "._tcp." + f.Domain, dns.TypeSRV}, "NXDOMAIN"}
			if q.Name == f.service(what) {
				q.answer = f.complete(what)
			}
			out = append(out, q)
		}
	}
	return out
}

// resolve asks every resolver for everything, and wants AD (RFC 4035 §3.2.3) from those that validate a signed rack, and from
// no other.
func (f *front) resolve(t *testing.T, signed bool) {
	for _, r := range f.resolvers {
		t.Run(r.name, func(t *testing.T) {
			f.waitResolver(t, r)
			secure := signed && !(r.trusting && r.Stub)
			for _, q := range f.everything() {
				if err := poll(30*time.Second, func() error { return f.hears(r, q, secure) }); err != nil {
					t.Fatalf("want %s, AD %v: %v\n%s", q.answer, secure, err, r.said())
				}
			}
		})
	}
}

// wrongDS is the control: below a parent with a wrong DS, validating resolvers take nothing of the rack, not even a denial.
func (f *front) wrongDS(t *testing.T) {
	for _, r := range f.bogus {
		t.Run(r.kind, func(t *testing.T) {
			for _, q := range f.everything() {
				q.answer = "SERVFAIL"
				if err := poll(30*time.Second, func() error { return f.hears(r, q, false) }); err != nil {
					t.Fatalf("want SERVFAIL: %v\n%s", err, r.said())
				}
			}
		})
	}
}
