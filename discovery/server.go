package discovery

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"log"
	"net"
	"net/http"
	"time"

	"go.uber.org/zap"
	"golang.org/x/net/netutil"
	"golang.org/x/sync/errgroup"
)

// Port is where discovery services listen: that of the program which ran discovery.etcd.io.
const Port = 8087

// Serve answers on listeners, which it closes, with TLS if config is not nil, and keeps the registry's account, until ctx
// ends. Members that wait then get an end of their request, ask again, and have lost nothing.
func Serve(ctx context.Context, config *tls.Config, r *Registry, o Options, listeners ...net.Listener) error {
	base, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	server := &http.Server{Handler: NewHandler(r, o), BaseContext: func(net.Listener) context.Context { return base },
		ErrorLog: stdLog(o.Log), ReadHeaderTimeout: answerWithin, ReadTimeout: 2 * answerWithin, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10}
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error { return r.Run(gctx) })
	for _, l := range listeners {
		l = netutil.LimitListener(l, cmp.Or(o.Conns, maxWaiting))
		if config != nil {
			l = tls.NewListener(l, config)
		}
		g.Go(func() error {
			if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
				return err
			}
			return nil
		})
	}
	g.Go(func() error {
		<-gctx.Done()
		cancel() // those who wait, first
		ending, end := context.WithTimeout(context.WithoutCancel(ctx), answerWithin)
		defer end()
		return server.Shutdown(ending)
	})
	return g.Wait()
}

// stdLog is where the HTTP server tells of handshakes that fail: strangers can make any number of them.
func stdLog(l *zap.Logger) *log.Logger {
	if l == nil {
		l = zap.NewNop()
	}
	out, err := zap.NewStdLogAt(l, zap.DebugLevel)
	if err != nil { // only for a level that is none
		panic(err)
	}
	return out
}
