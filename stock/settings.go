package stock

import (
	"cmp"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/etcd/pkg/v3/flags"
	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/storage/wal"
	"sigs.k8s.io/yaml"
)

// settings are what a start of etcd is about, from wherever etcd takes them.
type settings struct {
	// args are the command line without what is ours.
	args []string
	// file is the configuration file, or empty. With one etcd looks at no flag or variable.
	file string
	// values are the settings by their flags' names; given are those that somebody gave.
	values map[string]string
	given  map[string]bool
	// noChecks leaves the checks out.
	noChecks bool
	// shadowed are variables of flags that were given, too: etcd ends on those (flags.SetFlagsFromEnv).
	shadowed []string
	// unread is where a discovery URL is given beside a file, which etcd then does not look at; empty if nowhere.
	unread string
}

// ours are flags that etcd does not know any longer, or never did, with their defaults.
var ours = map[string]string{"discovery": "", "discovery-proxy": "", "proxy": "off", "discovery-fallback": "exit"}

// ignored are etcd's without a meaning for a check, beside those of embed.Config.AddFlags (etcdmain/config.go).
var ignored = []string{"cluster-active-size", "cluster-remove-delay", "cluster-sync-interval", "config", "force", "max-result-buffer",
	"max-retry-attempts", "peer-heartbeat-interval", "peer-election-timeout", "retry-interval", "snapshot", "v", "vv"}

// read reads etcd's arguments, without the program's name. ok is false when etcd has to say what it makes of them: of help, of
// what is no flag, and of values that are none. It fails then; nothing that it would start with may get there.
func read(args []string, env func(string) (string, bool)) (s *settings, ok bool, err error) {
	s = &settings{values: map[string]string{}, given: map[string]bool{}}
	fs := flag.NewFlagSet("etcd", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	embed.NewConfig().AddFlags(fs)
	version := fs.Bool("version", false, "")
	fs.StringVar(&s.file, "config-file", "", "")
	fs.String("initial-cluster-state", embed.ClusterStateFlagNew, "")
	fs.String("v2-deprecation", "", "")
	for _, f := range ignored {
		fs.Var(&flags.IgnoredFlag{Name: f}, f, "") // as etcd reads them: without a value
	}
	for f, value := range ours {
		fs.String(f, value, "")
	}
	fs.BoolVar(&s.noChecks, "no-checks", false, "")
	readable := fs.Parse(args) == nil
	if !readable || fs.NArg() > 0 || *version {
		return nil, false, nil
	}
	fs.Visit(func(f *flag.Flag) {
		s.given[f.Name] = true
		_, mine := ours[f.Name]
		if _, none := f.Value.(*flags.IgnoredFlag); !mine && !none && f.Name != "no-checks" {
			s.args = append(s.args, "--"+f.Name+"="+f.Value.String())
		}
	})
	if s.file == "" {
		s.file, _ = env("ETCD_CONFIG_FILE")
	}
	if s.file != "" {
		if v, _ := env(variable("discovery")); v != "" {
			s.unread = variable("discovery")
		}
		if fs.Lookup("discovery").Value.String() != "" {
			s.unread = "--discovery"
		}
		fs.VisitAll(func(f *flag.Flag) { s.values[f.Name] = f.DefValue })
		return s, true, s.readFile()
	}
	fs.VisitAll(func(f *flag.Flag) {
		v, set := env(variable(f.Name))
		if _, mine := ours[f.Name]; set && s.given[f.Name] && !mine {
			s.shadowed = append(s.shadowed, variable(f.Name))
		}
		if set && v != "" && !s.given[f.Name] {
			s.given[f.Name] = true
			readable = fs.Set(f.Name, v) == nil && readable
		}
		s.values[f.Name] = f.Value.String()
	})
	if !readable {
		return nil, false, nil
	}
	return s, true, nil
}

// readFile takes the settings from the configuration file, whose keys are the flags' names (etcd.conf.yml.sample), in the
// place of all that the command line says: what is not there has etcd's default.
func (s *settings) readFile() error {
	values, err := readYAML(s.file)
	if err != nil {
		return err
	}
	s.given = map[string]bool{}
	s.take("", values)
	for section, prefix := range map[string]string{"client-transport-security": "", "peer-transport-security": "peer-"} {
		m, _ := values[section].(map[string]any)
		s.take(prefix, m)
	}
	s.takeDiscovery(values["discovery-config"])
	return nil
}

// takeDiscovery takes what is about protocol 3, which in a file has a section of another form (embed.Config.DiscoveryCfg), in the
// place of keys that are named as the flags, at which etcd does not look.
func (s *settings) takeDiscovery(section any) {
	c := embed.NewConfig().DiscoveryCfg
	if text, err := yaml.Marshal(section); err != nil || section == nil || yaml.Unmarshal(text, &c) != nil || c.Secure == nil || c.Auth == nil {
		c = embed.NewConfig().DiscoveryCfg // etcd says what is wrong with it
	}
	for flag, v := range map[string]string{
		"discovery-token": c.Token, "discovery-endpoints": strings.Join(c.Endpoints, ","),
		"discovery-cert": c.Secure.Cert, "discovery-key": c.Secure.Key, "discovery-cacert": c.Secure.Cacert,
		"discovery-insecure-transport": strconv.FormatBool(c.Secure.InsecureTransport), "discovery-insecure-skip-tls-verify": strconv.FormatBool(c.Secure.InsecureSkipVerify),
		"discovery-user": c.Auth.Username, "discovery-password": c.Auth.Password,
	} {
		s.values[flag] = v
		s.given[flag] = v != "" && (flag == "discovery-token" || flag == "discovery-endpoints")
	}
}

// take takes the keys of a section that say something. In etcd's sample file most are blank, and mean the default
// (embed.ConfigFromFile). The text "" does too, but for a name and a token, which are empty then.
func (s *settings) take(prefix string, section map[string]any) {
	for key, v := range section {
		switch {
		case v == nil:
		case v != "":
			s.given[prefix+key] = true
			s.values[prefix+key] = fmt.Sprint(v)
		case key == "name" || key == "initial-cluster-token":
			s.values[key] = ""
		}
	}
}

func readYAML(path string) (values map[string]any, err error) {
	text, err := os.ReadFile(path)
	if err == nil {
		err = yaml.Unmarshal(text, &values)
	}
	if err != nil {
		return nil, fmt.Errorf("read the configuration file: %w", err)
	}
	return values, nil
}

func (s *settings) get(name string) string { return s.values[name] }

// dir is the data directory (etcdmain/etcd.go).
func (s *settings) dir() string {
	return cmp.Or(s.get("data-dir"), s.get("name")+".etcd")
}

// hasLog reports whether the member has been initialized: etcd asks no more than this.
func (s *settings) hasLog() bool {
	return wal.Exist(cmp.Or(s.get("wal-dir"), filepath.Join(s.dir(), "member", "wal")))
}

// variable is the name of a flag's environment variable.
func variable(name string) string { return flags.FlagToEnv("ETCD", name) }

// urls reads a flag with URLs.
func (s *settings) urls(name string) (types.URLs, error) {
	u, err := types.NewURLs(strings.Split(s.get(name), ","))
	if err != nil {
		return nil, fmt.Errorf("--%s: %w", name, err)
	}
	return u, nil
}
