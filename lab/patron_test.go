//go:build linux

package lab

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/miekg/dns"
)

const (
	// patronPace is between two queries of one kind: 25 a second over UDP and as many over TCP.
	patronPace = 40 * time.Millisecond
	// patronTries is how many times a resolver asks before it gives up (Unbound: five).
	patronTries = 4
	// patronConns is how many connections a resolver has at a time; what it asks beyond them waits (Unbound's
	// outgoing-num-tcp). Without it a patron whose answers come late has as many as one of a crowd, and goes with it.
	patronConns = 10
)

// patron is a good client: it asks one node for the members as resolvers do, over UDP and over TCP, each query on a new
// socket, again when no answer comes within a second.
type patron struct {
	lab      *Lab
	from, at string
	question Question
	want     string
	stop     chan struct{}
	conns    chan struct{} // one for each connection
	wg       sync.WaitGroup

	mu sync.Mutex
	// all of it by network, udp and tcp; guarded by mu
	tally map[string]*patronTally
}

// patronTally is how a patron fared.
type patronTally struct {
	asked, again, lost int
	took               []time.Duration
	why                error // of the last failure
}

func (t *patronTally) String() string {
	slices.Sort(t.took)
	p99 := time.Duration(0)
	if n := len(t.took); n > 0 {
		p99 = t.took[n*99/100]
	}
	return fmt.Sprintf("%d asked, %d again, %d lost, 99 %% within %v", t.asked, t.again, t.lost, p99.Round(time.Millisecond))
}

// patron begins to ask a node from a host, until end or the end of the test.
func (l *Lab) patron(from, node string) *patron {
	l.t.Helper()
	p := &patron{lab: l, from: from, at: net.JoinHostPort(l.Addr(node), "53"), question: Question{l.service("server"), dns.TypeSRV}, want: l.complete("server"),
		stop: make(chan struct{}), conns: make(chan struct{}, patronConns), tally: map[string]*patronTally{"udp": {}, "tcp": {}}}
	for network := range p.tally {
		p.wg.Go(func() { p.ask(network) })
	}
	l.t.Cleanup(func() { p.end() })
	return p
}

// ask asks at its pace, however long an answer takes.
func (p *patron) ask(network string) {
	tick := time.NewTicker(patronPace)
	defer tick.Stop()
	for {
		select {
		case <-p.stop:
			return
		case <-tick.C:
			p.wg.Go(func() { p.query(network) })
		}
	}
}

// query asks one question until it is answered or given up.
func (p *patron) query(network string) {
	start := time.Now()
	var err error
	tries := 0
	for tries < patronTries {
		tries++
		if err = p.try(network); err == nil {
			break
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	t := p.tally[network]
	t.asked++
	t.again += tries - 1
	if err != nil {
		t.lost++
		t.why = err
		return
	}
	t.took = append(t.took, time.Since(start))
}

func (p *patron) try(network string) error {
	if network == "tcp" {
		p.conns <- struct{}{}
		defer func() { <-p.conns }()
	}
	var conn *dns.Conn
	err := inNetns(p.lab.host(p.from).ns, func() error {
		c, err := net.DialTimeout(network, p.at, queryLimit)
		conn = &dns.Conn{Conn: c, UDPSize: 1232}
		return err
	})
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	m, err := exchange(conn, p.question.Name, p.question.Type)
	switch {
	case err != nil:
		return err
	case m.Truncated && network == "udp": // RFC 7766 §5: ask again over TCP
		return p.try("tcp")
	case Answer(m) != p.want:
		return errors.New(Answer(m))
	}
	return nil
}

// end stops asking. It may be called more than once.
func (p *patron) end() {
	p.mu.Lock()
	select {
	case <-p.stop:
	default:
		close(p.stop)
	}
	p.mu.Unlock()
	p.wg.Wait()
}
