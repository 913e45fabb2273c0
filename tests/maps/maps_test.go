// Package maps holds that somebody has said, for every map of the kernel programs, what happens when it is full: in maps.md.
package maps

import (
	_ "embed"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/cilium/ebpf"

	"github.com/sallyport/sallyport/probes"
)

//go:embed maps.md
var table string

// row is one of maps.md.
type row struct{ room, none, test string }

func rows(t *testing.T) map[string]row {
	t.Helper()
	out := map[string]row{}
	for line := range strings.Lines(table) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		if len(cells) != 5 || !strings.HasPrefix(line, "| `") {
			continue
		}
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		out[strings.Trim(cells[0], "`")] = row{room: cells[1], none: cells[2], test: cells[4]}
	}
	return out
}

// room says how much of it a map has, as the table does.
func room(m *ebpf.MapSpec) string {
	switch m.Type {
	case ebpf.Hash:
		return fmt.Sprintf("hash of %d", m.MaxEntries)
	case ebpf.LRUHash:
		return fmt.Sprintf("LRU of %d", m.MaxEntries)
	case ebpf.Array, ebpf.ArrayOfMaps:
		return fmt.Sprintf("array of %d", m.MaxEntries)
	case ebpf.PerCPUArray:
		return fmt.Sprintf("%d on each CPU", m.MaxEntries)
	case ebpf.RingBuf:
		return fmt.Sprintf("ring of %d bytes", m.MaxEntries)
	case ebpf.TaskStorage:
		return "task"
	case ebpf.SkStorage:
		return "socket"
	default:
		return m.Type.String()
	}
}

// TestEveryMapIsDecided: the table has each map of each object, with its room, and no other.
func TestEveryMapIsDecided(t *testing.T) {
	t.Parallel()
	known := rows(t)
	seen := map[string]bool{}
	for _, o := range probes.Objects() {
		spec, err := o.Load()
		if err != nil {
			t.Fatal(err)
		}
		for name, m := range spec.Maps {
			if strings.HasPrefix(name, ".") || seen[name] {
				continue // variables and constants of a program
			}
			seen[name] = true
			switch r, ok := known[name]; {
			case !ok:
				t.Errorf("maps.md does not say what happens when %s is full (%s)", name, room(m))
			case r.room != room(m):
				t.Errorf("maps.md says of %s that it is a %s; it is a %s", name, r.room, room(m))
			case r.none == "":
				t.Errorf("maps.md says nothing of %s without room", name)
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(known)) {
		if !seen[name] {
			t.Errorf("maps.md has %s, which no object has", name)
		}
	}
}

var named = regexp.MustCompile("^`([a-z/]+)` (Test[A-Za-z0-9]+)$")

// TestNamedTestsAreThere: what the table names as a test is one.
func TestNamedTestsAreThere(t *testing.T) {
	t.Parallel()
	for name, r := range rows(t) {
		m := named.FindStringSubmatch(r.test)
		if m == nil {
			if r.test != "–" && r.test != "memory" && !strings.HasPrefix(r.test, "as ") {
				t.Errorf("%s: what is named as a test cannot be read: %s", name, r.test)
			}
			continue
		}
		files, err := filepath.Glob(filepath.Join("../..", m[1], "*_test.go"))
		if err != nil {
			t.Fatal(err)
		}
		if !slices.ContainsFunc(files, func(file string) bool {
			text, err := os.ReadFile(file)
			return err == nil && strings.Contains(string(text), "\nfunc "+m[2]+"(")
		}) {
			t.Errorf("%s: there is no %s in %s", name, m[2], m[1])
		}
	}
}
