package member

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"golang.org/x/sys/unix"
)

const (
	// maxMetrics bounds one scrape; etcd exports about 200 KiB.
	maxMetrics = 16 << 20
	// metricsPatience bounds the two sides of a scrape.
	metricsPatience = 5 * time.Second
)

// serveMetrics serves the default registry, in which etcd keeps its metrics, on the inherited socket.
func serveMetrics() (stop func(), err error) {
	f, err := inherited(fdMetrics, unix.S_IFSOCK)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	l, err := net.FileListener(f)
	if err != nil {
		return nil, fmt.Errorf("listen for metrics: %w", err)
	}
	srv := &http.Server{Handler: promhttp.HandlerFor(prometheus.DefaultGatherer, promhttp.HandlerOpts{}), ReadTimeout: metricsPatience}
	go func() { _ = srv.Serve(sameUserListener{l}) }() // ends with srv
	return func() { _ = srv.Close() }, nil
}

// sameUserListener turns away processes of other users.
type sameUserListener struct{ net.Listener }

func (l sameUserListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if u, ok := c.(*net.UnixConn); ok && sameUser(u) == nil {
			return c, nil
		}
		c.Close()
	}
}

// errNotRunning says that there is nobody to ask.
var errNotRunning = errors.New("no etcd member runs on this node")

// Metrics scrapes the process: etcd's metrics, those of its gRPC server, and go_* and process_* of the child.
func (p *Process) Metrics(ctx context.Context) ([]*dto.MetricFamily, error) {
	if p.ended() {
		return nil, errNotRunning
	}
	transport := &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialAbstract(ctx, p.metricsSocket)
		},
		DisableKeepAlives: true,
	}
	client := &http.Client{Transport: transport, Timeout: metricsPatience}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://member/metrics", nil)
	if err != nil {
		return nil, fmt.Errorf("scrape the member: %w", err)
	}
	req.Header.Set("Accept", string(expfmt.NewFormat(expfmt.TypeProtoDelim)))
	resp, err := client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("scrape the member: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("scrape the member: it answers %s", resp.Status)
	}
	dec := expfmt.NewDecoder(io.LimitReader(resp.Body, maxMetrics), expfmt.ResponseFormat(resp.Header))
	var out []*dto.MetricFamily
	for {
		mf := &dto.MetricFamily{}
		if err := dec.Decode(mf); errors.Is(err, io.EOF) {
			return out, nil
		} else if err != nil {
			return nil, fmt.Errorf("decode the member's metrics: %w", err)
		}
		out = append(out, mf)
	}
}
