package zone

import (
	"encoding/hex"
	"net"
	"net/netip"
	"time"

	"github.com/miekg/dns"

	"github.com/etcd-dns/etcd-dns/zone/front"
)

// guard gives answers that do not come from the front the same cookies and the same rate limit. A handler without a
// front has none.
type guard struct{ shared *front.Shared }

// judge adds the COOKIE option to an answer and applies the rate limit. It returns the answer to send, nil for none.
// owner is front.Result's.
func (g guard) judge(w dns.ResponseWriter, r *dns.Msg, a *Answer, owner uint64) *Answer {
	if g.shared == nil {
		return a
	}
	g.shared.Clock.Set(time.Now())
	client := addrOf(w.RemoteAddr())
	_, udp := w.RemoteAddr().(*net.UDPAddr)
	valid := false
	if asked := cookieOf(r); asked != nil {
		var reply []byte
		var malformed bool
		option, err := hex.DecodeString(asked.Cookie)
		if reply, valid, malformed = g.shared.Cookies.Reply(option, client); malformed || err != nil {
			// RFC 7873 §5.2.2: a COOKIE option of a wrong length is a format error.
			return &Answer{Rcode: dns.RcodeFormatError}
		}
		a.cookie = hex.EncodeToString(reply)
	}
	if !udp || valid {
		return a
	}
	switch g.shared.Limiter.Check(client, owner, front.ClassOf(a.Rcode, len(a.Answer))) {
	case front.Slip:
		return &Answer{truncated: true, cookie: a.cookie}
	case front.Drop:
		return nil
	}
	return a
}

func cookieOf(r *dns.Msg) *dns.EDNS0_COOKIE {
	opt := r.IsEdns0()
	if opt == nil {
		return nil
	}
	for _, o := range opt.Option {
		if c, ok := o.(*dns.EDNS0_COOKIE); ok {
			return c
		}
	}
	return nil
}

func addrOf(a net.Addr) netip.Addr {
	switch a := a.(type) {
	case *net.UDPAddr:
		return a.AddrPort().Addr().Unmap()
	case *net.TCPAddr:
		return a.AddrPort().Addr().Unmap()
	}
	return netip.Addr{}
}
