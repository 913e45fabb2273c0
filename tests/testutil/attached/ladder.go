package attached

import (
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/sallyport/sallyport/probes/event"
	"github.com/sallyport/sallyport/probes/judge"
	"github.com/sallyport/sallyport/tests/testutil"
	"github.com/sallyport/sallyport/tests/testutil/feature"
)

// Rung is a step of the ladder and what it needs of the kernel.
type Rung struct {
	Step     event.Step
	Probe    feature.Probe
	lackedVM bool // the kernels of the VM tier may lack it; else the machine's own may
}

// Ladder lists the steps, the strongest first. A kernel has in the end what it had at first: each is probed once.
func Ladder() []Rung { return ladder }

var ladder = []Rung{ //nolint:gochecknoglobals // a constant table
	{event.StepLSM, sync.OnceValue(feature.LSM), false},
	{event.StepModRet, sync.OnceValue(feature.ModRet), false},
	{event.StepCgroup, sync.OnceValue(feature.CgroupTaskStorage), true},
	{event.StepReport, sync.OnceValue(feature.Kprobe), false},
}

// envSteps names the steps that are tested, separated by commas, where not all are: what takes long is tested with one step on
// each of several kernels.
const envSteps = "SALLYPORT_STEPS"

// IsAsked says whether what could be tested on a step of the ladder is to be.
func IsAsked(step event.Step) bool {
	asked := os.Getenv(envSteps)
	return asked == "" || slices.Contains(strings.Split(asked, ","), judge.StepName(step))
}

// OnEachStep runs a test once for each step, with that step alone. Every step is tested in one of the
// tiers: a kernel that lacks a step which its tier must have is the unsupported feature step-NAME.
func OnEachStep(t *testing.T, test func(*testing.T, event.Step)) {
	t.Helper()
	testutil.RequireRoot(t)
	for _, r := range Ladder() {
		name := judge.StepName(r.Step)
		if !IsAsked(r.Step) {
			t.Logf("step %s is not asked for here", name)
			continue
		}
		lack := r.Probe()
		if lack != nil && r.lackedVM == testutil.InVM() {
			t.Logf("step %s is tested on other kernels: %v", name, lack)
			continue
		}
		t.Run(name, func(t *testing.T) {
			if lack != nil {
				testutil.Unsupported(t, "step-"+name, lack.Error())
			}
			test(t, r.Step)
		})
	}
}

// OnEachEnforcingStep leaves out the step that only reports.
func OnEachEnforcingStep(t *testing.T, test func(*testing.T, event.Step)) {
	t.Helper()
	OnEachStep(t, func(t *testing.T, step event.Step) {
		if step == event.StepReport {
			return // it stops nothing
		}
		test(t, step)
	})
}
