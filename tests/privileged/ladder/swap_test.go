package ladder

import (
	"testing"
	"time"

	"github.com/sallyport/sallyport/policy/compile"
	"github.com/sallyport/sallyport/probes/event"
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
		containers := make([]*pod.Container, len(loops))
		for i, l := range loops {
			if l.shell {
				containers[i] = r.started(t, "web")
			} else {
				containers[i] = r.container(t, "web")
			}
		}
		tables := []*compile.Tables{r.compile(t, forwards), r.compile(t, backwards)}
		if a, b := tables[0].Rulesets[1].Rules[0].Name, tables[1].Rulesets[1].Rules[0].Name; a == b {
			t.Fatalf("both policies begin with rule %s: a mix of them would not show", a)
		}
		swap := func(i int) {
			if _, err := r.judge.Swap(tables[i%2]); err != nil {
				t.Fatal(err)
			}
		}
		swap(0)
		processes := make([]*pod.Process, len(loops))
		for i, l := range loops {
			processes[i] = r.victim(containers[i], l.line)
			processes[i].Start(t)
		}
		swaps := 1
		for start := time.Now(); time.Since(start) < 7500*time.Millisecond; swaps++ {
			swap(swaps)
		}
		calls := 0
		for i, l := range loops {
			calls += r.tally(t, processes[i], l.line, l.passes)
		}
		t.Logf("%d calls judged during %d swaps", calls, swaps)
		if swaps < fewestSwaps {
			t.Errorf("only %d swaps, want %d", swaps, fewestSwaps)
		}
	})
}
