package arch

import (
	"slices"
	"strconv"
	"strings"
	"testing"
)

// within says whether a folder is another or below it.
func within(dir, of string) bool { return dir == of || strings.HasPrefix(dir, of+"/") }

// part is one part of the tree, and what it may import.
type part struct {
	dir string
	may []string
	why string
}

// ours lists for each part of the tree which other parts of it may be imported. The first entry
// that matches decides; a name after - is taken out again, and a part may always import what is below
// it.
var ours = []part{
	{"probes/event", nil, "it is the vocabulary: pure"},
	{"runtime/identity", nil, "it is the vocabulary: pure"},
	{"policy/match", []string{"policy", "-policy/compile"}, "it is the reference that compile is measured against"},
	{"policy/compile", []string{"policy", "-policy/match"}, "it is pure"},
	{"policy/cases", []string{"policy", "-policy/compile"}, "it is pure, and asks the reference"},
	{"policy/format", []string{"policy", "-policy/compile", "-policy/match"}, "it is pure, and knows policies and their cases"},
	{"policy/diff", []string{"policy", "-policy/compile"}, "it is pure, and asks the reference"},
	{"policy/flows", []string{"policy", "-policy/compile", "-policy/match"}, "it is pure"},
	{"policy/learn", []string{"policy", "-policy/compile", "-policy/match"}, "it is pure"},
	{"policy", nil, "it is pure"},
	{"probes", []string{"policy/compile", "policy"}, "the kernel side knows tables, not containers"},
	{"runtime", nil, "runtimes know neither the kernel side nor policies"},
	{"agent/internal/alert", []string{"agent/internal/alert", "probes/event"}, "sinks know records only"},
	{"agent/internal/config", nil, "it hands out plain values"},
	{"agent/hook", []string{"agent/internal/cmd"}, "it is small, and quick to start"},
	{"agent/internal/cmd", []string{"agent/internal", "probes/event", "policy", "runtime/oci", "-agent/internal/daemon", "-agent/internal/demo", "-agent/internal/webhook"}, "the composition root gives it the functions that do the work"},
	{"agent", []string{"agent", "probes", "policy", "runtime"}, "it wires everything, but no tests"},
	{"tests", []string{"agent", "probes", "policy", "runtime", "tests"}, ""},
}

func TestOwnImports(t *testing.T) {
	for _, s := range sources(t) {
		if s.test() && !within(s.dir(), "policy/match") { // tests may compare with anything
			continue
		}
		i := slices.IndexFunc(ours, func(p part) bool { return within(s.dir(), p.dir) })
		if i < 0 {
			t.Errorf("%s: no rule says what this part of the tree may import", s.path)
			continue
		}
		from := ours[i]
		for _, spec := range s.syntax.Imports {
			target, ok := strings.CutPrefix(unquote(t, spec.Path.Value), module+"/")
			if !ok || within(target, from.dir) {
				continue
			}
			allowed := slices.ContainsFunc(from.may, func(m string) bool { return within(target, m) }) &&
				!slices.ContainsFunc(from.may, func(m string) bool { return m[0] == '-' && within(target, m[1:]) })
			if !allowed {
				t.Errorf("%s:%d: %s must not import %s: %s", s.path, s.line(spec.Pos()), from.dir, target, from.why)
			}
		}
	}
}

// theirs lists which modules of others belong to one part of the tree.
var theirs = []struct {
	prefix string
	only   []string
}{
	{"github.com/cilium/ebpf", []string{"probes", "tests"}},
	{"github.com/containerd/", []string{"runtime/containerd", "runtime/nri", "tests"}},
	{"k8s.io/", []string{"runtime/kube", "tests"}},
	{"github.com/spf13/viper", []string{"agent/internal/config"}},
	{"github.com/spf13/cobra", []string{"agent/internal/cmd"}},
	{"github.com/prometheus/", []string{"agent/internal/metrics", "tests"}},
	{"google.golang.org/grpc", []string{"agent/internal/api", "agent/internal/cmd", "runtime/containerd", "tests"}},
	{"github.com/sirupsen/logrus", []string{"agent", "probes", "runtime", "tests"}},
	{"github.com/stretchr/testify", nil},
	{"gopkg.in/yaml.v3", nil},
}

func TestForeignImports(t *testing.T) {
	for _, s := range sources(t) {
		for _, spec := range s.syntax.Imports {
			target := unquote(t, spec.Path.Value)
			for _, rule := range theirs {
				if !strings.HasPrefix(target, rule.prefix) {
					continue
				}
				if !slices.ContainsFunc(rule.only, func(dir string) bool { return within(s.dir(), dir) }) {
					t.Errorf("%s:%d: %s belongs to %v", s.path, s.line(spec.Pos()), target, rule.only)
				}
			}
		}
	}
}

func unquote(t *testing.T, literal string) string {
	t.Helper()
	text, err := strconv.Unquote(literal)
	if err != nil {
		t.Fatal(err)
	}
	return text
}
