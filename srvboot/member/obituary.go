package member

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// maxLogLine bounds one line of the child's log; longer ones are cut.
const maxLogLine = 64 << 10

// ExitError says why a member process ended although nobody told it to.
type ExitError struct {
	// Reason is what the process said of it; empty when it had no time to.
	Reason string
	// Status is how the kernel says that it ended, such as "exit status 1" or "signal: killed".
	Status string
	// LastLog is the last error in its log, a Go panic included.
	LastLog string

	cause cause
	hint  string
}

// Error puts the best reason first.
func (e *ExitError) Error() string {
	if e.Reason != "" {
		return "the etcd member died: " + e.Reason
	}
	s := "the etcd member died: " + e.Status
	if e.LastLog != "" {
		s += "; its last error was: " + e.LastLog
	}
	return s
}

// Hint says what to do about it; empty when only the reason helps.
func (e *ExitError) Hint() string { return e.hint }

// WrongIdentity reports that the member's IDs, or those it was about to write, are not the ones that its launch
// expects. Its data directory must not be started again.
func (e *ExitError) WrongIdentity() bool { return e.cause == causeIdentity }

// Removed reports that the cluster removed the member.
func (e *ExitError) Removed() bool { return e.cause == causeRemoved }

// Acknowledged is the raft index up to which the leader had the member's acknowledgement, if the member ended since its log has less (raft
// log.go commitTo): entries were there, and are lost. Zero when it ended otherwise.
func (e *ExitError) Acknowledged() (index uint64) {
	_, said, _ := strings.Cut(e.LastLog, "tocommit(")
	if _, err := fmt.Sscanf(said, "%d) is out of range [lastIndex(", &index); err != nil {
		return 0
	}
	return index
}

// obituary is called once the child is dead and its pipes are read.
func (p *Process) obituary(waitErr error) error {
	e := &ExitError{Status: "exit status 0", LastLog: p.lastLog.String()}
	if waitErr != nil {
		e.Status = waitErr.Error()
	}
	var exit *exec.ExitError
	if errors.As(waitErr, &exit) {
		if ws, ok := exit.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
			e.Status = fmt.Sprintf("signal: %v (%d)", ws.Signal(), ws.Signal())
		}
	}
	if p.fatal != nil {
		e.Reason, e.cause, e.hint = p.fatal.Reason, p.fatal.Cause, p.fatal.Hint
	}
	return e
}

// lastWords remembers the line of a log that explains a death best: what the Go runtime says when it aborts, else
// the last error.
type lastWords struct{ abort, err string }

func (w *lastWords) String() string {
	if w.abort != "" {
		return w.abort
	}
	return w.err
}

// raw takes note of a line that is no log entry; the Go runtime writes such.
func (w *lastWords) raw(line string) {
	for _, prefix := range []string{"panic: ", "fatal error: ", "runtime: out of memory", "SIGABRT", "SIGSEGV", "SIGQUIT"} {
		if w.abort == "" && strings.HasPrefix(line, prefix) {
			w.abort = line
		}
	}
}

// relay hands one line of the child's log to our own.
func (p *Process) relay(line []byte) {
	entry, fields, err := parseLog(line)
	if err != nil {
		p.lastLog.raw(string(line))
		p.log.Warn(string(line))
		return
	}
	if entry.Level >= zapcore.ErrorLevel {
		p.lastLog.err = describe(entry, fields)
	}
	if entry.Level > zapcore.ErrorLevel {
		// At these levels our own logger would panic or exit.
		fields = append(fields, zap.Stringer("etcd-level", entry.Level))
		entry.Level = zapcore.ErrorLevel
	}
	if ce := p.log.Check(entry.Level, entry.Message); ce != nil {
		if !entry.Time.IsZero() {
			ce.Time = entry.Time
		}
		ce.Write(fields...)
	}
}

func describe(entry zapcore.Entry, fields []zap.Field) string {
	for _, f := range fields {
		if f.Key == "error" && f.Type == zapcore.StringType {
			return entry.Message + ": " + f.String
		}
	}
	return entry.Message
}

// etcdTime is the time layout of etcd's JSON log (etcd client/pkg/logutil/zap.go).
const etcdTime = "2006-01-02T15:04:05.000000Z0700"

// parseLog reads a line of etcd's JSON log, keeping its fields and their order.
func parseLog(line []byte) (zapcore.Entry, []zap.Field, error) {
	dec := json.NewDecoder(bytes.NewReader(line))
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return zapcore.Entry{}, nil, errors.New("no JSON object")
	}
	var entry zapcore.Entry
	var fields []zap.Field
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			return zapcore.Entry{}, nil, err
		}
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			return zapcore.Entry{}, nil, err
		}
		var text string
		isText := json.Unmarshal(value, &text) == nil
		switch name := key.(string); {
		case name == "level" && isText:
			if entry.Level, err = zapcore.ParseLevel(text); err != nil {
				return zapcore.Entry{}, nil, err
			}
		case name == "msg" && isText:
			entry.Message = text
		case name == "ts" && isText:
			entry.Time, _ = time.Parse(etcdTime, text)
		case isText:
			fields = append(fields, zap.String(name, text))
		default:
			fields = append(fields, zap.Reflect(name, value))
		}
	}
	if entry.Message == "" {
		return zapcore.Entry{}, nil, errors.New("no message")
	}
	return entry, fields, nil
}
