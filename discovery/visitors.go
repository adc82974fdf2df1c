package discovery

import (
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// Rates are how often one address, or IPv6 /64, may ask: per second, and that many times Burst at once.
type Rates struct {
	// Create is for new tokens and sizes, Other for all else.
	Create, Other float64
	// Burst is in seconds of the rate.
	Burst int
}

// DefaultRates let a rack behind one address boot at once: a member makes some six requests.
var DefaultRates = Rates{Create: 1, Other: 50, Burst: 20}

// generation is how many addresses are known before the older half is forgotten: 100 octets for each.
const generation = 20_000

// visitors keeps account of addresses. Its size is bounded: who has not asked for long is forgotten.
type visitors struct {
	rates Rates

	mu        sync.Mutex
	now, past map[visit]*rate.Limiter // guarded by mu
}

type visit struct {
	from   netip.Addr
	create bool
}

func newVisitors(r Rates) *visitors {
	if r == (Rates{}) {
		r = DefaultRates
	}
	return &visitors{rates: r, now: map[visit]*rate.Limiter{}}
}

// admit says whether a request may be answered.
func (v *visitors) admit(r *http.Request, at time.Time) bool {
	from := clientOf(r)
	if from.Is6() {
		// A host has a /64 for itself (RFC 7421 §1).
		from = netip.PrefixFrom(from, 64).Masked().Addr()
	}
	create := r.URL.Path == "/new" || r.Method == http.MethodPut && strings.HasSuffix(r.URL.Path, "/_config/size")
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.limiterLocked(visit{from, create}).AllowN(at, 1)
}

func (v *visitors) limiterLocked(who visit) *rate.Limiter {
	if l := v.now[who]; l != nil {
		return l
	}
	l := v.past[who]
	if l == nil {
		perSecond := v.rates.Other
		if who.create {
			perSecond = v.rates.Create
		}
		l = rate.NewLimiter(rate.Limit(perSecond), max(1, int(perSecond*float64(v.rates.Burst))))
	}
	if len(v.now) >= generation {
		v.past, v.now = v.now, map[visit]*rate.Limiter{}
	}
	v.now[who] = l
	return l
}
