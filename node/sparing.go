package node

import (
	"sync"
	"time"
)

// sparing lets some lines a minute into the log and counts the others, so that strangers who can cause a line for each
// packet cannot fill the disk. It is safe for concurrent use.
type sparing struct {
	// most is how many lines a minute; now is time.Now unless set. They are set before use, then read-only.
	most int
	now  func() time.Time

	mu sync.Mutex
	// since is when the minute began, lines what it had, left what was left out since the last line; guarded by mu.
	since       time.Time
	lines, left int
}

// next says whether the next line goes into the log, and how many before it did not.
func (s *sparing) next() (left int, ok bool) {
	now := time.Now()
	if s.now != nil {
		now = s.now()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if age := now.Sub(s.since); age < 0 || age >= time.Minute {
		s.since, s.lines = now, 0
	}
	if s.lines >= s.most {
		s.left++
		return 0, false
	}
	s.lines++
	left, s.left = s.left, 0
	return left, true
}
