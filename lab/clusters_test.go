//go:build linux

package lab

import (
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// soon is how long all nodes may take to publish what happened to a cluster: generous, for both cores may be busy.
const soon = healthyLimit

// clusters is a rack of two clusters: infra0 to infra2 are the default one, infra3 to infra5 are foo.
type clusters struct {
	*Lab
	one, foo []string
}

func newClusters(t *testing.T) clusters {
	// The watcher asks for more than a network may have.
	l := New(t, Options{Nodes: 6, Foo: 3, Edit: func(_, text string) string {
		return strings.Replace(text, "etcdsrv {", "etcdsrv {\n        rrl off", 1)
	}})
	return clusters{Lab: l, one: l.names[:3], foo: l.names[3:]}
}

// srv is the owner name of a record set.
func (l *Lab) srv(what string) string { return what + "._tcp." + l.Domain }

// everyoneSays waits until each of the nodes gives every answer, by owner name.
func (l *Lab) everyoneSays(what string, nodes []string, answers map[string]string) {
	l.t.Helper()
	l.Wait(what, soon, func() error {
		for _, n := range nodes {
			for name, want := range answers {
				if got := l.Ask(clientHost, l.Addr(n), l.srv(name), dns.TypeSRV); got != want {
					return fmt.Errorf("%s says %q of %s, want %q", n, got, name, want)
				}
			}
		}
		return nil
	})
}

// oneZone waits until the nodes have one serial, which names one content.
func (l *Lab) oneZone(nodes []string) {
	l.t.Helper()
	l.Wait("one serial at "+strings.Join(nodes, " "), soon, func() error { return l.sameSOA(nodes) })
}

// sameSOA is an error unless the nodes have one serial.
func (l *Lab) sameSOA(nodes []string) error {
	want := l.Ask(clientHost, l.Addr(nodes[0]), l.Domain, dns.TypeSOA)
	for _, n := range nodes {
		if got := l.Ask(clientHost, l.Addr(n), l.Domain, dns.TypeSOA); got != want || !strings.HasSuffix(got, " 14400 3600 1209600 5") {
			return fmt.Errorf("%s has %q, %s has %q", nodes[0], want, n, got)
		}
	}
	return nil
}

// born are the answers of both clusters.
func (c clusters) born() map[string]string {
	return map[string]string{
		"_etcd-server-ssl": c.targets("server", c.one...), "_etcd-client-ssl": c.targets("client", c.one...),
		"_etcd-server-ssl-foo": c.targets("server", c.foo...), "_etcd-client-ssl-foo": c.targets("client", c.foo...),
		"_etcd-server": "NXDOMAIN", "_etcd-client-foo": "NXDOMAIN", "_etcd-server-ssl-bar": "NXDOMAIN",
	}
}

// Two clusters in one domain: each node answers for both, with three answers each, whichever it is a member of.
func TestClusters(t *testing.T) {
	t.Parallel()
	c := newClusters(t)
	names := []string{"_etcd-server-ssl", "_etcd-server-ssl-foo", "_etcd-client-ssl-foo"}
	var questions []Question
	for _, n := range names {
		questions = append(questions, Question{c.srv(n), dns.TypeSRV})
	}
	w := c.Ask100(clientHost, questions...)

	// One cluster is born while nobody knows anything of the other.
	for _, n := range c.one {
		c.Start(n)
	}
	c.everyoneSays("the default cluster is published, foo is neither published nor denied", c.one, map[string]string{
		"_etcd-server-ssl": c.targets("server", c.one...), "_etcd-server-ssl-foo": "SERVFAIL", "_etcd-client-ssl-foo": "SERVFAIL", "_etcd-server-foo": "SERVFAIL"})
	c.WaitStatus("infra0", "problems", "cannot answer for cluster foo")

	// All nodes of foo say that it is not born, for one of them cannot start a member.
	held := c.holdPort("infra5", "2380")
	for _, n := range c.foo {
		c.Start(n)
	}
	c.everyoneSays("foo is denied by all", c.names, map[string]string{
		"_etcd-server-ssl": c.targets("server", c.one...), "_etcd-server-ssl-foo": "NXDOMAIN", "_etcd-client-ssl-foo": "NXDOMAIN"})
	_ = held.Close()
	c.WaitHealthy()
	c.everyoneSays("both clusters at every node", c.names, c.born())
	c.oneZone(c.names)
	if a, b := c.StatusText("infra0", "cluster_id"), c.StatusText("infra3", "cluster_id"); a == b || a == "" || b == "" {
		t.Errorf("the cluster IDs are %q and %q", a, b)
	}
	c.separate()

	// A whole cluster down, and a node of the other one that starts meanwhile.
	c.Kill(c.foo...)
	c.WaitStatus("infra0", "warnings", "infra3 of cluster foo does not answer")
	c.oneZone(c.one)
	if got := c.Ask(clientHost, c.Addr("infra0"), c.srv("_etcd-client-ssl-foo"), dns.TypeSRV); got == "NXDOMAIN" || !strings.Contains(got, "2379") {
		t.Errorf("the clients of a cluster that is down are %q", got)
	}
	c.Stop("infra0")
	c.Start("infra0")
	c.WaitHealthy(c.one...)
	c.everyoneSays("foo is published all the same", c.one, map[string]string{"_etcd-server-ssl-foo": c.targets("server", c.foo...)})
	c.oneZone(c.one)
	for _, n := range c.foo {
		c.Start(n)
	}
	c.WaitHealthy()
	c.everyoneSays("both clusters at every node again", c.names, c.born())
	c.oneZone(c.names)

	w.Stop()
	for _, n := range c.names {
		for i, q := range questions {
			check := firstAnswers
			if strings.HasPrefix(names[i], "_etcd-client") {
				check = firstClients
			}
			if err := check(w.Sequence(n, q), c.born()[names[i]]); err != nil {
				t.Errorf("%s of %s: %v", q.Name, n, err)
			}
		}
	}
	c.moved()
}

// separate shows what keeps the clusters apart, and what does not.
func (c clusters) separate() {
	c.t.Helper()
	c.Put("here", "default")
	ctl := func(args ...string) Result {
		return c.Run(clientHost, "etcdctl", slices.Concat([]string{"--discovery-srv", c.Domain, "--discovery-srv-name", "foo", "--command-timeout", "5s"}, c.certFlags(), args)...)
	}
	// The certificates are the domain's, so a client of one cluster is let into the other; the data are apart.
	c.Wait("a put into foo", soon, func() error { return ctl("put", "there", "foo").Err() })
	if r := ctl("get", "here", "--print-value-only"); r.Code != 0 || strings.TrimSpace(r.Stdout) != "" {
		c.t.Errorf("the default cluster's key in foo: %v", r)
	}
	for _, args := range [][]string{{"member", "remove", "infra4"}, {"member", "add", "infra4"}} {
		r := c.Tool("infra0", args...)
		if r.Code == 0 || !strings.Contains(r.Stderr, "infra4 is a node of cluster foo, and infra0 of the default cluster") || !strings.Contains(r.Stderr, "such as infra4") {
			c.t.Errorf("an order for the wrong cluster: %v", r)
		}
	}
	list := c.Tool("infra4", "member", "list").Stdout
	if !strings.Contains(list, "infra3") || strings.Contains(list, "infra0") {
		c.t.Errorf("the members of foo:\n%s", list)
	}
}

// moved gives a node of foo a line in the default cluster: it is refused with its data in place, and goes on when it is
// moved back.
func (c clusters) moved() {
	c.t.Helper()
	const name = "infra5"
	before := c.StatusText(name, "genesis")
	c.Stop(name)
	line := "node " + name + " " + c.Addr(name) + "\n"
	c.EditCorefile(name, func(text string) string {
		text = strings.Replace(text, line, "", 1)
		return strings.Replace(text, "cluster foo {", line+"cluster foo {", 1)
	})
	c.Start(name)
	c.WaitStatus(name, "waiting", "foo")
	r := c.Tool(name, "status")
	if !strings.Contains(r.Stdout, "srv-name") || !strings.Contains(r.Stdout, "hint") {
		c.t.Errorf("the refusal does not say why, and what to do: %v", r)
	}
	c.Holds("no member on the wrong data", 2*time.Second, func() error {
		if pid := c.MemberPID(name); pid != 0 {
			return fmt.Errorf("process %d", pid)
		}
		return nil
	})
	c.everyoneSays("foo keeps its three members", c.names, map[string]string{"_etcd-server-ssl-foo": c.targets("server", c.foo...), "_etcd-server-ssl": c.targets("server", c.one...)})
	c.Stop(name)
	c.Install(name, c.operator())
	c.Start(name)
	c.WaitHealthy()
	if after := c.StatusText(name, "genesis"); after != before {
		c.t.Errorf("it came back in genesis %q, was %q", after, before)
	}
}

// holdPort keeps a TCP port of a node's address busy until it is closed.
func (l *Lab) holdPort(name, port string) (held net.Listener) {
	l.t.Helper()
	err := inNetns(l.host(name).ns, func() (err error) {
		held, err = net.Listen("tcp", net.JoinHostPort(l.Addr(name), port))
		return err
	})
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { _ = held.Close() })
	return held
}
