package bench

import (
	"slices"
	"testing"
	"time"

	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/policy/compile"
	"github.com/sallyport/sallyport/probes/judge"
	"github.com/sallyport/sallyport/tests/testutil"
	"github.com/sallyport/sallyport/tests/testutil/pod"
)

const (
	churnFor   = 10 * time.Second
	churnEvery = 10 * time.Millisecond // a change: 100 a second
)

// TestChurn measures how much of a processor it takes to follow 100 changes a second for a while, where there are 10,000 rules in
// 1,000 rulesets, gathered as the agent's engine does it.
func TestChurn(t *testing.T) {
	if testutil.InVM() {
		t.Skip("nanoseconds of an emulated machine mean nothing")
	}
	k := open(t, pod.NewNode(t), false)
	defer k.Close() // the test is over
	var rows []row
	for _, kind := range []struct {
		what   string
		change func(in *policy.Input, i int)
	}{
		{"pods take the place of their likes", func(in *policy.Input, i int) { in.Workloads[i*7%1_000].Key = uint64(10_000_000 + i) }},
		{"the only pods of their policies come back as others", func(in *policy.Input, i int) {
			w := &in.Workloads[i*7%1_000] // with the labels of another, so that its rules are others than before
			w.Key, w.Labels = uint64(20_000_000+i), in.Workloads[(i*7+13)%1_000].Labels
		}},
	} {
		f := &force{compiler: compile.NewCompiler(compile.Enforced{}), judge: judge.Open(k)}
		in := fleet(t, 1_000)
		f.apply(t, in)
		share, changed, swaps := f.follow(t, in, kind.change)
		t.Logf("%s: %d changes in %d swaps", kind.what, changed, swaps)
		rows = append(rows, row{kind.what, 0, share, "≤ 100 ms"})
	}
	printTable("100 changes a second among 10,000 rules over 1,000 workloads: of a processor, in each second", rows)
}

// follow makes changes and puts them in force for a while. It returns what that took of a processor in a second, all of the process
// included, how many changes there were, and how often they were put in force.
func (f *force) follow(t *testing.T, in policy.Input, change func(*policy.Input, int)) (share time.Duration, changed, swaps int) {
	t.Helper()
	begin, used := time.Now(), processor(t)
	for time.Since(begin) < churnFor {
		in.Workloads = slices.Clone(in.Workloads)
		due := int(time.Since(begin)/churnEvery) + 1
		for ; changed < due; changed++ {
			change(&in, changed)
		}
		_, cost := f.apply(t, in)
		swaps++
		// As pauseAfter of agent/internal/daemon/pace.go.
		time.Sleep(min(max(100*time.Millisecond, 12*cost), time.Second))
	}
	return time.Duration(float64(processor(t)-used) / time.Since(begin).Seconds()), changed, swaps
}
