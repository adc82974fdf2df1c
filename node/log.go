package node

import (
	"log"
	"os"
	"strings"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// NewLogger makes the one log of a node: console lines for a person when stderr is a terminal, JSON lines otherwise.
// etcd and certmagic speak zap themselves; RedirectStandardLog brings CoreDNS in.
func NewLogger(level zapcore.Level, terminal bool) *zap.Logger {
	cfg := zap.NewProductionEncoderConfig()
	cfg.TimeKey, cfg.EncodeTime = "ts", zapcore.RFC3339NanoTimeEncoder
	enc := zapcore.NewJSONEncoder(cfg)
	if terminal {
		cfg.EncodeTime = zapcore.TimeEncoderOfLayout("15:04:05.000")
		cfg.EncodeLevel = zapcore.CapitalLevelEncoder
		enc = zapcore.NewConsoleEncoder(cfg)
	}
	return zap.New(zapcore.NewCore(enc, zapcore.Lock(os.Stderr), level))
}

// redirectStandardLog sends what CoreDNS and caddy write through package log to lg, with their level, until restore
// is called.
func redirectStandardLog(lg *zap.Logger) (restore func()) {
	flags, prefix, out := log.Flags(), log.Prefix(), log.Writer()
	log.SetFlags(0)
	log.SetPrefix("")
	log.SetOutput(standardLog{lg.Named("coredns")})
	return func() {
		log.SetFlags(flags)
		log.SetPrefix(prefix)
		log.SetOutput(out)
	}
}

// standardLog reads the level that CoreDNS puts in front of a line (plugin/pkg/log).
type standardLog struct{ lg *zap.Logger }

func (s standardLog) Write(line []byte) (int, error) {
	text := strings.TrimRight(string(line), "\n")
	level, prefixes := zapcore.InfoLevel, map[string]zapcore.Level{
		"[DEBUG] ": zapcore.DebugLevel, "[INFO] ": zapcore.InfoLevel, "[WARNING] ": zapcore.WarnLevel,
		"[ERROR] ": zapcore.ErrorLevel, "[FATAL] ": zapcore.ErrorLevel, "[PANIC] ": zapcore.ErrorLevel,
	}
	for prefix, l := range prefixes {
		if rest, ok := strings.CutPrefix(text, prefix); ok {
			level, text = l, rest
			break
		}
	}
	s.lg.Log(level, text)
	return len(line), nil
}
