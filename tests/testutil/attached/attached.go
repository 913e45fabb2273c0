// Package attached puts a kernel side of a test's own in place, as the agent does when it starts: tables of no policy in
// force, labels, then JUDGE. What else a test needs it attaches itself.
package attached

import (
	"testing"

	"github.com/sallyport/sallyport/policy/compile"
	"github.com/sallyport/sallyport/probes"
	"github.com/sallyport/sallyport/probes/event"
	"github.com/sallyport/sallyport/probes/judge"
	"github.com/sallyport/sallyport/probes/label"
	"github.com/sallyport/sallyport/tests/testutil/pod"
)

// Enforcing lists the steps of the ladder on which something is stopped.
func Enforcing() []event.Step {
	return []event.Step{event.StepLSM, event.StepModRet, event.StepCgroup}
}

// Open puts it in place for the containers of a node, on these steps. Of cfg only what is no place counts. Maps and
// programs may be those of the test before (Reuse). Nothing of it is in force after the test.
func Open(t testing.TB, node *pod.Node, cfg probes.Config, steps []event.Step) (*probes.Kernel, *judge.Judge) {
	t.Helper()
	cfg.BPFFS, cfg.PinDir, cfg.CgroupRoot, cfg.ContainerParents = node.BPFFS, "sallyport", node.CgroupRoot, []string{node.Parent}
	k, err := probes.Open(Reuse(t, cfg))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = k.Close() })
	j := judge.Open(k)
	if _, err := j.Swap(&compile.Tables{Rulesets: []*compile.Ruleset{{}}}); err != nil {
		t.Fatal(err)
	}
	if _, err := label.Attach(k); err != nil {
		t.Fatal(err)
	}
	if err := j.Attach(steps); err != nil {
		t.Fatal(err)
	}
	return k, j
}

// InForce compiles policies by what may be asked of the kernel, and puts them in force.
func InForce(t testing.TB, j *judge.Judge, enforced compile.Enforced, in compile.Input) {
	t.Helper()
	tables, err := enforced.Compile(in)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := j.Swap(tables); err != nil {
		t.Fatal(err)
	}
}
