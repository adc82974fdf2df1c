package node

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/etcd-dns/etcd-dns/zone/sign"
)

// DNSSECStatus is what `dnssec` prints.
type DNSSECStatus struct {
	Format int    `json:"format"`
	Node   string `json:"node"`
	Domain string `json:"domain"`
	// Mode is on, off or going-off; a zone that is going off is still signed.
	Mode sign.Mode `json:"mode"`
	// Known is false while a node without a memory of its own waits for the others.
	Known bool `json:"known"`
	// Announced says that the parent may have the DS: CDS and CDNSKEY are published.
	Announced bool `json:"announced"`
	// Parent is what the parent's servers have: secure, none, other or unknown.
	Parent string        `json:"parent"`
	Keys   []DNSSECKey   `json:"keys"`
	Epoch  *DNSSECEpoch  `json:"epoch,omitempty"`
	DS     []string      `json:"ds"`
	State  DNSSECVersion `json:"state"`
	// Waiting is what the next step waits for; empty when there is none.
	Waiting  string   `json:"waiting,omitempty"`
	Problems []string `json:"problems"`
}

// DNSSECVersion tells one state from another: equal on all nodes that agree.
type DNSSECVersion struct {
	Commands uint64 `json:"commands"`
	Steps    uint64 `json:"steps"`
}

// DNSSECKey is one key of the DNSKEY set.
type DNSSECKey struct {
	Number    uint32     `json:"number"`
	Tag       uint16     `json:"tag"`
	Algorithm uint8      `json:"algorithm"`
	Phase     sign.Phase `json:"phase"`
	Since     time.Time  `json:"since"`
}

// DNSSECEpoch is the validity of all signatures.
type DNSSECEpoch struct {
	Number     uint32    `json:"number"`
	Inception  time.Time `json:"inception"`
	Expiration time.Time `json:"expiration"`
	// ClockPlausible says that this node's clock may move the epoch.
	ClockPlausible bool `json:"clock_plausible"`
}

// algorithm is ECDSAP256SHA256 (RFC 6605).
const algorithm = 13

// expiryAlarm is the rest of the validity at which something must be wrong: an epoch ends with nine days left.
const expiryAlarm = 8 * 24 * time.Hour

// status collects what this node knows.
func (d *dnssec) status() DNSSECStatus {
	d.mu.Lock()
	defer d.mu.Unlock()
	s, c := d.state, d.clockLocked()
	out := DNSSECStatus{Format: sign.Format, Node: d.node, Domain: d.domain, Mode: s.Mode, Known: d.known, Announced: s.Announced, Parent: d.parentLocked(),
		Keys: []DNSSECKey{}, DS: []string{}, State: DNSSECVersion{Commands: s.Commands, Steps: s.Steps}, Problems: []string{}}
	if !d.known {
		out.Waiting = "a node that remembers whether the zone is signed, or an answer from every node"
	}
	for _, from := range slices.Sorted(maps.Keys(d.faults)) {
		if text := d.faults[from]; text != "" {
			out.Problems = append(out.Problems, text)
		}
	}
	if !s.Signs() {
		return out
	}
	for _, k := range s.Keys {
		out.Keys = append(out.Keys, DNSSECKey{Number: k.Number, Tag: k.Tag, Algorithm: algorithm, Phase: k.Phase, Since: k.Since})
	}
	ds, err := dsOf(s, d.ring, d.domain)
	if err != nil {
		out.Problems = append(out.Problems, err.Error())
	}
	for _, rr := range ds {
		out.DS = append(out.DS, rr.String())
	}
	out.Epoch = &DNSSECEpoch{Number: s.Epoch, Inception: sign.Inception(s.Epoch), Expiration: sign.Expiration(s.Epoch), ClockPlausible: c.Plausible}
	out.Waiting = d.why
	out.Problems = append(out.Problems, d.problemsLocked(c)...)
	return out
}

// parentLocked puts the parent's view into a word.
func (d *dnssec) parentLocked() string {
	active, ok := d.state.ActiveKey()
	switch {
	case !d.state.Signs() || d.facts.ParentErr != "":
		return "unknown"
	case ok && !d.facts.DS[active.Tag].IsZero():
		return "secure"
	case !d.facts.NoDS.IsZero():
		return "none"
	case d.facts.ParentHasDS:
		return "other"
	}
	return "unknown"
}

func (d *dnssec) problemsLocked(c sign.Clock) (out []string) {
	if left := sign.Expiration(d.state.Epoch).Sub(c.Now); left < expiryAlarm {
		out = append(out, fmt.Sprintf("the signatures end in %s and no node's clock is believed: set the clocks", left.Round(time.Hour)))
	}
	if d.facts.Foreign {
		out = append(out, "the parent has a DS record that no key of this zone fits; remove it there")
	}
	return out
}

// dnssecHandlers serves this machine's operator.
func (a *admin) dnssecHandlers(mux *http.ServeMux) {
	mux.HandleFunc("GET /v1/dnssec", func(w http.ResponseWriter, _ *http.Request) { reply(w, a.dnssec.status()) })
	mux.HandleFunc("POST /v1/dnssec/{command}", func(w http.ResponseWriter, r *http.Request) {
		err := a.dnssec.command(r.PathValue("command"))
		if err == nil {
			reply(w, a.dnssec.status())
			return
		}
		hint := ""
		if h, ok := err.(interface{ Hint() string }); ok { //nolint:errorlint // the outermost hint is meant
			hint = h.Hint()
		}
		refuseWith(w, err.Error(), hint)
	})
}

// FetchDNSSEC asks the node that runs on this configuration how it signs.
func FetchDNSSEC(ctx context.Context, o *Options) (s DNSSECStatus, err error) {
	return s, askOwnNode(ctx, o, http.MethodGet, "/v1/dnssec", &s)
}

// CommandDNSSEC gives the node a command: on, rollover, rollover-finish, off or off-now. The other nodes follow within
// seconds.
func CommandDNSSEC(ctx context.Context, o *Options, command string) (s DNSSECStatus, err error) {
	return s, askOwnNode(ctx, o, http.MethodPost, "/v1/dnssec/"+command, &s)
}
