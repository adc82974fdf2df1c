package certs

import (
	"maps"
	"strings"
	"testing"
	"time"
)

// TestClockAt1970 boots blank with a dead hardware clock: nothing may be issued until the clock is set.
func TestClockAt1970(t *testing.T) {
	b, _ := newTestBundle(t)
	r := newRig(t, b, "infra0", t.TempDir())
	back := b.Created().Sub(time.Date(1970, 1, 1, 0, 0, 10, 0, time.UTC))
	r.advance(-back)
	err := r.reconcile(t.Context())
	if err == nil || !strings.Contains(err.Error(), "1970") {
		t.Fatalf("err %v, want the clock blamed", err)
	}
	mustHint(t, err)
	if files := contents(t, r.opts.Dir); len(files["peer.crt"])+len(files["server.crt"])+len(files["client.crt"]) > 0 || r.isReady() {
		t.Error("issued in 1970")
	}
	if st := r.Status()[0]; st.Err == nil {
		t.Error("status does not say what it waits for")
	}
	r.advance(back)
	r.must()
	if !r.isReady() {
		t.Error("not ready after the clock was set")
	}
}

// TestClockBehindInit: the machine that ran init, or the hardware clock, may be off by a time zone.
func TestClockBehindInit(t *testing.T) {
	b, _ := newTestBundle(t)
	for behind, ok := range map[time.Duration]bool{time.Minute: true, 14 * time.Hour: true, 24 * time.Hour: true, 25 * time.Hour: false} {
		r := newRig(t, b, "infra0", t.TempDir())
		r.advance(-behind)
		if err := r.reconcile(t.Context()); (err == nil) != ok || r.isReady() != ok {
			t.Errorf("%s behind: ready %v, err %v", behind, r.isReady(), err)
		}
	}
}

// TestClockHourAheadThenBack: what was issued with the clock an hour ahead is valid everywhere after the correction.
func TestClockHourAheadThenBack(t *testing.T) {
	b, _ := newTestBundle(t)
	r := newRig(t, b, "infra0", t.TempDir())
	r.advance(time.Hour)
	before := contents(t, r.must().opts.Dir)
	r.advance(-time.Hour)
	r.must()
	if !maps.Equal(contents(t, r.opts.Dir), before) {
		t.Error("issued anew without need")
	}
	if c := r.leaf(r.Files().PeerCert); r.opts.Now().Before(c.NotBefore) {
		t.Error("the certificate is not valid yet")
	}
}

// TestClockFarAheadThenBack: the certificate lies in the future after the correction, and certmagic would never renew it.
func TestClockFarAheadThenBack(t *testing.T) {
	b, _ := newTestBundle(t)
	r := newRig(t, b, "infra0", t.TempDir())
	r.synced, r.clock.grace = false, time.Hour // this run saw both times, so it need not wait to know which was wrong
	r.advance(400 * day)
	r.must()
	r.advance(-400 * day)
	r.must()
	if c := r.leaf(r.Files().PeerCert); r.opts.Now().Before(c.NotBefore) || r.opts.Now().After(c.NotAfter) {
		t.Errorf("still the certificate of the wrong time: %s to %s", c.NotBefore, c.NotAfter)
	}
}

// TestClockBehindOwnCertificates: a restart finds certificates from the future. An unsynchronised clock gets time to
// catch up; a synchronised one is right, and so is any clock after the grace period, or the node would wait for ever.
func TestClockBehindOwnCertificates(t *testing.T) {
	b, _ := newTestBundle(t)
	for _, tt := range []struct {
		name   string
		synced bool
		grace  time.Duration
		waits  bool
	}{{"unsynchronised", false, time.Hour, true}, {"synchronised", true, time.Hour, false}, {"grace over", false, 0, false}} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			past := newRig(t, b, "infra0", dir)
			past.advance(400 * day)
			before := contents(t, past.must().opts.Dir)
			r := newRig(t, b, "infra0", dir)
			r.synced, r.clock.grace = tt.synced, tt.grace
			err := r.reconcile(t.Context())
			if (err != nil) != tt.waits || r.isReady() == tt.waits || maps.Equal(contents(t, dir), before) != tt.waits {
				t.Fatalf("waits %v (%v), ready %v", err != nil, err, r.isReady())
			}
			if !tt.waits {
				return
			}
			mustHint(t, err)
			r.advance(400 * day) // time service set it
			r.must()
			if !r.isReady() || !maps.Equal(contents(t, dir), before) {
				t.Error("the certificates were right all along, but are not used")
			}
		})
	}
}

// TestPoweredOff: a node that was off for longer than its certificates live issues new ones at boot.
func TestPoweredOff(t *testing.T) {
	b, _ := newTestBundle(t)
	dir := t.TempDir()
	newRig(t, b, "infra0", dir).must()
	r := newRig(t, b, "infra0", dir)
	r.advance(400 * day)
	r.must()
	if c := r.leaf(r.Files().PeerCert); !r.isReady() || r.opts.Now().After(c.NotAfter) {
		t.Error("still expired")
	}
}

// TestEndOfCA: near the end of the CA's life no certificate is renewed over and over, and after it nothing is issued.
func TestEndOfCA(t *testing.T) {
	b, _ := newTestBundle(t)
	r := newRig(t, b, "infra0", t.TempDir())
	end := b.peerCA.cert.NotAfter
	r.advance(end.Sub(b.Created()) - time.Hour)
	before := contents(t, r.must().opts.Dir)
	for range 3 {
		r.advance(15 * time.Minute)
		r.must()
	}
	if !maps.Equal(contents(t, r.opts.Dir), before) {
		t.Error("issued again without gaining any time")
	}
	r.advance(time.Hour)
	err := r.reconcile(t.Context())
	if err == nil || !strings.Contains(err.Error(), "expired") {
		t.Fatalf("err %v, want the expired CA", err)
	}
	mustHint(t, err)
}

func TestRenewAt(t *testing.T) {
	b, _ := newTestBundle(t)
	r := newRig(t, b, "infra0", t.TempDir()).must()
	c := r.leaf(r.Files().PeerCert)
	life := c.NotAfter.Sub(c.NotBefore)
	seen := map[time.Time]bool{}
	for i := range 256 {
		c.SerialNumber.SetInt64(int64(i + 256))
		at := renewAt(c)
		seen[at] = true
		if share := float64(at.Sub(c.NotBefore)) / float64(life); share < 0.6 || share > 0.7 {
			t.Errorf("renewal after %.3f of the lifetime, want 0.6 to 0.7", share)
		}
	}
	if len(seen) != 256 {
		t.Errorf("only %d different times", len(seen))
	}
}
