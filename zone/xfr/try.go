package xfr

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/miekg/dns"
)

// try is one attempt to bring a serial to a secondary.
type try struct {
	s        *secondary
	epoch    int
	origin   string
	soa      *dns.SOA
	serial   uint32
	to       netip.AddrPort
	from     netip.Addr
	unsigned bool
	// probe asks first which serial the secondary has: it acknowledged before.
	probe  bool
	number int
}

func newTry(notice Notice, z *announced, s *secondary) try {
	t := try{s: s, epoch: s.epoch, origin: notice.Zone.Origin(), soa: z.soa, serial: z.serial, to: s.addr, unsigned: notice.Unsigned,
		probe: s.hasAcked(z.serial), number: s.tries}
	if notice.Source != nil {
		t.from = notice.Source(s.addr.Addr())
	}
	return t
}

// outcome is what a try brought.
type outcome struct {
	acked bool
	// has is the serial that the secondary showed.
	has *uint32
	// deaf says that the secondary does not know NOTIFY.
	deaf bool
	err  error
}

// try sends one NOTIFY, unless the secondary shows that it has the serial.
func (n *Notifier) try(ctx context.Context, t try) (out outcome) {
	within := min(firstAnswer<<min(t.number, 10), lastAnswer)
	if t.probe {
		q := new(dns.Msg).SetQuestion(t.origin, dns.TypeSOA)
		q.RecursionDesired = false
		if r, err := n.exchange(ctx, q, t.from, t.to, within); err == nil && r.Rcode == dns.RcodeSuccess && len(r.Answer) == 1 {
			if soa, ok := r.Answer[0].(*dns.SOA); ok && r.Authoritative {
				out.has = &soa.Serial
				if !older(soa.Serial, t.serial) {
					return out
				}
			}
		}
	}
	r, err := n.exchange(ctx, n.message(t), t.from, t.to, within)
	out.err = n.judge(t, r, err)
	out.acked = out.err == nil
	// RFC 1996 §3.12: NOTIMP is the answer of one that does not know NOTIFY; it will not learn it.
	out.deaf = r != nil && r.Rcode == dns.RcodeNotImplemented
	return out
}

// message is the NOTIFY of RFC 1996 §3.7, with AA, and the new SOA as an unsecured hint in the answer section.
func (n *Notifier) message(t try) *dns.Msg {
	m := new(dns.Msg).SetNotify(t.origin)
	m.Answer = []dns.RR{t.soa}
	if !t.unsigned {
		m.SetTsig(n.key.Name, n.key.Algorithm, fudge, time.Now().Unix())
	}
	return m
}

// judge says why an answer is not an acknowledgement.
func (n *Notifier) judge(t try, r *dns.Msg, err error) error {
	switch {
	case r != nil && r.Rcode != dns.RcodeSuccess:
		text := dns.RcodeToString[r.Rcode]
		if sig := r.IsTsig(); sig != nil && sig.Error != 0 {
			text += " (" + dns.RcodeToString[int(sig.Error)] + ")"
		}
		return fmt.Errorf("it answers NOTIFY with %s", text)
	case err != nil:
		return fmt.Errorf("no good answer to NOTIFY: %w", err)
	case !r.Response || r.Opcode != dns.OpcodeNotify:
		return errors.New("its answer is not one to NOTIFY")
	case !t.unsigned && r.IsTsig() == nil:
		// RFC 8945 §5.4: an unsigned answer to a signed request is not to be believed.
		return errors.New("its answer to NOTIFY is not signed")
	}
	return nil
}

// overUDP is the notifier's exchange. RFC 1996 §3.1: UDP is enough. Answers to other messages are skipped.
func (n *Notifier) overUDP(ctx context.Context, m *dns.Msg, from netip.Addr, to netip.AddrPort, within time.Duration) (*dns.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	c := dns.Client{Net: "udp", Timeout: within, TsigSecret: n.key.Secrets()}
	if from.IsValid() {
		c.Dialer = &net.Dialer{LocalAddr: net.UDPAddrFromAddrPort(netip.AddrPortFrom(from, 0)), Timeout: within}
	}
	r, _, err := c.ExchangeContext(ctx, m, to.String())
	return r, err
}

// finish takes note of a try.
func (n *Notifier) finish(t try, out outcome) {
	n.mu.Lock()
	defer n.mu.Unlock()
	s := t.s
	if out.acked && (s.acked == nil || older(*s.acked, t.serial)) {
		s.acked = &t.serial
	}
	if t.epoch != s.epoch { // a newer serial is on its way, and what the secondary had before says nothing of that
		return
	}
	if out.has != nil {
		s.saw(*out.has, t.serial)
	}
	s.busy = false
	if s.settled { // it has the serial, or got it while the try was under way
		return
	}
	s.tries++
	s.notified, s.err = &t.serial, out.err
	wait := min(firstRetry<<min(s.tries-1, 12), lastRetry)
	if s.hasAcked(t.serial) {
		wait = max(wait, pullTime)
		s.late++
	}
	switch {
	case s.late <= acknowledged:
	case out.has == nil:
		s.settled, s.err = true, errSilent
	default:
		s.err = errNotPulled
	}
	s.settled = s.settled || out.deaf
	s.due = time.Now().Add(wait)
}
