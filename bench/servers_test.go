package bench

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// site is what a server is configured for.
type site struct {
	dir, addr, domain, zone string
	// port is the same for all.
	port int
	// workers is how many cores the server may use.
	workers int
	signed  bool
}

// dnsPort is where every server answers, one at a time.
const dnsPort = 5380

// neighbour is a server that etcd-dns is measured beside.
type neighbour struct {
	name, program string
	// config writes the server's files and returns the arguments that start it in the foreground.
	config func(site) ([]string, error)
}

// neighbours are tuned as their manuals say for a server that has nothing else to do; docs/benchmarks.md says why each
// line is there. All of them send the addresses of SRV targets along, as etcd-dns does, if they can at all.
var neighbours = []neighbour{
	{name: "NSD", program: "nsd", config: nsd},
	{name: "Knot", program: "knotd", config: knot},
	{name: "BIND", program: "named", config: bind},
	{name: "PowerDNS", program: "pdns_server", config: powerdns},
	{name: "CoreDNS", program: "coredns", config: coredns},
}

// write fills a template's {words} and writes the file.
func (s site) write(name, text string) (string, error) {
	text = strings.NewReplacer("{dir}", s.dir, "{addr}", s.addr, "{port}", fmt.Sprint(s.port), "{domain}", s.domain, "{zone}", s.zone,
		"{workers}", fmt.Sprint(s.workers), "{several}", map[bool]string{true: "yes", false: "no"}[s.workers > 1]).Replace(text)
	path := filepath.Join(s.dir, name)
	return path, os.WriteFile(path, []byte(text), 0o600)
}

// nsd.conf(5). With minimal-responses the addresses of SRV targets would be left out.
func nsd(s site) ([]string, error) {
	conf, err := s.write("nsd.conf", `server:
  server-count: {workers}
  reuseport: {several}
  ip-address: {addr}@{port}
  username: ""
  chroot: ""
  database: ""
  pidfile: ""
  zonesdir: "{dir}"
  zonelistfile: "{dir}/zone.list"
  xfrdfile: "{dir}/xfrd.state"
  xfrdir: "{dir}"
  tcp-count: 1000
  tcp-query-count: 0
  rrl-ratelimit: 0
  rrl-whitelist-ratelimit: 0
  answer-cookie: yes
  cookie-secret: "000102030405060708090a0b0c0d0e0f"
remote-control:
  control-enable: no
zone:
  name: {domain}
  zonefile: "{zone}"
`)
	return []string{"-d", "-c", conf}, err
}

// knot.conf(5). No module for rate limits; badcookie-slip concerns queries without a server cookie, which are not sent.
func knot(s site) ([]string, error) {
	conf, err := s.write("knot.conf", `server:
    rundir: {dir}
    listen: {addr}@{port}
    udp-workers: {workers}
    tcp-workers: {workers}
    background-workers: 1
    tcp-max-clients: 1000
log:
  - target: stderr
    any: warning
database:
    storage: {dir}
mod-cookies:
  - id: default
    badcookie-slip: 1
template:
  - id: default
    storage: {dir}
    journal-content: none
    zonefile-sync: -1
    global-module: mod-cookies/default
zone:
  - domain: {domain}
    file: {zone}
`)
	return []string{"-c", conf}, err
}

// named.conf(5). no-auth leaves out the NS records, and keeps the addresses that minimal-responses yes would leave out.
func bind(s site) ([]string, error) {
	conf, err := s.write("named.conf", `options {
    directory "{dir}";
    listen-on port {port} { {addr}; };
    listen-on-v6 { none; };
    pid-file none;
    session-keyfile none;
    managed-keys-directory "{dir}";
    recursion no;
    dnssec-validation no;
    minimal-responses no-auth;
    notify no;
    querylog no;
    tcp-clients 1000;
    answer-cookie yes;
    zone-statistics no;
};
controls { };
logging { category default { default_stderr; }; };
zone "{domain}" { type primary; file "{zone}"; };
`)
	return []string{"-f", "-c", conf, "-n", fmt.Sprint(s.workers)}, err
}

// https://doc.powerdns.com/authoritative/performance.html; the caches have their default times. One distributor per
// receiver lets the receiver ask the backend itself.
func powerdns(s site) ([]string, error) {
	if _, err := s.write("bind.conf", `zone "{domain}" { type native; file "{zone}"; };`+"\n"); err != nil {
		return nil, err
	}
	_, err := s.write("pdns.conf", `launch=bind
bind-config={dir}/bind.conf
socket-dir={dir}
local-address={addr}
local-port={port}
receiver-threads={workers}
distributor-threads=1
reuseport={several}
cache-ttl=20
query-cache-ttl=20
negquery-cache-ttl=60
max-tcp-connections=1000
max-tcp-transactions-per-conn=0
security-poll-suffix=
disable-syslog=yes
log-dns-queries=no
loglevel=3
`)
	if err != nil || !s.signed {
		return []string{"--config-dir=" + s.dir, "--daemon=no", "--guardian=no"}, err
	}
	// A zone that comes with its signatures is marked in a database beside the zone file.
	db := filepath.Join(s.dir, "dnssec.sqlite3")
	for _, args := range [][]string{{"create-bind-db", db}, {"set-presigned", s.domain}} {
		args = append([]string{"--config-dir=" + s.dir, "--bind-dnssec-db=" + db}, args...)
		if out, err := exec.Command(program("pdnsutil"), args...).CombinedOutput(); err != nil {
			return nil, fmt.Errorf("pdnsutil %v: %w: %s", args, err, out)
		}
	}
	return []string{"--config-dir=" + s.dir, "--bind-dnssec-db=" + db, "--daemon=no", "--guardian=no"}, nil
}

// An operator's least Corefile; multisocket is CoreDNS's own advice for several cores (plugin/multisocket/README.md).
func coredns(s site) ([]string, error) {
	text := "{domain}:{port} {\n    bind {addr}\n    file {zone}\n    errors\n"
	if s.workers > 1 {
		text += "    multisocket {workers}\n"
	}
	conf, err := s.write("Corefile", text+"}\n")
	return []string{conf}, err
}

// program finds a program, also where only root's PATH leads.
func program(name string) string {
	for _, dir := range []string{"/usr/sbin", "/usr/bin", "/sbin"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
			return filepath.Join(dir, name)
		}
	}
	return name
}

// No template keeps a word that nobody fills in, and every server has something to start with.
func TestNeighbourConfigs(t *testing.T) {
	for _, n := range neighbours {
		if n.name == "" || n.program == "" {
			t.Errorf("%+v lacks a name or a program", n)
		}
		s := site{dir: t.TempDir(), addr: "127.0.95.10", port: dnsPort, domain: "rack1.example.com", zone: "/zone", workers: 2}
		args, err := n.config(s)
		if err != nil || len(args) == 0 {
			t.Errorf("%s: arguments %v, error %v", n.name, args, err)
		}
		files, err := os.ReadDir(s.dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			text, err := os.ReadFile(filepath.Join(s.dir, f.Name()))
			if err != nil {
				t.Fatal(err)
			}
			for _, word := range []string{"{dir}", "{addr}", "{port}", "{domain}", "{zone}", "{workers}", "{several}"} {
				if strings.Contains(string(text), word) {
					t.Errorf("%s: %s still has %s", n.name, f.Name(), word)
				}
			}
		}
	}
}
