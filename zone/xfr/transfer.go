package xfr

import (
	"fmt"
	"iter"
	"time"

	"github.com/miekg/dns"

	"github.com/etcd-dns/etcd-dns/zone/front"
)

const (
	// messageSize is how many octets of records go into one message, counted without compression. Compression pointers
	// reach 16 KiB (RFC 1035 §4.1.4), and a message in memory twice is nothing.
	messageSize = 16 << 10
)

// transfer is one request on its way.
type transfer struct {
	server *Server
	w      dns.ResponseWriter
	r      *dns.Msg
	tcp    bool
	start  time.Time
	// serial is the asker's when incremental.
	serial      uint32
	incremental bool
	// noTSIG leaves the answer unsigned though the query carries a TSIG: one that cannot be answered to.
	noTSIG bool
	event  Event
}

// answer sends what the version v has for the asker; v stays the same until the last message.
func (t *transfer) answer(v Version) {
	soa := v.SOA()
	t.event.Serial = soa.Serial
	if t.incremental && !older(t.serial, soa.Serial) {
		// RFC 1995 §2: an asker with this serial or a newer one gets the SOA alone.
		t.event.Serial = t.serial
		t.one(Current, []dns.RR{soa})
		return
	}
	kind, records := t.content(v)
	if !t.tcp {
		t.datagram(kind, soa, records)
		return
	}
	leave, ok := t.server.enter(t.event.Client.Addr())
	if !ok {
		// RFC 1035 §4.1.1: SERVFAIL is for the moment, REFUSED would be for good.
		t.refuse(&refusal{rcode: dns.RcodeServerFailure, ede: int(dns.ExtendedErrorCodeOther), text: "too many transfers at once"})
		return
	}
	defer leave()
	t.event.Kind = kind
	if err := t.stream(records); err != nil {
		t.fail(err)
	}
}

// content chooses between the changes and the whole zone.
func (t *transfer) content(v Version) (Kind, iter.Seq[dns.RR]) {
	if t.incremental {
		changes, ok := v.Since(t.serial)
		// RFC 1995 §4: a server that does not know the way from that serial sends the zone; §5 lets it when the way is longer.
		if ok && leads(changes, t.serial, v.SOA().Serial) && length(changes) < v.Len() {
			return Incremental, difference(v.SOA(), changes)
		}
	}
	return Full, whole(v)
}

// leads reports whether the changes are an unbroken way between two serials.
func leads(changes []Delta, from, to uint32) bool {
	for _, c := range changes {
		if c.From.Serial != from {
			return false
		}
		from = c.To.Serial
	}
	return len(changes) > 0 && from == to
}

func length(changes []Delta) (n int) {
	for _, c := range changes {
		n += len(c.Removed) + len(c.Added) + 2
	}
	return n
}

// whole is the zone in the form of RFC 5936 §2.2: the SOA at both ends.
func whole(v Version) iter.Seq[dns.RR] {
	return func(yield func(dns.RR) bool) {
		if !yield(v.SOA()) {
			return
		}
		for rr := range v.Records() {
			if !yield(rr) {
				return
			}
		}
		yield(v.SOA())
	}
}

// difference is the form of RFC 1995 §4: the new SOA, and for each change the old SOA, what went, the new SOA, what came;
// the newest SOA again.
func difference(soa *dns.SOA, changes []Delta) iter.Seq[dns.RR] {
	return func(yield func(dns.RR) bool) {
		all := func(rrs ...dns.RR) bool {
			for _, rr := range rrs {
				if !yield(rr) {
					return false
				}
			}
			return true
		}
		if !yield(soa) {
			return
		}
		for _, c := range changes {
			if !yield(c.From) || !all(c.Removed...) || !yield(c.To) || !all(c.Added...) {
				return
			}
		}
		yield(soa)
	}
}

// stream fills messages and sends each before the next is made.
func (t *transfer) stream(records iter.Seq[dns.RR]) error {
	var batch []dns.RR
	size := 0
	for rr := range records {
		n := dns.Len(rr)
		if len(batch) > 0 && size+n > messageSize {
			if err := t.send(batch); err != nil {
				return err
			}
			batch, size = nil, 0
		}
		batch, size = append(batch, rr), size+n
	}
	return t.send(batch)
}

