package config

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"

	"github.com/sallyport/sallyport/agent/internal/alert/syslog"
)

const documented = "../../../config.yaml"

func write(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "config.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestTheDocumentedFileIsTheDefaults(t *testing.T) {
	got, err := Load(Options{File: documented})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(Default(), got); diff != "" {
		t.Errorf("%s is not the defaults (-default +file):\n%s", documented, diff)
	}
}

// Every key must be there, and a comment above it or above its neighbour.
func TestTheDocumentedFileHasEveryKey(t *testing.T) {
	data, err := os.ReadFile(documented)
	if err != nil {
		t.Fatal(err)
	}
	lines, err := checkFile(documented, data)
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Split(string(data), "\n")
	for _, l := range leaves(Default()) {
		n := lines[l.key]
		if n == 0 {
			t.Errorf("%s is missing", l.key)
			continue
		}
		commented := func(line int) bool { return strings.HasPrefix(strings.TrimSpace(text[line-1]), "#") }
		if !commented(n-1) && (lines[sibling(l.key)] != n-1 || !commented(n-2)) {
			t.Errorf("%s:%d: %s has no comment", documented, n, l.key)
		}
	}
}

// sibling is the key that the comment of another one is about too.
func sibling(key string) string {
	return map[string]string{
		"runtime.containerd.reconnectMax": "runtime.containerd.reconnectMin",
		"alerts.syslog.tls.key":           "alerts.syslog.tls.cert",
	}[key]
}

func TestPrecedence(t *testing.T) {
	set := pflag.NewFlagSet("test", pflag.ContinueOnError)
	AddFlags(set)
	load := func() Config {
		t.Helper()
		c, err := Load(Options{File: write(t, "log: {level: error}\nkernel: {pinDir: one}\n"), Flags: set})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	if c := load(); c.Log.Level != LevelError || c.Kernel.PinDir != "one" || c.API.Socket != Default().API.Socket {
		t.Errorf("the file does not win over the defaults: %+v", c)
	}
	t.Setenv("SALLYPORT_LOG_LEVEL", "warn")
	t.Setenv("SALLYPORT_KERNEL_PINDIR", "two")
	t.Setenv("SALLYPORT_KERNEL_MAPS_FLOWS", "1000")
	t.Setenv("SALLYPORT_RUNTIME_CONTAINERD_RECONNECTMAX", "1m")
	t.Setenv("SALLYPORT_RUNTIME_CONTAINERD_NAMESPACES", "k8s.io,moby")
	t.Setenv("SALLYPORT_GATE_ENABLED", "false")
	t.Setenv("SALLYPORT_SERVICE_HOST", "192.0.2.1") // of Kubernetes, no key of ours
	c := load()
	if c.Log.Level != LevelWarn || c.Kernel.PinDir != "two" || c.Kernel.Maps.Flows != 1000 || c.Gate.Enabled ||
		c.Runtime.Containerd.ReconnectMax != time.Minute {
		t.Errorf("the environment does not win over the file: %+v", c)
	}
	if diff := cmp.Diff([]string{"k8s.io", "moby"}, c.Runtime.Containerd.Namespaces); diff != "" {
		t.Errorf("namespaces (-want +got):\n%s", diff)
	}
	if err := set.Parse([]string{"--pin-dir=three", "--steps=cgroup,report"}); err != nil {
		t.Fatal(err)
	}
	c = load()
	if c.Kernel.PinDir != "three" || c.Log.Level != LevelWarn {
		t.Errorf("the flag does not win over the environment: %+v", c)
	}
	if diff := cmp.Diff([]Step{StepCgroup, StepReport}, c.Enforcement.Steps); diff != "" {
		t.Errorf("steps (-want +got):\n%s", diff)
	}
}

func TestErrors(t *testing.T) {
	tests := map[string]struct{ text, want string }{
		"unknown key":       {"log: {levle: info}", ":1: log.levle: unknown key: did you mean log.level?"},
		"unknown section":   {"\nallerts: {}", ":2: allerts: unknown key: did you mean alerts?"},
		"far from anything": {"log: {x: 1}", ":1: log.x: unknown key: there are format or level"},
		"other case":        {"api: {Socket: /run/x}", "did you mean api.socket?"},
		"dotted":            {"log.level: info", "write one word for each level"},
		"twice":             {"gate:\n  enabled: true\n  enabled: false", "first in line 2"},
		"section as value":  {"gate: true", ":1: gate: is no mapping of keys: it holds enabled"},
		"value as section":  {"policies: {dir: {a: b}}", "policies.dir: must be a string"},
		"number as text":    {"alerts: {queue: many}", "alerts.queue: must be a whole number"},
		"text as number":    {"policies: {dir: 7}", "policies.dir: must be a string: put it into quotes"},
		"bool as text":      {`gate: {enabled: "yes"}`, "gate.enabled: must be true or false"},
		"duration":          {"runtime: {containerd: {reconnectMin: 5}}", "must be a duration"},
		"list":              {"enforcement: {steps: lsm}", "enforcement.steps: must be a list of strings"},
		"no YAML":           {"log: [", "is no YAML"},
		"step":              {"enforcement: {steps: [lms]}", `:1: enforcement.steps: "lms" is no step: there are lsm, fmod_ret, cgroup or report`},
		"no steps":          {"enforcement: {steps: []}", "write [report]"},
		"order of steps":    {"enforcement: {steps: [cgroup, lsm]}", "lsm stands twice or after a weaker step"},
		"word":              {"enforcement: {unknownWorkload: maybe}", `"maybe" is none of allow, deny`},
		"relative":          {"policies: {dir: policies}", `policies.dir: "policies" is no absolute path`},
		"unclean":           {"kernel: {bpffs: /sys/fs/../bpf}", "write /sys/bpf"},
		"pin folder":        {"kernel: {pinDir: a/b}", "kernel.pinDir"},
		"ring":              {"kernel: {maps: {flowsRingBytes: 1000000}}", "kernel.maps.flowsRingBytes: 1000000 is no power of two"},
		"map":               {"kernel: {maps: {flows: 0}}", "kernel.maps.flows: 0 is not from 64"},
		"crossed":           {"runtime: {containerd: {reconnectMin: 1m}}", "reconnectMax: 10s is less than reconnectMin, 1m0s"},
		"NRI presence":      {"runtime: {nri: {enabled: maybe}}", `"maybe" is none of auto, always, never`},
		"NRI timeout":       {"runtime: {nri: {timeout: 1h}}", "runtime.nri.timeout: 1h0m0s is not from 50ms to 30s"},
		"NRI refuses alone": {"runtime: {nri: {onTimeout: refuse}}", "set enforcement.unknownWorkload to deny"},
		"syslog address":    {"alerts: {syslog: {network: tcp}}", `alerts.syslog.address: "/dev/log" is not host:port`},
		"facility":          {"alerts: {syslog: {facility: kern}}", "alerts.syslog.facility"},
		"app name":          {`alerts: {syslog: {appName: "a b"}}`, "alerts.syslog.appName"},
		"half certificate":  {"alerts: {syslog: {tls: {cert: /c.pem}}}", "needs both cert and key"},
		"long socket":       {"api: {socket: /" + strings.Repeat("s", 120) + "}", "api.socket: is longer"},
		"secret header":     {"visibility: {headers: [x-request-id, authorization]}", ":1: visibility.headers: authorization carries secrets, which are never told"},
		"secret, upper":     {"visibility: {headers: [Cookie]}", `visibility.headers: "Cookie" is no name of a header in lower case`},
		"proxy's secret":    {"visibility: {headers: [proxy-authorization]}", "proxy-authorization carries secrets"},
		"server's secret":   {"visibility: {headers: [set-cookie]}", "set-cookie carries secrets"},
		"no header":         {`visibility: {headers: ["a b"]}`, `"a b" is no name of a header`},
		"pseudo-header":     {`visibility: {headers: [":path"]}`, `":path" is no name of a header`},
		"empty header":      {`visibility: {headers: [""]}`, `"" is no name of a header`},
		"long header":       {"visibility: {headers: [" + strings.Repeat("h", 41) + "]}", "of at most 40 bytes"},
		"header twice":      {"visibility: {headers: [a, a]}", "a stands twice"},
		"host":              {"visibility: {headers: [host]}", "host is told of every request"},
		"many headers":      {"visibility: {headers: [a, b, c, d, e]}", "there are 5, at most 4 can be told"},
		"metrics address":   {"metrics: {address: localhost}", "metrics.address"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			file := write(t, test.text)
			_, err := Load(Options{File: file})
			if err == nil {
				t.Fatal("no error")
			}
			if !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), file) {
				t.Errorf("got  %s\nwant %s", err, test.want)
			}
		})
	}
}

