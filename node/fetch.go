package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"syscall"

	"github.com/miekg/dns"
)

// Fetch asks the node that runs on this configuration for its status.
func Fetch(ctx context.Context, o *Options) (s Status, err error) {
	return s, askOwnNode(ctx, o, http.MethodGet, "/v1/status", &s)
}

// askOwnNode sends a request to the socket of the node that runs on this configuration, and decodes its answer.
func askOwnNode(ctx context.Context, o *Options, method, path string, answer any) error {
	return fetch(ctx, o, method, path, func(body io.Reader) error {
		if err := json.NewDecoder(body).Decode(answer); err != nil {
			return fmt.Errorf("decode the node's answer: %w", err)
		}
		return nil
	})
}

// ZoneFile is a zone as the running node serves it.
type ZoneFile struct {
	// Text is the zone in master format (RFC 1035 §5), with comments for what is not ready yet.
	Text string `json:"-"`
	Zone string `json:"zone"`
	// Serial is 0 while the zone has no SOA.
	Serial uint32 `json:"serial"`
	// Records are those of Text, one a line.
	Records []dns.RR `json:"-"`
	// NotReady are the names that are answered with SERVFAIL, each with the reason.
	NotReady []string `json:"not_ready"`
}

// MarshalJSON writes the records in master format.
func (z ZoneFile) MarshalJSON() ([]byte, error) {
	type plain ZoneFile
	text := []string{}
	for _, rr := range z.Records {
		text = append(text, rr.String())
	}
	return json.Marshal(struct {
		plain
		Records []string `json:"records"`
	}{plain(z), text})
}

// FetchZone asks the node that runs on this configuration for one of its zones, by default the domain.
func FetchZone(ctx context.Context, o *Options, name string) (z ZoneFile, err error) {
	if name == "" {
		name = o.Domain
	}
	z = ZoneFile{Zone: dns.CanonicalName(name), NotReady: []string{}}
	err = fetch(ctx, o, http.MethodGet, "/v1/zone?name="+url.QueryEscape(z.Zone), func(body io.Reader) error {
		text, err := io.ReadAll(body)
		if err != nil {
			return fmt.Errorf("read the zone: %w", err)
		}
		return z.parse(string(text))
	})
	return z, err
}

// notReady begins the comments of zone.Snapshot.WriteTo.
const notReady = "; not ready: "

func (z *ZoneFile) parse(text string) error {
	z.Text = text
	for line := range strings.Lines(text) {
		if rest, ok := strings.CutPrefix(line, notReady); ok {
			z.NotReady = append(z.NotReady, strings.Join(strings.Fields(rest), " "))
		}
	}
	p := dns.NewZoneParser(strings.NewReader(text), "", "")
	for rr, ok := p.Next(); ok; rr, ok = p.Next() {
		if soa, ok := rr.(*dns.SOA); ok {
			z.Serial = soa.Serial
		}
		z.Records = append(z.Records, rr)
	}
	if err := p.Err(); err != nil {
		return fmt.Errorf("parse the zone: %w", err)
	}
	return nil
}

// fetch asks the admin socket for a path and hands the body to read.
func fetch(ctx context.Context, o *Options, method, path string, read func(io.Reader) error) error {
	client := &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return dialSocket(ctx, o.Socket()) },
	}}
	defer client.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, method, "http://node"+path, nil)
	if err != nil {
		return fmt.Errorf("ask the node: %w", err)
	}
	resp, err := client.Do(req)
	switch {
	case errors.Is(err, os.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return &usageError{what: "no node runs on " + o.Data, cause: err,
			hint: "etcd-dns run --corefile " + o.Corefile + ", or systemctl status etcd-dns"}
	case errors.Is(err, os.ErrPermission):
		return &usageError{what: "no permission to ask the node at " + o.Socket(), cause: err, hint: "run it as root or as the node's user"}
	case err != nil:
		return fmt.Errorf("ask the node: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusConflict { // the node refuses, and says why
		var no refusal
		if err := json.NewDecoder(resp.Body).Decode(&no); err != nil {
			return fmt.Errorf("decode the node's refusal: %w", err)
		}
		return &usageError{what: no.Error, hint: no.Hint}
	}
	if resp.StatusCode != http.StatusOK {
		why, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<10)) // what arrived of it is enough
		return &usageError{what: "the node says: " + strings.TrimSpace(string(why)), hint: "etcd-dns status; the node may run another version"}
	}
	return read(resp.Body)
}
