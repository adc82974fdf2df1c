package gossip

import (
	"fmt"
	"log"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
)

// Lines as memberlist writes them, and what becomes of them.
func TestLogBridge(t *testing.T) {
	for _, c := range []struct {
		line  string
		level zapcore.Level
		kind  string
	}{
		{"[DEBUG] memberlist: Stream connection from=127.0.0.1:4", zap.DebugLevel, "Stream connection"},
		{"[INFO] memberlist: Suspect infra1.0a-1 has failed, no acks received", zap.DebugLevel, "Suspect"},
		{"[WARN] memberlist: Was able to connect to infra1.0a-1 over TCP but UDP probes failed, network may be misconfigured", zap.WarnLevel, "Was able to connect to"},
		{"[WARN] memberlist: Refuting a suspect message (from: infra2.0a-1)", zap.InfoLevel, "Refuting a suspect message"},
		{"[WARN] memberlist: Refuting a dead message (from: infra2.0a-1)", zap.WarnLevel, "Refuting a dead message"},
		{"[WARN] memberlist: Got ping for unexpected node 'infra1.0a-1' from=10.0.1.11:2388", zap.DebugLevel, "Got ping for unexpected node"},
		{"[WARN] memberlist: ignoring alive message for 'x.y': its record: a record of 0 octets: want 1 to 512", zap.WarnLevel, "ignoring alive message for"},
		{"[ERR] memberlist: Decrypt packet failed: no installed keys could decrypt the message from=10.0.1.11:2388", zap.WarnLevel, "Decrypt packet failed no installed keys"},
		{"[ERR] memberlist: discarding packet with unacceptable label \"b\": from=10.0.1.11:2388", zap.WarnLevel, "discarding packet with unacceptable label"},
		{"[ERR] memberlist: Push/Pull with infra1.0a-1 failed: EOF", zap.DebugLevel, "Push/Pull with"},
		{"[ERR] memberlist: Failed to send UDP ping: write udp 127.0.0.1:1: closed", zap.DebugLevel, "Failed to send UDP ping write"},
		{"[ERR] memberlist: Conflicting address for infra1.0a-1. Mine: 10.0.1.11:1", zap.WarnLevel, "Conflicting address for"},
		{"Err: Could not set the deadline: no", zap.InfoLevel, "Err Could not set the deadline"},
	} {
		text := c.line[strings.Index(c.line, "memberlist: ")+1:]
		text = strings.TrimPrefix(text, "emberlist: ")
		if got := kindOf(text); got != c.kind {
			t.Errorf("%s: kind %q, want %q", c.line, got, c.kind)
		}
		core, logs := observer.New(zap.DebugLevel)
		std := log.New(newLogBridge(zap.New(core)), "", log.LstdFlags)
		for range 100 {
			std.Print(c.line)
		}
		lines := logs.All()
		want := 1
		if c.level == zap.DebugLevel {
			want = 100
		}
		if len(lines) != want || lines[0].Level != c.level || lines[0].Message != text && !strings.HasSuffix(lines[0].Message, text) {
			t.Errorf("%s: got %d lines, the first %+v; want %d at %s", c.line, len(lines), lines[:min(1, len(lines))], want, c.level)
		}
	}
}

func TestLimiter(t *testing.T) {
	l := newLimiter(time.Minute)
	now := time.Now()
	for _, c := range []struct {
		after time.Duration
		kind  string
		held  int
		ok    bool
	}{
		{0, "a", 0, true}, {0, "a", 0, false}, {59 * time.Second, "a", 0, false}, {59 * time.Second, "b", 0, true},
		{60 * time.Second, "a", 2, true}, {61 * time.Second, "a", 0, false}, {120 * time.Second, "a", 1, true},
	} {
		if held, ok := l.admit(c.kind, now.Add(c.after)); held != c.held || ok != c.ok {
			t.Errorf("%s after %s: got %d, %v; want %d, %v", c.kind, c.after, held, ok, c.held, c.ok)
		}
	}
	for i := range 10 * maxKinds {
		l.admit(fmt.Sprint(i), now)
	}
	if len(l.said) > maxKinds || len(l.held) > maxKinds {
		t.Errorf("%d kinds are remembered, want %d at most", len(l.said), maxKinds)
	}
}
