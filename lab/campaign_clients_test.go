//go:build linux

package lab

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
)

const (
	// workers are the clients that write and read at a time.
	workers = 4
	// pace is the pause between two operations of a worker.
	pace = 20 * time.Millisecond
	// operationLimit bounds an operation; one that takes longer has failed.
	operationLimit = 2 * time.Second
	// registers are the keys that all workers share.
	registers = 4
)

// clients write and read on the client host. They find the cluster as any client does: by the SRV records of the rack's name
// servers, asked again after every failure and every second.
type clients struct {
	*Lab
	tls *tls.Config
	// servers are the hosts that they ask for names: the nodes, or the parent of a rack that has no name servers.
	servers []string
	*record
	// round names the keys, so that what a put of an earlier round still does is not in the way.
	round  string
	cancel context.CancelFunc
	wg     sync.WaitGroup
}

// newClients makes clients of the rack; begin starts them.
func (l *Lab) newClients(servers ...string) (*clients, error) {
	c := &clients{Lab: l, servers: servers, record: newRecord()}
	if l.Plain {
		return c, nil
	}
	dir := l.host(clientHost).dir
	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, "alice.crt"), filepath.Join(dir, "alice.key"))
	if err != nil {
		return nil, err
	}
	root, err := os.ReadFile(filepath.Join(dir, "ca.crt"))
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(root)
	c.tls = &tls.Config{RootCAs: pool, Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
	return c, nil
}

// begin starts the workers on the keys of a round, with a new record; end stops them and waits for what they do at the moment.
func (c *clients) begin(round string) {
	ctx, cancel := context.WithCancel(context.Background())
	c.record, c.round, c.cancel = newRecord(), round, cancel
	for id := range workers {
		c.wg.Go(func() { c.work(ctx, id) })
	}
}

func (c *clients) end() {
	c.cancel() // more than once does nothing
	c.wg.Wait()
}

// The keys: each of unique is put once, by one worker; each register is put and read by all.
func (c *clients) unique() string             { return "u/" + c.round + "/" }
func (c *clients) register(n int) string      { return fmt.Sprintf("r/%s/%d", c.round, n) }
func (c *clients) value(id, n int) string     { return fmt.Sprintf("%d.%d", id, n) }
func (c *clients) uniqueKey(id, n int) string { return fmt.Sprintf("%s%d.%d", c.unique(), id, n) }

// work is one worker: half of its operations put a key of its own, the others put or get a register.
func (c *clients) work(ctx context.Context, id int) {
	var etcd *clientv3.Client
	defer func() {
		if etcd != nil {
			_ = etcd.Close()
		}
	}()
	var asked time.Time
	tick := time.NewTicker(pace)
	defer tick.Stop()
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if etcd == nil || time.Since(asked) > time.Second {
			etcd, asked = c.refresh(etcd), time.Now()
		}
		if etcd == nil {
			continue
		}
		if err := c.operate(etcd, id, n); err != nil {
			asked = time.Time{}
		}
	}
}

// refresh asks for the endpoints and gives them to the client, or to a new one. Without an answer those it has stay.
func (c *clients) refresh(etcd *clientv3.Client) *clientv3.Client {
	urls := c.discover()
	if len(urls) == 0 {
		return etcd
	}
	if etcd == nil {
		etcd, _ = c.connect(urls...) // what is wrong with it fails again at the next refresh
		return etcd
	}
	slices.Sort(urls)
	if old := etcd.Endpoints(); !slices.Equal(old, urls) {
		etcd.SetEndpoints(urls...)
	}
	return etcd
}

// discover reads the client records at one of the name servers, any that answers.
func (c *clients) discover() (urls []string) {
	m := c.lookup(c.service("client"), dns.TypeSRV)
	if m == nil {
		return nil
	}
	for _, rr := range m.Answer {
		if srv, ok := rr.(*dns.SRV); ok {
			urls = append(urls, c.url(strings.TrimSuffix(srv.Target, "."), fmt.Sprint(srv.Port)))
		}
	}
	slices.Sort(urls)
	return urls
}

func (c *clients) lookup(name string, qtype uint16) *dns.Msg {
	for _, i := range rand.Perm(len(c.servers)) {
		if m, err := c.Query(clientHost, c.Addr(c.servers[i]), name, qtype); err == nil && len(m.Answer) > 0 {
			return m
		}
	}
	return nil
}

func (c *clients) url(host, port string) string {
	return map[bool]string{false: "https://", true: "http://"}[c.Plain] + net.JoinHostPort(host, port)
}

// connect makes a client whose connections leave from the client host.
func (c *clients) connect(urls ...string) (*clientv3.Client, error) {
	return clientv3.New(clientv3.Config{
		Endpoints: urls, TLS: c.tls, Logger: zap.NewNop(), DialKeepAliveTime: time.Second, DialKeepAliveTimeout: time.Second,
		DialOptions: []grpc.DialOption{grpc.WithContextDialer(c.dialTCP), grpc.WithConnectParams(grpc.ConnectParams{MinConnectTimeout: time.Second})},
	})
}

func (c *clients) dialTCP(ctx context.Context, hostport string) (conn net.Conn, err error) {
	host, port, err := net.SplitHostPort(strings.TrimPrefix(strings.TrimPrefix(hostport, "https://"), "http://"))
	if err != nil {
		return nil, err
	}
	if net.ParseIP(host) == nil {
		m := c.lookup(host, dns.TypeA)
		if m == nil {
			return nil, fmt.Errorf("no name server knows %s", host)
		}
		host = m.Answer[0].(*dns.A).A.String()
	}
	err = inNetns(c.host(clientHost).ns, func() (err error) {
		d := net.Dialer{Timeout: operationLimit}
		conn, err = d.DialContext(ctx, "tcp", net.JoinHostPort(host, port))
		return err
	})
	return conn, err
}

// operate does one operation and records it.
func (c *clients) operate(etcd *clientv3.Client, id, n int) error {
	o := operation{client: id, put: true, key: c.uniqueKey(id, n), value: c.value(id, n)}
	switch rand.IntN(4) {
	case 0:
		o.key = c.register(rand.IntN(registers))
	case 1:
		o.key, o.put, o.value = c.register(rand.IntN(registers)), false, ""
	}
	return c.do(etcd, o)
}

// do does an operation, at most for operationLimit, and records it.
func (c *clients) do(etcd *clientv3.Client, o operation) error {
	ctx, cancel := context.WithTimeout(context.Background(), operationLimit)
	defer cancel()
	o.call = c.now()
	var err error
	if o.put {
		_, err = etcd.Put(ctx, o.key, o.value)
	} else {
		var r *clientv3.GetResponse
		if r, err = etcd.Get(ctx, o.key); err == nil && len(r.Kvs) > 0 {
			o.value = string(r.Kvs[0].Value)
		}
	}
	c.done(o, err)
	return err
}

// member is one member seen from the client host, through its own endpoint.
type member struct {
	node string
	*clientv3.Client
}

// seeWithin bounds what a member is asked by each.
const seeWithin = 30 * time.Second

// each connects to each of the nodes' members alone, and calls see with it.
func (c *clients) each(nodes []string, see func(context.Context, member) error) error {
	var all error
	for _, n := range nodes {
		etcd, err := c.connect(c.url(c.Addr(n), "2379"))
		if err == nil {
			ctx, cancel := context.WithTimeout(context.Background(), seeWithin)
			err = see(ctx, member{n, etcd})
			cancel()
			_ = etcd.Close()
		}
		if err != nil {
			all = errors.Join(all, fmt.Errorf("member of %s: %w", n, err))
		}
	}
	return all
}
