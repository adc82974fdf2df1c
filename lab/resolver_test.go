//go:build linux

package lab

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"text/template"
	"time"

	"github.com/miekg/dns"
)

// resolverKind is a program that operators run between clients and the rack.
type resolverKind struct {
	// kind is what `delegation --resolver` calls it.
	kind string
	// files are its configuration, templates of a resolver, by file name.
	files map[string]*template.Template
	// argv runs it in the foreground, and check has it judge its configuration, if it can. DIR is its folder.
	argv, check []string
	// minimises says that it tells a server no more of a name than it has to (RFC 9156), shuffles that it writes names in random
	// letter case, both by default or when it is Careful.
	minimises, shuffles bool
	// trusting says that it does not validate what it gets by the printed configuration.
	trusting bool
	// late is how long after birth it may give an older answer where the parent delegates, if that is longer than bornLimit.
	late time.Duration
}

// resolver is a resolverKind on a host of its own. Its exported fields and methods are for the templates.
type resolver struct {
	*host
	*resolverKind
	resolverOptions
	// Addr is where it answers.
	Addr netip.Addr
}

// resolverOptions are what its configuration says, beside where it listens.
type resolverOptions struct {
	// Roots is the only address of its root hints. A forwarder asks Upstream instead; without either it knows the rack alone.
	Roots, Upstream netip.Addr
	// Anchor is the trust anchor, of the root or another zone.
	Anchor *dns.DS
	// Careful switches on what it can do to names and does not do by default.
	Careful bool
	// Printed is what `delegation --resolver` printed for it, or the part of that which goes with a delegation too.
	Printed string
	// Stub says that it comes to the rack by Printed, and not by delegation.
	Stub bool
}

// Dir is the folder of its files.
func (r *resolver) Dir() string { return r.dir }

// Trust writes the trust anchor without its name in a format for tag, algorithm, digest type and digest.
func (r *resolver) Trust(format string) string {
	return fmt.Sprintf(format, r.Anchor.KeyTag, r.Anchor.Algorithm, r.Anchor.DigestType, strings.ToUpper(r.Anchor.Digest))
}

// Elsewhere are the lines for another file, or another place in it, which Printed has as a comment below the line that
// contains the text.
func (r *resolver) Elsewhere(text string) string {
	var out strings.Builder
	found := false
	for line := range strings.Lines(r.Printed) {
		inner, comment := strings.CutPrefix(line, "#     ")
		switch {
		case !found:
			found = strings.Contains(line, text)
		case comment:
			out.WriteString(inner)
		default:
			return out.String()
		}
	}
	return out.String()
}

// startKind starts a resolver on a new host.
func (l *Lab) startKind(k *resolverKind, name string, addr netip.Addr, o resolverOptions) *resolver {
	l.t.Helper()
	r := &resolver{host: l.addHost(name, addr), resolverKind: k, resolverOptions: o, Addr: addr}
	if err := os.Mkdir(filepath.Join(r.dir, "include"), 0o755); err != nil {
		l.t.Fatal(err)
	}
	l.write(r.host, "root.hints", fmt.Sprintf(". 3600 NS a.root.\na.root. 3600 A %s\n", o.Roots))
	l.write(r.host, "include/rack.conf", o.Printed)
	for file, tmpl := range k.files {
		var text bytes.Buffer
		if err := tmpl.Execute(&text, r); err != nil {
			l.t.Fatal(err)
		}
		l.write(r.host, file, text.String())
	}
	if argv := r.args(k.check); o.Stub && len(argv) > 0 {
		if got := l.Run(name, argv[0], argv[1:]...); got.Code != 0 || strings.Contains(strings.ToLower(got.Stdout+got.Stderr), "warning") {
			l.t.Errorf("%s does not take what is printed for it: %v", k.kind, got)
		}
	}
	argv := r.args(k.argv)
	l.daemon(r.host, argv[0], argv[1:]...)
	return r
}

func (r *resolver) args(argv []string) []string {
	out := slices.Clone(argv)
	for i := range out {
		out[i] = strings.ReplaceAll(out[i], "DIR", r.dir)
	}
	return out
}

// waitResolver waits until a resolver has validated a name beside the rack's, and then has it learn the denial that lies over
// the rack's name where no parent delegates it: with that it may deny the rack by itself (RFC 8198).
func (l *Lab) waitResolver(t testing.TB, r *resolver) {
	t.Helper()
	if !r.Roots.IsValid() && !r.Upstream.IsValid() {
		return
	}
	for _, q := range []asked{{Question{"example.com", dns.TypeNS}, "ns.example.com."}, {Question{"nosuch.example.com", dns.TypeA}, "NXDOMAIN"}} {
		if err := poll(30*time.Second, func() error { return l.hears(r, q, true) }); err != nil {
			t.Fatalf("%v\n%s", err, r.said())
		}
	}
}

// asked is a question and the answer that is wanted.
type asked struct {
	Question
	answer string
}

// hears is an error unless a resolver gives the answer, with AD or without (RFC 4035 §3.2.3).
func (l *Lab) hears(r *resolver, q asked, secure bool) error {
	m, err := l.signedAnswer(r.name, q.Name, q.Type)
	if err != nil {
		return fmt.Errorf("%s: %w", q.Name, err)
	}
	m.Answer = slices.DeleteFunc(m.Answer, func(rr dns.RR) bool { return rr.Header().Rrtype == dns.TypeRRSIG })
	if Answer(m) != q.answer || m.AuthenticatedData != secure {
		return errors.New(m.String())
	}
	return nil
}

// signedAnswer asks a server for signatures as well, once, for at most three seconds: a resolver may have to come down from the root.
func (l *Lab) signedAnswer(server, name string, qtype uint16) (*dns.Msg, error) {
	conn, err := l.dial(clientHost, l.Addr(server))
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }()
	q := new(dns.Msg).SetQuestion(dns.Fqdn(name), qtype)
	q.SetEdns0(1232, true)
	if err := errors.Join(conn.SetDeadline(time.Now().Add(3*queryLimit)), conn.WriteMsg(q)); err != nil {
		return nil, err
	}
	return conn.ReadMsg()
}

// said is the end of what a resolver printed.
func (r *resolver) said() string {
	text, err := os.ReadFile(filepath.Join(r.dir, r.argv[0]+".out"))
	if more, e := os.ReadFile(filepath.Join(r.dir, "unbound.log")); e == nil {
		text = append(text, more...)
	} else if !errors.Is(e, os.ErrNotExist) {
		err = cmp.Or(err, e)
	}
	if err != nil {
		return err.Error()
	}
	return tail(string(text), 40)
}
