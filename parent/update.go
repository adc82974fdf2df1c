package parent

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/miekg/dns"
)

// Change is what an update does to the parent zone.
type Change struct {
	Domain, Zone string
	// At is the server that takes it.
	At netip.AddrPort
	// Replace are RRsets that are deleted whole, because what the server holds cannot be seen (Server.Child); then the
	// records to publish are all that are wanted.
	Replace []dns.RR
	// Differences are what is published and withdrawn, each record by itself: nothing else at or below the domain is
	// touched.
	Differences []Difference
}

// Empty reports whether the parent holds what it should.
func (c Change) Empty() bool { return len(c.Differences) == 0 }

// Plan asks the server that takes updates of the parent zone what it holds and returns what is to change. The server
// is the SOA's MNAME unless at is valid; port 0 of at means 53.
func (a Asker) Plan(ctx context.Context, v View, w Want, at netip.AddrPort) (Change, error) {
	if !at.IsValid() {
		addrs, err := a.addresses(ctx, v.Primary)
		addrs = slices.DeleteFunc(addrs, func(x netip.Addr) bool { return slices.Contains(a.Own, x) })
		if len(addrs) == 0 {
			return Change{}, &problem{what: joinCause("the primary "+v.Primary+" of "+v.Zone+" has no address", err), cause: err,
				hint: "etcd-dns delegation apply --server ADDRESS"}
		}
		at = netip.AddrPortFrom(addrs[0], a.port)
	}
	if at.Port() == 0 {
		at = netip.AddrPortFrom(at.Addr(), dnsPort)
	}
	s := Server{Name: v.Primary, Addr: at.Addr()}
	a.port = at.Port()
	a.askServer(ctx, &v, &s)
	if s.Err != nil {
		return Change{}, &problem{what: fmt.Sprintf("the primary %s cannot be asked: %v", s, s.Err), cause: s.Err,
			hint: "etcd-dns delegation apply --server ADDRESS:PORT names another server that takes updates of " + v.Zone}
	}
	c := Change{Domain: v.Domain, Zone: v.Zone, At: at, Differences: s.differences(w)}
	if s.Child {
		c.replaceAll(w, s)
	}
	return c, nil
}

// replaceAll plans for a server that shows the child's records in the place of the parent's.
func (c *Change) replaceAll(w Want, s Server) {
	for _, rr := range w.Records {
		set := &dns.ANY{Hdr: dns.RR_Header{Name: rr.Header().Name, Rrtype: rr.Header().Rrtype}}
		if !slices.ContainsFunc(c.Replace, func(other dns.RR) bool { return *other.Header() == set.Hdr }) {
			c.Replace = append(c.Replace, set)
		}
		c.Differences = append(c.Differences, Difference{Publish: true, Record: rr, Servers: []string{s.String()}})
	}
}

// message is the update of RFC 2136 §2: deletions come first, so that what is replaced is gone before it comes.
func (c Change) message() *dns.Msg {
	m := new(dns.Msg).SetUpdate(c.Zone)
	m.RemoveRRset(c.Replace)
	for _, publish := range []bool{false, true} {
		for _, d := range c.Differences {
			if d.Publish != publish {
				continue
			}
			rr := []dns.RR{dns.Copy(d.Record)}
			if publish {
				m.Insert(rr)
			} else {
				m.Remove(rr)
			}
		}
	}
	return m
}

// tsigFudge is what RFC 8945 §10 recommends, in seconds.
const tsigFudge = 300

// Send makes the change, signed with the key, over TCP: an update is not to be cut off or lost. Sending it twice does
// no harm.
func (c Change) Send(ctx context.Context, k Key) error {
	m := c.message()
	m.SetTsig(k.Name, k.Algorithm, tsigFudge, time.Now().Unix())
	client := &dns.Client{Net: "tcp", Timeout: 2 * queryTimeout, TsigSecret: map[string]string{k.Name: k.Secret}}
	r, _, err := client.ExchangeContext(ctx, m, c.At.String())
	if r == nil {
		return &problem{what: fmt.Sprintf("send the update of %s to %s: %v", c.Zone, c.At, err), cause: err,
			hint: "the server has to take updates over TCP: nc -vz " + c.At.Addr().String() + fmt.Sprintf(" %d", c.At.Port())}
	}
	if refused := c.refusal(r, k); refused != nil {
		return refused
	}
	if err == nil && r.IsTsig() == nil {
		err = errors.New("it is not signed") // RFC 8945 §5.3: an answer without TSIG to a request with it is not to be believed
	}
	if err != nil {
		return &problem{what: fmt.Sprintf("the answer of %s cannot be trusted: %v", c.At, err), cause: err,
			hint: "ask what the parent holds now: etcd-dns delegation"}
	}
	return nil
}

// refusal explains an answer that is not NOERROR; nil for one that is.
func (c Change) refusal(r *dns.Msg, k Key) error {
	if t := r.IsTsig(); t != nil && t.Error != dns.RcodeSuccess {
		return &problem{what: fmt.Sprintf("%s does not take the key %s: %s", c.At, k.Name, dns.RcodeToString[int(t.Error)]), hint: tsigHint(t, k)}
	}
	if r.Rcode == dns.RcodeSuccess {
		return nil
	}
	return &problem{what: fmt.Sprintf("%s answers the update of %s with %s", c.At, c.Zone, dns.RcodeToString[r.Rcode]), hint: c.hint(r.Rcode, k)}
}

// tsigHint explains the errors of RFC 8945 §3.
func tsigHint(t *dns.TSIG, k Key) string {
	switch int(t.Error) {
	case dns.RcodeBadKey:
		return "the server knows no key " + k.Name + " with " + k.Algorithm + ": put the key file into its configuration, or use the server's"
	case dns.RcodeBadSig:
		return "the secrets differ: copy the key file of the server"
	case dns.RcodeBadTime:
		text := "set this machine's clock or the server's: they differ by more than five minutes"
		if len(t.OtherData) == 12 { // RFC 8945 §5.2.3: the server's clock, 48 bits, here in hexadecimal
			var there int64
			if _, err := fmt.Sscanf(t.OtherData, "%012x", &there); err == nil {
				text += "; the server's says " + time.Unix(there, 0).UTC().Format(time.DateTime) + " UTC"
			}
		}
		return text
	}
	return "compare the key file with the server's"
}

// hint explains the response codes of RFC 2136 §2.2.
func (c Change) hint(rcode int, k Key) string {
	switch rcode {
	case dns.RcodeRefused:
		return fmt.Sprintf("allow it there, in BIND: zone %q { update-policy { grant %s subdomain %s ANY; }; }", c.Zone, k.Name, c.Domain)
	case dns.RcodeNotAuth, dns.RcodeNotZone:
		return "that server is not the primary of " + c.Zone + ": name the one with --server ADDRESS"
	case dns.RcodeNotImplemented, dns.RcodeFormatError:
		return "that server takes no updates: put the records of `etcd-dns delegation` into the zone by hand"
	case dns.RcodeServerFailure:
		return "read that server's log: it may not be allowed to write the zone's journal"
	}
	return "read that server's log"
}
