package certs

import (
	"bytes"
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/etcd-dns/etcd-dns/internal/durable"
)

const (
	defaultCheckEvery = time.Minute
	firstRetry        = time.Second
)

// Options say whose certificates a Manager keeps.
type Options struct {
	Bundle *Bundle
	// Node is the node's name, one host label.
	Node string
	// PeerHost is the host label of the node's peer URL, if that is another one.
	PeerHost string
	// Dir is where the files are published; it is made, mode 0700. The caller holds the lock on the data directory, so
	// nobody else writes there.
	Dir string
	// Addrs returns all local addresses of now; 127.0.0.1 and ::1 are added. It is called from Run's goroutine.
	Addrs func() []netip.Addr
	// Log defaults to no log.
	Log *zap.Logger
	// Now is the wall clock; nil means time.Now.
	Now func() time.Time
	// Synced says whether a time service keeps the clock right; nil asks the kernel.
	Synced func() bool
	// CheckEvery is the time between two checks with nothing prompting them; 0 means one minute.
	CheckEvery time.Duration
}

// Files are the paths of the published PEM files. They never change; their content does, by rename.
type Files struct {
	CA                    string // all trusted roots
	PeerCert, PeerKey     string // between etcd members, and the admin port
	ClientCert, ClientKey string // etcd's calls to itself
	ServerCert, ServerKey string // towards etcd's clients
}

// Status is the state of one certificate.
type Status struct {
	Slot                string // peer, client or server
	Subject             string // the name it is known by
	SANs                []string
	Issuer              string
	NotBefore, NotAfter time.Time
	NextRenewal         time.Time
	// Err is why the certificate is not what it should be; the published one stays in use. It may have a hint.
	Err error
}

// Manager keeps the certificates of one node issued, valid and published.
type Manager struct {
	opts  Options
	clock clock
	roots *x509.CertPool
	slots []*slot
	files Files
	ready chan struct{}
	kick  chan struct{}

	mu     sync.Mutex
	status []Status
}

// NewManager starts nothing.
func NewManager(o Options) *Manager {
	if o.Log == nil {
		o.Log = zap.NewNop()
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Synced == nil {
		o.Synced = kernelSynced
	}
	if o.CheckEvery <= 0 {
		o.CheckEvery = defaultCheckEvery
	}
	m := &Manager{
		opts:  o,
		clock: clock{now: o.Now, synced: o.Synced, created: o.Bundle.Created(), grace: clockGrace},
		roots: o.Bundle.pool(),
		files: Files{CA: filepath.Join(o.Dir, "ca.crt")},
		ready: make(chan struct{}),
		kick:  make(chan struct{}, 1),
	}
	add := func(purpose string, cert, key *string) {
		*cert, *key = filepath.Join(o.Dir, purpose+".crt"), filepath.Join(o.Dir, purpose+".key")
		m.slots = append(m.slots, &slot{purpose: purpose, certPath: *cert, keyPath: *key, log: o.Log})
		m.status = append(m.status, Status{Slot: purpose})
	}
	add(peerSlot, &m.files.PeerCert, &m.files.PeerKey)
	add(clientSlot, &m.files.ClientCert, &m.files.ClientKey)
	add(serverSlot, &m.files.ServerCert, &m.files.ServerKey)
	return m
}

// Files returns the stable paths of the published files.
func (m *Manager) Files() Files { return m.files }

// Ready is closed once the roots and all three certificates are published and valid.
func (m *Manager) Ready() <-chan struct{} { return m.ready }

// Reconcile prompts a check now: call it when addresses changed or on reload. Calls may be merged; none is lost.
func (m *Manager) Reconcile() {
	select {
	case m.kick <- struct{}{}:
	default:
	}
}

// Status returns the state of every certificate, in the order peer, client, server.
func (m *Manager) Status() []Status {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]Status(nil), m.status...)
}

// Run issues what is missing, publishes it, and renews until ctx ends; then it returns nil. Errors are logged, shown in
// Status and tried again. It must be called once.
func (m *Manager) Run(ctx context.Context) error {
	m.open()
	defer m.close()
	retry := firstRetry
	for {
		pause := m.opts.CheckEvery
		if err := m.reconcile(ctx); err != nil && ctx.Err() == nil {
			pause = min(retry, m.opts.CheckEvery)
			retry *= 2
			m.opts.Log.Error("certificates need attention", zap.Error(err), zap.Duration("retry_in", pause))
		} else {
			retry = firstRetry
		}
		if !m.wait(ctx, pause) {
			return nil
		}
	}
}

