package oracle

import (
	"testing"

	"github.com/cilium/ebpf"
)

// set writes a variable of programs.
func set(t testing.TB, coll *ebpf.Collection, name string, value any) {
	t.Helper()
	if err := coll.Variables[name].Set(value); err != nil {
		t.Fatalf("setting %s: %v", name, err)
	}
}

// get reads a variable of programs into value.
func get(t testing.TB, coll *ebpf.Collection, name string, value any) {
	t.Helper()
	if err := coll.Variables[name].Get(value); err != nil {
		t.Fatalf("reading %s: %v", name, err)
	}
}