func (t *transfer) send(batch []dns.RR) error {
	if took := t.server.now().Sub(t.start); took > longest {
		return fmt.Errorf("cut after %v: the secondary reads too slowly", took.Round(time.Second))
	}
	if err := t.w.WriteMsg(t.message(batch)); err != nil {
		return fmt.Errorf("send message %d: %w", t.event.Messages+1, err)
	}
	// RFC 8945 §5.3.1: the first message is signed with the request's MAC, each later one with the MAC before it and the
	// timers alone.
	t.w.TsigTimersOnly(true)
	t.event.Messages++
	t.event.Records += len(batch)
	return nil
}

// datagram answers IXFR over UDP. RFC 1995 §2: in one message, or the SOA alone, which sends the asker to TCP.
func (t *transfer) datagram(kind Kind, soa *dns.SOA, records iter.Seq[dns.RR]) {
	budget := dns.MinMsgSize // RFC 1035 §4.2.1
	if opt := t.r.IsEdns0(); opt != nil {
		budget = int(min(max(opt.UDPSize(), dns.MinMsgSize), front.MaxUDPSize)) // RFC 6891 §6.2.3
	}
	if sig := t.r.IsTsig(); sig != nil {
		budget -= dns.Len(sig) // RFC 8945 §5.3: ours has the same key and algorithm
	}
	budget -= front.NSIDRoom(t.r)
	var batch []dns.RR
	for rr := range records {
		// The smallest record has 12 octets (RFC 1035 §4.1.3), so no more of them fit.
		if batch = append(batch, rr); len(batch) > front.MaxUDPSize/12 {
			break
		}
	}
	m := t.unsigned(batch)
	if len(batch) > front.MaxUDPSize/12 || m.Len() > budget {
		t.one(Retry, []dns.RR{soa})
		return
	}
	t.one(kind, batch)
}

// one sends the whole answer in one message.
func (t *transfer) one(kind Kind, batch []dns.RR) {
	t.event.Kind = kind
	if err := t.send(batch); err != nil {
		t.fail(err)
	}
}

// fail ends the connection: the asker must not wait for the rest (RFC 5936 §2.2: it then drops what it has).
func (t *transfer) fail(err error) {
	t.event.Kind, t.event.Err = Broken, err
	_ = t.w.Close() // it is broken already
}

// message is a signed message with records, if the request was signed.
func (t *transfer) message(records []dns.RR) *dns.Msg {
	m := t.unsigned(records)
	Sign(m, t.r, 0, t.server.now())
	return m
}

// unsigned is a message without TSIG. RFC 5936 §2.2.1: AA is set; RFC 4035 §3.1.6: CD is not; §2.2.2 and §2.2.5 of RFC
// 5936: question and OPT may stand in each message.
func (t *transfer) unsigned(records []dns.RR) *dns.Msg {
	m := new(dns.Msg).SetReply(t.r)
	m.Authoritative, m.CheckingDisabled, m.Compress = true, false, true
	m.Answer = records
	t.addOPT(m)
	return m
}

// addOPT answers EDNS with EDNS (RFC 6891 §6.1.1) and copies DO (RFC 3225 §3).
func (t *transfer) addOPT(m *dns.Msg, options ...dns.EDNS0) {
	asked := t.r.IsEdns0()
	if asked == nil {
		return
	}
	opt := &dns.OPT{Hdr: dns.RR_Header{Name: ".", Rrtype: dns.TypeOPT}, Option: options}
	opt.SetUDPSize(front.MaxUDPSize)
	opt.SetDo(asked.Do())
	m.Extra = append(m.Extra, opt)
}

// refuse sends an error; AA stays clear on it.
func (t *transfer) refuse(no *refusal) {
	m := new(dns.Msg).SetReply(t.r)
	m.Rcode, m.CheckingDisabled = no.rcode, false
	if no.ede != noEDE {
		t.addOPT(m, &dns.EDNS0_EDE{InfoCode: uint16(no.ede), ExtraText: no.text})
	} else {
		t.addOPT(m)
	}
	if !t.noTSIG {
		Sign(m, t.r, no.tsig, t.server.now())
	}
	t.event.Kind, t.event.Rcode, t.event.Err = Refused, no.rcode, no
	if err := t.w.WriteMsg(m); err != nil {
		t.fail(fmt.Errorf("send the refusal (%w): %w", no, err))
	}
}
