package ladder

import (
	"fmt"
	"testing"
	"time"

	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/policy/compile"
	"github.com/sallyport/sallyport/probes/event"
	"github.com/sallyport/sallyport/tests/testutil"
	"github.com/sallyport/sallyport/tests/testutil/pod"
)

// Two policies that mean the same, their rules in another order. So every call has one verdict for
// ever, but the bits of the rules differ: peers of one policy ANDed with ports of the other would deny
// server:OPEN and allow server:CLOSED, and rules of one with the processes of the other would mix up
// Main and the session.
const (
	forwards = `
  rules:
  - {name: four, processes: [{origins: [Main]}], egress: [{toCIDR: [SERVER4/32], toPorts: [{ports: [{port: "OPEN"}]}]}]}
  - {name: six, processes: [{origins: [Main]}], egress: [{toCIDR: [SERVER6/128], toPorts: [{ports: [{port: "CLOSED"}]}]}]}
  - {name: shells, processes: [{origins: [Exec]}], action: Deny}
`
	backwards = `
  rules:
  - {name: shells, processes: [{origins: [Exec]}], action: Deny}
  - {name: six, processes: [{origins: [Main]}], egress: [{toCIDR: [SERVER6/128], toPorts: [{ports: [{port: "CLOSED"}]}]}]}
  - {name: four, processes: [{origins: [Main]}], egress: [{toCIDR: [SERVER4/32], toPorts: [{ports: [{port: "OPEN"}]}]}]}
`
)

// loops are the calls that go on while the policies change, and whether they pass.
var loops = []struct { //nolint:gochecknoglobals // a constant table
	line   string
	shell  bool
	passes bool
}{
	{line: "loop-tcp SERVER4 OPEN 0 8000", passes: true},
	{line: "loop-tcp SERVER4 CLOSED 0 8000"},
	{line: "loop-udp SERVER6 CLOSED 0 8000", passes: true},
	{line: "loop-udp SERVER6 OPEN 0 8000"},
	{line: "loop-tcp SERVER4 OPEN 0 8000", shell: true},
}

// fewestSwaps is how many swaps make the test worth something; each waits for several grace periods.
const fewestSwaps = 5

// TestSwapUnderLoad holds that no call is judged by half a policy.
func TestSwapUnderLoad(t *testing.T) {
	onEachEnforcingStep(t, func(t *testing.T, step event.Step) {
		r := newBareRig(t, step)
		r.flood = true
		r.cfg.TellConnect = false
		r.attach(t)
		containers := r.loopers(t)
		tables := []*compile.Tables{r.compile(t, forwards), r.compile(t, backwards)}
		if a, b := tables[0].Rulesets[1].Rules[0].Name, tables[1].Rulesets[1].Rules[0].Name; a == b {
			t.Fatalf("both policies begin with rule %s: a mix of them would not show", a)
		}
		if swaps := r.swapUnderLoad(t, containers, tables); swaps < fewestSwaps {
			t.Errorf("only %d swaps, want %d", swaps, fewestSwaps)
		}
	})
}

// TestSwapOfManyRulesUnderLoad holds the same, and that no packet is dropped at the gate, where the rules that
// count are among 10,000 others and their ruleset has another number each time.
func TestSwapOfManyRulesUnderLoad(t *testing.T) {
	testutil.RequireRoot(t)
	workloads := 100
	if testutil.InVM() {
		workloads = 20 // emulated, each swap takes seconds
	}
	r := newBareRig(t, strongest(t))
	r.flood = true
	r.cfg.TellConnect = false
	r.attach(t)
	r.govern(t)
	containers := r.loopers(t)
	tables := []*compile.Tables{
		r.compileAmong(t, crowd(t, workloads), forwards),
		r.compileAmong(t, crowd(t, workloads+1), backwards),
	}
	key := containers[0].ID
	if a, b := tables[0].Containers[key], tables[1].Containers[key]; a == b {
		t.Fatalf("both times ruleset %d: a mix of the tables would not show", a)
	}
	if swaps := r.swapUnderLoad(t, containers, tables); swaps < 3 {
		t.Errorf("only %d swaps", swaps)
	}
}

// crowd is workloads with a ruleset of a hundred rules each, whose policies come before those of a rig.
func crowd(t *testing.T, workloads int) (in compile.Input) {
	t.Helper()
	for w := range workloads {
		text := fmt.Sprintf("apiVersion: %s\nkind: %s\nmetadata: {name: crowd-%d}\nspec:\n  podSelector: {matchLabels: {app: crowd-%d}}\n  rules:\n", policy.APIVersion, policy.KindProcessPolicy, w, w)
		for i := range 100 {
			text += fmt.Sprintf("  - {name: r%d, processes: [{binaries: [/usr/bin/tool-%d]}], egress: [{toCIDR: [10.%d.%d.0/24], toPorts: [{ports: [{port: %d}]}]}]}\n", i, i%20, w, i, 1000+i)
		}
		parsed, err := policy.Parse("crowd", []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		in.Policies = append(in.Policies, parsed...)
		in.Workloads = append(in.Workloads, compile.Workload{
			Key: uint64(w + 1), Namespace: policy.DefaultNamespace, Pod: "crowd", Container: fmt.Sprint(w), Labels: map[string]string{"app": fmt.Sprintf("crowd-%d", w)},
		})
	}
	return in
}

// loopers makes a container for each of the loops.
func (r *rig) loopers(t *testing.T) []*pod.Container {
	t.Helper()
	containers := make([]*pod.Container, len(loops))
	for i, l := range loops {
		if l.shell {
			containers[i] = r.started(t, "web")
		} else {
			containers[i] = r.container(t, "web")
		}
	}
	return containers
}

// swapUnderLoad puts tables in force in turns while the loops run, checks what became of their calls, and returns
// how many swaps there were.
func (r *rig) swapUnderLoad(t *testing.T, containers []*pod.Container, tables []*compile.Tables) (swaps int) {
	t.Helper()
	swap := func(i int) {
		if _, err := r.judge.Swap(tables[i%len(tables)]); err != nil {
			t.Fatal(err)
		}
	}
	swap(0)
	processes := make([]*pod.Process, len(loops))
	for i, l := range loops {
		processes[i] = r.victim(containers[i], l.line)
		processes[i].Start(t)
	}
	swaps = 1
	start := time.Now()
	for ; time.Since(start) < 7500*time.Millisecond; swaps++ {
		swap(swaps)
	}
	took, calls := time.Since(start), 0
	for i, l := range loops {
		calls += r.tally(t, processes[i], l.line, l.passes)
	}
	t.Logf("%d calls judged during %d swaps, %.0f a second", calls, swaps, float64(calls)/took.Seconds())
	return swaps
}
