package bench

import (
	"bufio"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/miekg/dns"
)

// kind is a case of the benchmark: what is asked, and how.
type kind struct {
	name string
	// data writes the queries of one run and returns its file.
	data func(dir string, c content) (string, error)
	// args are dnsperf's.
	args []string
	// rcode is that of every answer.
	rcode string
	// cookie adds the option COOKIE.
	cookie bool
}

// kinds are the rows of the table. 16 connections carry 100 queries at once, so TCP servers that answer in order are
// not kept from it.
var kinds = []kind{
	{name: "SRV, one name", data: hotQueries, rcode: "NOERROR"},
	{name: "mixed names", data: mixedQueries, rcode: "NOERROR"},
	{name: "NXDOMAIN", data: randomQueries, rcode: "NXDOMAIN"},
	{name: "EDNS with DO", data: hotQueries, args: []string{"-e", "-D"}, rcode: "NOERROR"},
	{name: "COOKIE with DO", data: hotQueries, args: []string{"-e", "-D"}, rcode: "NOERROR", cookie: true},
	{name: "TCP", data: hotQueries, args: []string{"-m", "tcp", "-c", "16"}, rcode: "NOERROR"},
	{name: "1,000 ports", data: hotQueries, args: []string{"-c", "1000"}, rcode: "NOERROR"},
}

// hotName is what booting members and their clients ask first.
func hotName(c content) string { return "_etcd-client-ssl._tcp." + c.domain }

func hotQueries(dir string, c content) (string, error) {
	path := filepath.Join(dir, "hot")
	return path, os.WriteFile(path, []byte(hotName(c)+" SRV\n"), 0o600)
}

// mixedQueries has every question as often as its weight says, in one order for all servers.
func mixedQueries(dir string, c content) (string, error) {
	var lines []string
	for _, q := range c.questions {
		for range q.weight {
			lines = append(lines, q.name+" "+dns.TypeToString[q.qtype])
		}
	}
	const repeat = 20 // so that no server meets the same order soon again
	random := rand.New(rand.NewPCG(1, 2))
	return writeLines(filepath.Join(dir, "mixed"), repeat*len(lines), func(i int) string {
		if i%len(lines) == 0 {
			random.Shuffle(len(lines), func(i, j int) { lines[i], lines[j] = lines[j], lines[i] })
		}
		return lines[i%len(lines)]
	})
}

// randomQueries are new names in each run, so that a server that remembers answers has no use of it.
func randomQueries(dir string, c content) (string, error) {
	const names = 400_000 // more than a slow server is asked in two seconds
	return writeLines(filepath.Join(dir, "random"), names, func(int) string {
		return fmt.Sprintf("x%016x.%s A", rand.Uint64(), c.domain)
	})
}

func writeLines(path string, n int, line func(i int) string) (string, error) {
	f, err := os.Create(path)
	if err != nil {
		return "", err
	}
	w := bufio.NewWriter(f)
	for i := range n {
		fmt.Fprintln(w, line(i))
	}
	if err := w.Flush(); err != nil {
		return "", err
	}
	return path, f.Close()
}

// clientCookie is the client's part of the option, eight octets (RFC 7873 §4).
const clientCookie = "0001020304050607"

// cookieOf gets a server cookie as every client does that asks twice; it is empty if the server gives none. Without
// it some servers answer BADCOOKIE, as RFC 7873 §5.2.3 allows.
func cookieOf(addr string, c content) (string, error) {
	cookie := clientCookie
	for range 2 {
		m := query(question{hotName(c), dns.TypeSRV, 0}, true)
		m.IsEdns0().Option = append(m.IsEdns0().Option, &dns.EDNS0_COOKIE{Code: dns.EDNS0COOKIE, Cookie: cookie})
		in, err := ask(addr, "udp", m)
		if err != nil {
			return "", err
		}
		o := in.IsEdns0()
		if o == nil || !o.Do() {
			return "", fmt.Errorf("the answer to EDNS with DO has OPT record %v, want one with DO (RFC 6891 §6.1.1, RFC 3225 §3)", o)
		}
		given := ""
		for _, opt := range o.Option {
			if k, ok := opt.(*dns.EDNS0_COOKIE); ok {
				given = k.Cookie
			}
		}
		if given == "" || cookie != clientCookie {
			if in.Rcode != dns.RcodeSuccess {
				return "", fmt.Errorf("the answer to cookie %s is %s", cookie, dns.RcodeToString[in.Rcode])
			}
			if given == "" {
				return "", nil
			}
		}
		if raw, err := hex.DecodeString(given); err != nil || len(raw) <= len(clientCookie)/2 {
			return "", fmt.Errorf("the answer's cookie is %q, want the client's and the server's", given)
		}
		cookie = given
	}
	return cookie, nil
}

// warmUp is in seconds. leastTicks keep the error of counted time within 5 %.
const (
	warmUp     = 0.3
	leastTicks = 20
)

// figure is what one server did in one case of one round.
type figure struct {
	result
	// CPU is the server's processor time for an answered query, the kernel's part included.
	CPU time.Duration
}

// perform runs a case against the server of a turn: a warm-up and the measured run.
func (t *turn) perform(k kind, c content, at cores, dir string, run time.Duration) (figure, error) {
	args := append([]string{"-s", t.addr, "-p", fmt.Sprint(dnsPort), "-t", "2", "-W"}, k.args...)
	if k.cookie {
		cookie, err := cookieOf(t.addr, c)
		if err != nil {
			return figure{}, err
		}
		if cookie == "" {
			cookie = clientCookie
		}
		args = append(args, "-E", fmt.Sprintf("%d:%s", dns.EDNS0COOKIE, cookie))
	}
	var f figure
	for _, seconds := range []float64{warmUp, run.Seconds()} {
		path, err := k.data(dir, c)
		if err != nil {
			return f, err
		}
		before, err := t.used()
		if err != nil {
			return f, err
		}
		load := append(args, "-d", path, "-l", fmt.Sprint(seconds))
		out, err := pinned(exec.Command(program("dnsperf"), load...), at.load).CombinedOutput()
		if err != nil {
			return f, fmt.Errorf("dnsperf %v: %w\n%s", load, err, out)
		}
		after, err := t.used()
		if err != nil {
			return f, err
		}
		if f.result, err = parsePerf(string(out)); err != nil {
			return f, err
		}
		if f.CPU = (after - before) / time.Duration(f.Completed); after-before < leastTicks*userTick && seconds != warmUp {
			return f, fmt.Errorf("the server used only %v for %d answers, want at least %v to tell", after-before, f.Completed, leastTicks*userTick)
		}
	}
	return f, f.judge(k.rcode)
}