func TestAllErrorsAreToldAtOnce(t *testing.T) {
	_, err := Load(Options{File: write(t, "log: {level: loud}\nkernel: {pinDir: ''}\nmetrics: {address: x}\n")})
	for _, want := range []string{":1: log.level", ":2: kernel.pinDir", ":3: metrics.address"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not told: %v", want, err)
		}
	}
}

func TestSourcesOfErrors(t *testing.T) {
	set := pflag.NewFlagSet("test", pflag.ContinueOnError)
	AddFlags(set, "log-level")
	if err := set.Parse([]string{"--log-level=loud"}); err != nil {
		t.Fatal(err)
	}
	t.Setenv("SALLYPORT_API_SOCKET", "x")
	_, err := Load(Options{File: os.DevNull, Flags: set})
	for _, want := range []string{"--log-level: log.level:", "SALLYPORT_API_SOCKET: api.socket:"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not told: %v", want, err)
		}
	}
	t.Setenv("SALLYPORT_ALERTS_QUEUE", "many")
	if _, err = Load(Options{File: os.DevNull}); err == nil || !strings.Contains(err.Error(), `SALLYPORT_ALERTS_QUEUE: alerts.queue: "many" is not a whole number`) {
		t.Errorf("a variable of the wrong type: %v", err)
	}
}

func TestMissingFile(t *testing.T) {
	if _, err := Load(Options{File: filepath.Join(t.TempDir(), "none.yaml")}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a named file that is missing: %v", err)
	}
}

// The words that the configuration takes must be those that the sink knows.
func TestFacilities(t *testing.T) {
	for _, name := range facilities() {
		if _, err := syslog.ParseFacility(name); err != nil {
			t.Error(err)
		}
	}
}

// Whatever a file holds: an error or a configuration, never a panic.
func FuzzCheckFile(f *testing.F) {
	f.Add("log: {level: info}")
	f.Add("a: &a [*a]")
	f.Add("log: {? {} : b}")
	f.Fuzz(func(t *testing.T, text string) {
		lines, err := checkFile("fuzz", []byte(text))
		if err == nil && lines == nil {
			t.Fatalf("neither lines nor an error for %q", text)
		}
		if err != nil && strings.ContainsAny(err.Error(), "\x1b\x00") {
			t.Fatalf("control characters in %q", err)
		}
	})
}
