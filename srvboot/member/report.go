package member

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/etcd-dns/etcd-dns/srvboot"
)

// event names what a report tells.
type event string

const (
	// eventStarting: the spec was understood.
	eventStarting event = "starting"
	// eventListening: StartEtcd returned, so peers and clients are answered.
	eventListening event = "listening"
	// eventReady: the member published itself, so the cluster has a leader.
	eventReady event = "ready"
	// eventState carries State.
	eventState event = "state"
	// eventFatal carries Reason; the process ends.
	eventFatal event = "fatal"
	// eventStopped: all is flushed and closed, as ordered.
	eventStopped event = "stopped"
)

// cause classes a fatal report for whoever has to react to it.
type cause string

const (
	// causeIdentity: the IDs are not the expected ones.
	causeIdentity cause = "identity"
	// causeRemoved: the member was removed from its cluster.
	causeRemoved cause = "removed"
)

// report is one line on descriptor 4.
type report struct {
	Format int                  `json:"format"`
	Event  event                `json:"event"`
	State  *srvboot.MemberState `json:"state,omitempty"`
	Cause  cause                `json:"cause,omitempty"`
	Reason string               `json:"reason,omitempty"`
	Hint   string               `json:"hint,omitempty"`
}

const (
	// maxReport bounds one report; a member list of seven needs about 2 KiB.
	maxReport = 64 << 10
	// reportPatience is how long the child waits for a parent that does not read.
	reportPatience = time.Second
)

// reporter writes reports. It may be used from several goroutines.
type reporter struct {
	mu sync.Mutex
	w  *os.File
}

// send writes r. A parent that is gone or stuck costs the report: the end of descriptor 3 tells of the former.
func (p *reporter) send(r report) {
	r.Format = Format
	b, err := json.Marshal(r)
	if err != nil || len(b) >= maxReport {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	_ = p.w.SetWriteDeadline(time.Now().Add(reportPatience))
	_, _ = p.w.Write(append(b, '\n'))
}

// parseReport decodes one line.
func parseReport(line []byte) (report, error) {
	var r report
	if err := json.Unmarshal(line, &r); err != nil {
		return report{}, fmt.Errorf("decode a report of the member process: %w", err)
	}
	if r.Format != Format {
		return report{}, fmt.Errorf("a report of the member process has format %d, want %d", r.Format, Format)
	}
	switch r.Event {
	case eventStarting, eventListening, eventReady, eventFatal, eventStopped:
	case eventState:
		if r.State == nil {
			return report{}, errors.New("a state report of the member process has no state")
		}
	default:
		return report{}, fmt.Errorf("the member process reports an unknown event %q", r.Event)
	}
	return r, nil
}

// eachLine calls f for each line of r until r ends. A line longer than limit is handed over cut to that length, so
// that a broken writer costs no memory. The slice is valid during the call only.
func eachLine(r io.Reader, limit int, f func(line []byte)) {
	br := bufio.NewReaderSize(r, limit)
	for {
		line, err := br.ReadSlice('\n')
		if n := len(line); n > 0 && line[n-1] == '\n' {
			line = line[:n-1]
		}
		if len(line) > 0 {
			f(line)
		}
		for errors.Is(err, bufio.ErrBufferFull) {
			_, err = br.ReadSlice('\n')
		}
		if err != nil {
			return
		}
	}
}
