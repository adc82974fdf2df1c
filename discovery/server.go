package discovery

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"time"

	"golang.org/x/sync/errgroup"
)

// Serve answers on a listener, which it closes, with TLS if config is not nil, and keeps the registry's account, until ctx
// ends. Members that wait then get an end of their request, ask again, and have lost nothing.
func Serve(ctx context.Context, l net.Listener, config *tls.Config, r *Registry, o Options) error {
	base, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	if config != nil {
		l = tls.NewListener(l, config)
	}
	server := &http.Server{Handler: NewHandler(r, o), BaseContext: func(net.Listener) context.Context { return base },
		ReadHeaderTimeout: answerWithin, ReadTimeout: 2 * answerWithin, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10}
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error { return r.Run(gctx) })
	g.Go(func() error {
		if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	})
	g.Go(func() error {
		<-gctx.Done()
		cancel() // those who wait, first
		ending, end := context.WithTimeout(context.WithoutCancel(ctx), answerWithin)
		defer end()
		return server.Shutdown(ending)
	})
	return g.Wait()
}
