package gossip

import (
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

const (
	// repeatAfter is how often memberlist may say the same kind of thing, but for debugging. It says some things once a
	// packet, and packets may come from anyone.
	repeatAfter = time.Minute
	// maxKinds bounds what a limiter remembers.
	maxKinds = 256
)

// kinds are lines of memberlist whose level it judges otherwise than an operator would. Deaths, joins and goodbyes are
// logged by this package itself.
var kinds = map[string]zapcore.Level{
	"Got ping for unexpected node": zapcore.DebugLevel, // for our last run: others have not missed it yet
	"Push/Pull with":               zapcore.DebugLevel, // with a node that just died
	"Failed fallback TCP ping":     zapcore.DebugLevel, // the same
	"Failed to send":               zapcore.DebugLevel, // the same
	"Failed to forward ack":        zapcore.DebugLevel,
	"Refuting a suspect message":   zapcore.InfoLevel, // this node was slow, or packets were lost
	"Refuting a dead message":      zapcore.WarnLevel, // this node was very slow, or cut off
	"Refuting an alive message":    zapcore.DebugLevel,
}

// logBridge brings the lines of memberlist's logger to zap.
type logBridge struct {
	log    *zap.Logger
	repeat *limiter
}

func newLogBridge(log *zap.Logger) logBridge {
	return logBridge{log.Named("memberlist"), newLimiter(repeatAfter)}
}

// Write takes one line: date and time, a level in brackets, "memberlist:", a text.
func (b logBridge) Write(line []byte) (int, error) {
	level, text := parseLine(string(line))
	kind := kindOf(text)
	for prefix, l := range kinds {
		if strings.HasPrefix(kind, prefix) {
			level = l
		}
	}
	if level == zapcore.DebugLevel {
		b.log.Debug(text)
	} else if held, say := b.repeat.admit(kind, time.Now()); say {
		b.log.Log(level, text, zap.Int("suppressed", held))
	}
	return len(line), nil
}

// limiter lets each kind of thing through once per time.
type limiter struct {
	every time.Duration

	mu sync.Mutex
	// guarded by mu: when a kind came through last, and how often it was held back since.
	said map[string]time.Time
	held map[string]int
}

func newLimiter(every time.Duration) *limiter {
	return &limiter{every: every, said: map[string]time.Time{}, held: map[string]int{}}
}

// admit reports whether a kind may come through now, and how often it was held back since the last time that it did.
func (l *limiter) admit(kind string, now time.Time) (held int, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if last, before := l.said[kind]; before && now.Sub(last) < l.every {
		l.held[kind]++
		return 0, false
	}
	held = l.held[kind]
	if len(l.said) >= maxKinds {
		clear(l.said)
		clear(l.held)
	}
	l.said[kind], l.held[kind] = now, 0
	return held, true
}

func parseLine(line string) (zapcore.Level, string) {
	text := strings.TrimSpace(line)
	level := zapcore.InfoLevel
	if before, rest, ok := strings.Cut(text, "] "); ok {
		if i := strings.LastIndex(before, "["); i >= 0 {
			text = strings.TrimPrefix(rest, "memberlist: ")
			switch before[i+1:] {
			case "DEBUG", "INFO": // its INFO is about suspects and deaths, which this package logs itself
				level = zapcore.DebugLevel
			case "WARN", "ERR", "ERROR":
				level = zapcore.WarnLevel
			}
		}
	}
	return level, text
}

// kindOf returns the words with which a text begins, up to the first that varies: a name, a number, an address or
// something quoted. All of those hold other characters than letters.
func kindOf(text string) string {
	var kind []string
	for _, word := range strings.Fields(text) {
		bare := strings.TrimRight(word, ":,")
		if strings.Trim(bare, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ/-") != "" || len(kind) == 6 {
			break
		}
		kind = append(kind, bare)
	}
	return strings.Join(kind, " ")
}
