package compile_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/policy/compile"
)

// TestPagesAreFilledAndNeverSpanned gives 40 containers each an automaton of its own, more than a
// page holds together.
func TestPagesAreFilledAndNeverSpanned(t *testing.T) {
	t.Parallel()
	const containers, binaries = 40, 20
	path := func(c, b int) string { return fmt.Sprintf("/opt/%x/%x", c*7919, (c*100+b)*104729) }
	var rules strings.Builder
	workloads := make([]compile.Workload, 0, containers)
	for c := range containers {
		for b := range binaries {
			fmt.Fprintf(&rules, "  - {name: r%d-%d, processes: [{containers: [c%d], binaries: [%s]}], action: Deny}\n", c, b, c, path(c, b))
		}
		workloads = append(workloads, workload(uint64(c), fmt.Sprintf("c%d", c)))
	}
	tables, err := compile.Compile(compile.Input{Policies: []*policy.Policy{parse(t, "a", rules.String())}, Workloads: workloads})
	if err != nil {
		t.Fatal(err)
	}
	if len(tables.Pages) < 2 || len(tables.Pages) > containers/4 {
		t.Fatalf("%d pages", len(tables.Pages))
	}
	for c, w := range workloads {
		r := tables.Rulesets[tables.Containers[w.Key]]
		for b := range binaries {
			want := policy.Ref(fmt.Sprintf("default/a/r%d-%d", c, b), policy.Egress, 0)
			if d := tables.Judge(policy.Process{Workload: w, Exe: path(c, b)}, policy.Call{}); d.Ref != want {
				t.Fatalf("container %d, %s: %+v", c, path(c, b), d)
			}
			if id := compile.Walk(tables.Pages, r.Exe, path(c+1, b)); id != 0 {
				t.Fatalf("container %d matches %s of another", c, path(c+1, b))
			}
		}
	}
}

// TestWalkStaysInItsPage follows every cell of every automaton: the kernel checks the bounds of
// a page, not those of an automaton inside it.
func TestWalkStaysInItsPage(t *testing.T) {
	t.Parallel()
	tables, err := compile.Compile(large(t))
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for _, r := range tables.Rulesets {
		if r.Exe.Classes == 0 {
			continue
		}
		seen++
		row := int(r.Exe.Classes) + 1
		cells := tables.Pages[r.Exe.Page][r.Exe.Base:]
		for b, class := range cells[:256] {
			if class >= r.Exe.Classes {
				t.Fatalf("byte %d has class %d of %d", b, class, r.Exe.Classes)
			}
		}
		reached, queue := map[uint16]bool{0: true}, []uint16{0}
		for ; len(queue) > 0; queue = queue[1:] {
			at := cells[256+int(queue[0]):][:row]
			if int(queue[0])%row != 0 || int(at[row-1]) >= len(tables.Accepts) {
				t.Fatalf("row at %d: %v", queue[0], at)
			}
			for _, to := range at[:row-1] {
				if !reached[to] {
					reached[to] = true
					queue = append(queue, to)
				}
			}
		}
	}
	if seen == 0 {
		t.Fatal("no automaton was walked")
	}
}
