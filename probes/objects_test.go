package probes

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestObjectsAreComplete holds that no committed object is forgotten by the load gate.
func TestObjectsAreComplete(t *testing.T) {
	t.Parallel()
	var listed []string
	for _, o := range Objects() {
		listed = append(listed, strings.ReplaceAll(o.Name, "_", ""))
	}
	slices.Sort(listed)
	files, err := filepath.Glob("internal/bpfobj/*_bpfel.o")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range files {
		name := strings.TrimSuffix(filepath.Base(f), "_bpfel.o")
		names = append(names, strings.TrimSuffix(strings.TrimSuffix(name, "_x86"), "_arm64")) // one object for each architecture
	}
	slices.Sort(names)
	if diff := cmp.Diff(listed, slices.Compact(names)); diff != "" {
		t.Errorf("objects (-listed +committed):\n%s", diff)
	}
}
