package member

import (
	"fmt"
	"io"
	"os"

	"go.etcd.io/etcd/client/pkg/v3/logutil"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"google.golang.org/grpc/grpclog"
)

// logger writes JSON lines to standard error, where the parent reads them. Where etcd would end the process, the
// reason goes to the parent first.
func (c *child) logger() (*zap.Logger, error) {
	level := zapcore.InfoLevel
	if c.spec.LogLevel != "" {
		var err error
		if level, err = zapcore.ParseLevel(c.spec.LogLevel); err != nil {
			return nil, fmt.Errorf("log level: %w", err)
		}
	}
	core := zapcore.NewCore(zapcore.NewJSONEncoder(logutil.DefaultZapLoggerConfig.EncoderConfig), zapcore.Lock(os.Stderr), level)
	both := zapcore.NewTee(core, &c.streams)
	// grpc logs through a global of its own; etcd's main silences all but its warnings in the same way.
	grpclog.SetLoggerV2(grpclog.NewLoggerV2(io.Discard, os.Stderr, os.Stderr))
	return zap.New(both, zap.AddCaller(), zap.WithFatalHook(fatalHook(c.died))), nil
}

// fatalHook hands the reason to Main instead of calling os.Exit.
type fatalHook chan<- error

// OnWrite implements zapcore.CheckWriteHook. It never returns, as etcd's code after Fatal must not run.
func (h fatalHook) OnWrite(entry *zapcore.CheckedEntry, fields []zapcore.Field) {
	err := fmt.Errorf("%s", entry.Message)
	for _, f := range fields {
		if cause, ok := f.Interface.(error); ok && f.Type == zapcore.ErrorType {
			err = fmt.Errorf("%s: %w", entry.Message, cause)
		}
	}
	select {
	case h <- err:
	default:
	}
	select {}
}
