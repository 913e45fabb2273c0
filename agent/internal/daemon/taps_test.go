package daemon

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/sallyport/sallyport/policy/compile"
	"github.com/sallyport/sallyport/runtime/identity"
)

func TestPIDsBelow(t *testing.T) {
	dir := t.TempDir()
	for path, text := range map[string]string{"cgroup.procs": "12\n7\n", "inner/cgroup.procs": "0\n9\n", "inner/deep/cgroup.procs": ""} {
		path = filepath.Join(dir, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	got := pidsBelow(dir)
	slices.Sort(got)
	if !slices.Equal(got, []uint32{7, 9, 12}) {
		t.Errorf("%v", got)
	}
	if got := pidsBelow(filepath.Join(dir, "gone")); got != nil {
		t.Errorf("a cgroup that is gone has %v", got)
	}
}

// Only containers whose rules ask for requests have their libraries tapped.
func TestAsked(t *testing.T) {
	w := newWorkloads(nil)
	for id := range uint64(3) {
		w.put(identity.Container{ID: string(rune('a' + id)), CgroupID: id + 1, CgroupPath: "/c", InitPID: uint32(id) + 10})
	}
	tables := &compile.Tables{Rulesets: []*compile.Ruleset{{}, {}, {}}, Containers: map[uint64]uint32{1: 1, 2: 2}}
	tables.Rulesets[2].HTTP[0] = 1
	got := w.asked(tables)
	if len(got) != 1 || got[2] != (tapped{cgroup: "/c", init: 11}) {
		t.Errorf("asked: %+v", got)
	}
}
