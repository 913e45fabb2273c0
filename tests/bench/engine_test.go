package bench

import (
	"net/netip"
	"reflect"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/policy/compile"
	"github.com/sallyport/sallyport/probes/judge"
	"github.com/sallyport/sallyport/tests/testutil"
	"github.com/sallyport/sallyport/tests/testutil/pod"
)

// changes is how many changes of each kind are measured.
const changes = 40

// TestChanges measures what a change takes from the input to the kernel's tables, compiled and put in force,
// where there are 10,000 rules in 1,000 rulesets: how long, and how much of a processor.
func TestChanges(t *testing.T) {
	if testutil.InVM() {
		t.Skip("nanoseconds of an emulated machine mean nothing")
	}
	k := open(t, pod.NewNode(t), false)
	defer k.Close() // the test is over
	in := fleet(t, 1_000)
	f := &force{compiler: compile.NewCompiler(compile.Enforced{}), judge: judge.Open(k)}
	wall, cpu := f.apply(t, in)
	rows := []row{{"10,000 rules over 1,000 workloads, the first time", 0, wall, "≤ 2 s"}, {"the same, of a processor", 0, cpu, ""}}
	gone := in.Workloads[500]
	for _, kind := range []struct {
		what   string
		change func(i int)
	}{
		{"a pod in the place of its like", func(i int) { in.Workloads[i*7%1_000].Key = uint64(1_000_000 + i) }},
		{"the only pod of a policy goes or comes", func(i int) {
			if i%2 == 0 {
				in.Workloads = slices.DeleteFunc(in.Workloads, func(w policy.Workload) bool { return w.Labels["app"] == gone.Labels["app"] })
				return
			}
			gone.Key = uint64(2_000_000 + i)
			in.Workloads = append(in.Workloads, gone)
		}},
		{"one policy says something else", func(i int) {
			in.Policies = slices.Clone(in.Policies)
			other := *in.Policies[i*7%1_000]
			other.Spec.Rules = slices.Clone(other.Spec.Rules)
			other.Spec.Rules[0].Egress = []policy.EgressRule{{ToCIDR: []netip.Prefix{cidr(i)}}}
			in.Policies[i*7%1_000] = &other
		}},
	} {
		var walls, cpus []time.Duration
		for i := range changes {
			in.Workloads = slices.Clone(in.Workloads)
			kind.change(i)
			wall, cpu := f.apply(t, in)
			walls, cpus = append(walls, wall), append(cpus, cpu)
		}
		rows = append(rows, row{kind.what, 0, median(walls), "≤ 200 ms"}, row{"the same, of a processor", 0, median(cpus), ""})
	}
	printTable("A change among 10,000 rules over 1,000 workloads, compiled and put in force", rows)
}

// force is what the agent's engine does with a change.
type force struct {
	compiler *compile.Compiler
	judge    *judge.Judge
	tables   *compile.Tables
}

// apply brings the kernel in line with an input and returns how long it took, and how much of a processor.
func (f *force) apply(t *testing.T, in policy.Input) (wall, cpu time.Duration) {
	t.Helper()
	begin, used := time.Now(), processor(t)
	tables, err := f.compiler.Compile(in)
	if err != nil {
		t.Fatal(err)
	}
	if reflect.DeepEqual(tables, f.tables) {
		t.Fatal("nothing has changed")
	}
	if _, err := f.judge.Swap(tables); err != nil {
		t.Fatal(err)
	}
	f.tables = tables
	return time.Since(begin), processor(t) - used
}

// processor is how much of a processor this process has used.
func processor(t *testing.T) time.Duration {
	t.Helper()
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
