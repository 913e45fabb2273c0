package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"
	"github.com/spf13/viper"
)

// envPrefix begins the name of every environment variable. Other variables that begin with it are
// left alone: Kubernetes makes SALLYPORT_SERVICE_HOST and the like for a Service of that name.
const envPrefix = "SALLYPORT"

// flag is a command line flag that sets a key.
type flag struct{ name, key, usage string }

func flags() []flag {
	return []flag{
		{"policies", "policies.dir", "folder with policies"},
		{"steps", "enforcement.steps", "steps of the enforcement ladder that may be used, strongest first"},
		{"bpffs", "kernel.bpffs", "mount point of the BPF file system"},
		{"pin-dir", "kernel.pinDir", "folder below it for the pinned programs, links and maps"},
		{"cgroup-root", "kernel.cgroupRoot", "mount point of the cgroup v2 hierarchy"},
		{"socket", "api.socket", "socket of the local API"},
		{"metrics-address", "metrics.address", "host:port of the Prometheus endpoint"},
		{"log-level", "log.level", "least important level that is logged: error, warn, info or debug"},
		{"log-format", "log.format", "form of the log: auto, text or json"},
	}
}

// AddFlags adds the flags with the given names to a set, or all of them without a name. What they
// are set to is read by Load.
func AddFlags(set *pflag.FlagSet, names ...string) {
	defaults := map[string]leaf{}
	for _, l := range leaves(Default()) {
		defaults[l.key] = l
	}
	for _, f := range flags() {
		if len(names) > 0 && !slices.Contains(names, f.name) {
			continue
		}
		usage := fmt.Sprintf("%s (%s)", f.usage, f.key)
		if steps, ok := defaults[f.key].value.([]Step); ok {
			words := make([]string, len(steps))
			for i, s := range steps {
				words[i] = string(s)
			}
			set.StringSlice(f.name, words, usage)
			continue
		}
		set.String(f.name, fmt.Sprint(defaults[f.key].value), usage)
	}
}

// Options says where Load reads from.
type Options struct {
	File  string         // "": DefaultFile if it is there
	Flags *pflag.FlagSet // with flags of AddFlags; nil: none
}

// Load reads the configuration: flags before environment (SALLYPORT_ALERTS_SYSLOG_NETWORK) before
// file before defaults. An environment variable that is empty counts as not set. It fails with
// every *Error there is, joined: an agent must not run with half of what was meant.
func Load(o Options) (Config, error) {
	file, data, err := readFile(o.File)
	if err != nil {
		return Config{}, err
	}
	lines, err := checkFile(file, data)
	if err != nil {
		return Config{}, err
	}
	v := viper.New()
	v.SetConfigType("yaml")
	v.SetEnvPrefix(envPrefix)
	v.SetEnvKeyReplacer(strings.NewReplacer(".", "_"))
	v.AutomaticEnv()
	s := sources{file: file, lines: lines, flags: map[string]string{}}
	for _, l := range leaves(Default()) {
		v.SetDefault(l.key, l.value)
	}
	for _, f := range flags() {
		if o.Flags == nil || o.Flags.Lookup(f.name) == nil {
			continue
		}
		if err := v.BindPFlag(f.key, o.Flags.Lookup(f.name)); err != nil {
			return Config{}, fmt.Errorf("binding --%s: %w", f.name, err)
		}
		if o.Flags.Changed(f.name) {
			s.flags[f.key] = f.name
		}
	}
	if err := v.ReadConfig(bytes.NewReader(data)); err != nil {
		return Config{}, &Error{Source: file, Message: err.Error()}
	}
	if err := checkEnvironment(s); err != nil {
		return Config{}, err
	}
	var c Config
	if err := v.UnmarshalExact(&c); err != nil {
		return Config{}, fmt.Errorf("reading the configuration: %w", err)
	}
	if err := c.validate(s); err != nil {
		return Config{}, err
	}
	return c, nil
}

// readFile reads the named file, which must be there, or the default one, which need not.
func readFile(name string) (file string, data []byte, err error) {
	file = name
	if name == "" {
		file = DefaultFile
	}
	f, err := os.Open(file)
	if name == "" && errors.Is(err, fs.ErrNotExist) {
		return "", nil, nil
	}
	if err != nil {
		return "", nil, fmt.Errorf("reading the configuration: %w", err)
	}
	defer func() { _ = f.Close() }() // it was only read
	data, err = io.ReadAll(io.LimitReader(f, maxFileSize+1))
	if err != nil {
		return "", nil, fmt.Errorf("reading the configuration: %w", err)
	}
	if len(data) > maxFileSize {
		return "", nil, &Error{Source: file, Message: fmt.Sprintf("is larger than %d bytes", maxFileSize)}
	}
	return file, data, nil
}

// checkEnvironment checks that the text of every variable converts to the type of its key.
func checkEnvironment(s sources) error {
	var errs []error
	for _, l := range leaves(Default()) {
		text, set := s.environment(l.key)
		if !set {
			continue
		}
		var err error
		switch l.kind {
		case kindNumber:
			_, err = strconv.Atoi(text)
		case kindBool:
			_, err = strconv.ParseBool(text)
		case kindDuration:
			_, err = time.ParseDuration(text)
		}
		if err != nil {
			errs = append(errs, &Error{Source: envName(l.key), Key: l.key, Message: quote(text) + " is not " + l.kind})
		}
	}
	return errors.Join(errs...)
}

// sources knows where the value of a key came from.
type sources struct {
	file  string
	lines map[string]int    // key → line in file
	flags map[string]string // key → name of the flag that was given
}

// environment returns the variable that decides a key, if there is one.
func (s sources) environment(key string) (text string, set bool) {
	if s.flags[key] != "" {
		return "", false
	}
	text = os.Getenv(envName(key))
	return text, text != ""
}

// of names the source of a key's value. For a default it is the file, which may have a value that
// does not go with it; "" if there is none.
func (s sources) of(key string) string {
	if name := s.flags[key]; name != "" {
		return "--" + name
	}
	if _, set := s.environment(key); set {
		return envName(key)
	}
	if line := s.lines[key]; line > 0 {
		return fmt.Sprintf("%s:%d", s.file, line)
	}
	return s.file
}
