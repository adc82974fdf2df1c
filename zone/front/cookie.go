package front

import (
	"crypto/subtle"
	"encoding/binary"
	"fmt"
	"net/netip"
	"sync/atomic"

	"github.com/dchest/siphash"
)

const (
	clientCookieLen = 8  // octets, RFC 7873 §4
	serverCookieLen = 16 // octets, RFC 9018 §4
	cookieLen       = clientCookieLen + serverCookieLen
	// maxCookieLen: RFC 7873 §4: other servers' cookies have 8 to 32 octets.
	maxCookieLen = clientCookieLen + 32
	// cookieSecretLen: RFC 9018 §4.4: SipHash-2-4 takes 128 bits.
	cookieSecretLen = 16

	// RFC 9018 §4.3: a server cookie is taken until an hour after its timestamp and five minutes before it, and
	// replaced half an hour after it. All in seconds.
	cookieLife, cookieSkew, cookieFresh = 3600, 300, 1800
)

// cookieReply is the content of a COOKIE option in an answer: the client's cookie and the server's.
type cookieReply [cookieLen]byte

// cookieStatus is what a COOKIE option is worth.
type cookieStatus uint8

const (
	// cookieNone: there was no option or there are no secrets.
	cookieNone cookieStatus = iota
	// cookieMalformed: RFC 7873 §5.2.2: the answer is FORMERR.
	cookieMalformed
	// cookieInvalid: a client cookie alone, or with a server cookie that is not ours or too old.
	cookieInvalid
	// cookieValid: the client has got mail from us at its address.
	cookieValid
)

// Cookies makes and checks DNS cookies (RFC 7873) of the interoperable form (RFC 9018), so that every server of an
// address, or of a rack, takes the others'. It never insists on one (BADCOOKIE). It is safe for concurrent use.
type Cookies struct {
	clock   *Clock
	secrets atomic.Pointer[cookieSecrets]
}

// NewCookies returns cookies without secrets: COOKIE options are ignored until Set.
func NewCookies(clock *Clock) *Cookies { return &Cookies{clock: clock} }

// Set takes the current and the previous secret, 16 octets each; previous may be empty. Without current, COOKIE options
// are ignored. The secrets are copied.
func (c *Cookies) Set(current, previous []byte) error {
	if len(current) == 0 && len(previous) == 0 {
		c.secrets.Store(nil)
		return nil
	}
	if len(current) != cookieSecretLen {
		return fmt.Errorf("cookie secret of %d octets, expected %d", len(current), cookieSecretLen)
	}
	if len(previous) != 0 && len(previous) != cookieSecretLen {
		return fmt.Errorf("previous cookie secret of %d octets, expected %d", len(previous), cookieSecretLen)
	}
	s := &cookieSecrets{current: newSecret(current)}
	if len(previous) != 0 {
		s.previous, s.rolled = newSecret(previous), true
	}
	c.secrets.Store(s)
	return nil
}

// Reply is for servers outside of this package. From the content of a query's first COOKIE option and its sender it
// makes the content for the answer's option; reply is empty when the option is to be ignored. valid clients
// cannot have forged their address and are exempt from rate limits (RFC 7873 §5.2.5). On malformed the answer is FORMERR without the
// option (RFC 7873 §5.2.2). The caller keeps the clock: Clock.Set.
func (c *Cookies) Reply(option []byte, client netip.Addr) (reply []byte, valid, malformed bool) {
	s := c.secrets.Load()
	if s == nil {
		return nil, false, false
	}
	var r cookieReply
	switch s.reply(option, client.Unmap(), c.clock.now(), &r) {
	case cookieMalformed:
		return nil, false, true
	case cookieValid:
		return r[:], true, false
	}
	return r[:], false, false
}

// cookieSecrets are immutable. The previous one counts only when rolled.
type cookieSecrets struct {
	current, previous secret
	rolled            bool
}

type secret struct{ k0, k1 uint64 }

func newSecret(b []byte) secret {
	return secret{binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint64(b[8:])}
}

// reply judges an option's content and, unless it is malformed, writes the answer's to r. now is in unix seconds.
func (s *cookieSecrets) reply(option []byte, client netip.Addr, now uint32, r *cookieReply) cookieStatus {
	// RFC 7873 §5.2.2: a client cookie alone, or with a server cookie of 8 to 32 octets.
	if len(option) != clientCookieLen && (len(option) < clientCookieLen+8 || len(option) > maxCookieLen) {
		return cookieMalformed
	}
	status := cookieInvalid
	if len(option) == cookieLen {
		copy(r[:], option)
		var fresh bool
		if status, fresh = s.check(r, client, now); fresh {
			// RFC 9018 §4.3: a young cookie goes back as it came.
			return status
		}
	}
	// RFC 9018 §4: version 1, three reserved octets of zero, the time, the hash.
	copy(r[:clientCookieLen], option)
	copy(r[clientCookieLen:], "\x01\x00\x00\x00")
	binary.BigEndian.PutUint32(r[12:], now)
	binary.LittleEndian.PutUint64(r[16:], s.current.hash(r, client))
	return status
}

// check judges a client's and a server's cookie; fresh ones need not be replaced.
func (s *cookieSecrets) check(r *cookieReply, client netip.Addr, now uint32) (status cookieStatus, fresh bool) {
	if r[clientCookieLen] != 1 {
		return cookieInvalid, false
	}
	// RFC 9018 §4.3: serial number arithmetic (RFC 1982), the time has 32 bits.
	age := int32(now - binary.BigEndian.Uint32(r[12:]))
	if age > cookieLife || age < -cookieSkew {
		return cookieInvalid, false
	}
	if s.current.made(r, client) {
		return cookieValid, age <= cookieFresh
	}
	// RFC 9018 §5: cookies of the previous secret are taken, and replaced.
	if s.rolled && s.previous.made(r, client) {
		return cookieValid, false
	}
	return cookieInvalid, false
}

// made says whether the hash in r is this secret's, in constant time.
func (k secret) made(r *cookieReply, client netip.Addr) bool {
	var want [8]byte
	binary.LittleEndian.PutUint64(want[:], k.hash(r, client))
	return subtle.ConstantTimeCompare(want[:], r[16:]) == 1
}

// hash is RFC 9018 §4.4: SipHash-2-4 of client cookie, version, reserved, timestamp and the client's address.
func (k secret) hash(r *cookieReply, client netip.Addr) uint64 {
	var in [16 + 16]byte
	copy(in[:], r[:16])
	if client.Is4() {
		ip := client.As4()
		copy(in[16:], ip[:])
		return siphash.Hash(k.k0, k.k1, in[:20])
	}
	ip := client.As16()
	copy(in[16:], ip[:])
	return siphash.Hash(k.k0, k.k1, in[:])
}