func (m *Manager) open() {
	for _, s := range m.slots {
		s.engine = newEngine(s.purpose, m.opts.Log)
	}
	m.clock.started = time.Now()
	m.clock.stepped() // takes the first reading
}

func (m *Manager) close() {
	for _, s := range m.slots {
		s.engine.close()
	}
}

// wait returns true when the next check is due: after the pause, when prompted, or when the clock was set.
func (m *Manager) wait(ctx context.Context, pause time.Duration) bool {
	due := time.NewTimer(pause)
	defer due.Stop()
	step := time.NewTicker(min(stepEvery, m.opts.CheckEvery))
	defer step.Stop()
	for {
		select {
		case <-ctx.Done():
			return false
		case <-due.C:
			return true
		case <-m.kick:
			return true
		case <-step.C:
			if m.clock.stepped() {
				m.opts.Log.Warn("the clock was set; checking certificates", zap.Time("now", m.opts.Now()))
				return true
			}
		}
	}
}

// reconcile brings every published file to its desired state. It is level-triggered: it looks at what is, not at what
// happened. What cannot be written does not keep the rest from being used.
func (m *Manager) reconcile(ctx context.Context) error {
	now := m.opts.Now()
	rootErr := m.publishRoots()
	loadErrs := make([]error, len(m.slots))
	var newest time.Time
	m.each(func(i int, s *slot) { loadErrs[i] = s.load() })
	for _, s := range m.slots {
		if c := s.published.chain; len(c) > 0 && !s.ownIssue && c[0].NotBefore.After(newest) {
			newest = c[0].NotBefore
		}
	}
	if err := m.clock.fault(now, newest); err != nil {
		m.setErrors(err)
		return errors.Join(err, rootErr)
	}
	var addrs []netip.Addr
	if m.opts.Addrs != nil {
		addrs = m.opts.Addrs()
	}
	errs := append(make([]error, len(m.slots)), rootErr)
	m.each(func(i int, s *slot) {
		errs[i] = loadErrs[i]
		want := desiredFor(s.purpose, m.opts.Bundle, m.opts.Node, cmp.Or(m.opts.PeerHost, m.opts.Node), addrs)
		if errs[i] == nil {
			errs[i] = s.settle(ctx, want, m.roots, now)
		}
		m.setStatus(i, want, errs[i])
	})
	if rootErr == nil {
		m.announce(now)
	}
	return errors.Join(errs...)
}

// each works on all slots at once, and returns when all are done: a first boot waits mostly for fsync, and the file
// system makes concurrent ones into one.
func (m *Manager) each(work func(i int, s *slot)) {
	var wg sync.WaitGroup
	for i, s := range m.slots {
		wg.Go(func() { work(i, s) })
	}
	wg.Wait()
}

// announce closes Ready if every slot serves a valid certificate.
func (m *Manager) announce(now time.Time) {
	for _, s := range m.slots {
		c := s.serving.Load()
		if c == nil || now.Before(c.Leaf.NotBefore) || !now.Before(c.Leaf.NotAfter) {
			return
		}
	}
	select {
	case <-m.ready:
	default:
		close(m.ready)
	}
}

// publishRoots makes the directory, clears what a crash left in it, and writes the trust file if it is not right.
func (m *Manager) publishRoots() error {
	if err := os.MkdirAll(m.opts.Dir, 0o700); err != nil {
		return withHint(diskHint, "certificates: %w", err)
	}
	if err := durable.RemoveTemps(m.opts.Dir); err != nil {
		m.opts.Log.Warn("files that a crash left stay", zap.Error(err))
	}
	want := m.opts.Bundle.RootPEM()
	if have, err := os.ReadFile(m.files.CA); err == nil && bytes.Equal(have, want) {
		return nil
	}
	if err := durable.WriteFile(m.files.CA, want, certMode); err != nil {
		return withHint(diskHint, "publish root certificates: %w", err)
	}
	return nil
}

func (m *Manager) setErrors(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range m.status {
		m.status[i].Err = err
	}
}

func (m *Manager) setStatus(i int, want desired, err error) {
	st := Status{Slot: m.slots[i].purpose, Subject: want.subject, Err: err}
	if c := m.slots[i].published.chain; len(c) > 0 {
		st.SANs, st.Issuer = sans(c[0]), c[0].Issuer.CommonName
		st.NotBefore, st.NotAfter, st.NextRenewal = c[0].NotBefore, c[0].NotAfter, renewAt(c[0])
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.status[i] = st
}
