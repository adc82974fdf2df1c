package front

// Count is what queries are counted by, in the words of CoreDNS's metrics.
type Count = countKey

// Totals are a front's counters since it was made.
type Totals struct {
	// Missed is how many queries the full server answered, Shed how many came beyond what it can do at a time.
	Missed, Shed uint64
	// Dropped are packets that are no query.
	Dropped uint64
	// Limited are the answers that the rate limit suppressed, Slipped those of them that got a truncated one.
	Limited, Slipped uint64
	// Unsent are the UDP answers that the kernel did not take.
	Unsent uint64
}

// Totals returns the counters.
func (f *Front) Totals() Totals {
	s := f.config.Shared.snapshot()
	return Totals{Missed: s.Missed, Shed: f.upstream.udp.shed.Load() + f.upstream.tcp.shed.Load(), Dropped: s.Dropped,
		Limited: s.Limited, Slipped: s.Slipped, Unsent: f.unsent.Load()}
}

// Flush calls visit with how many queries the front answered since the last Flush, by what they are counted by. It is
// safe for concurrent use.
func (f *Front) Flush(visit func(c Count, n uint64)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := f.config.Shared.snapshot()
	now.since(f.flushed, visit)
	f.flushed = now
}
