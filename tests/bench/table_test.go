// Package bench measures what Sallyport costs, as ratios: against a no-op program on the same hook, or
// against no agent, in one run with alternating rounds. It prints one Markdown table; slowness never
// fails it. On a machine that does other things, the quickest batch of a round counts. Natively it measures programs by BPF_PROG_RUN and whole calls on the cgroup step, in a
// guest of tests/vm/vmrun whole calls under LSM: there with -icount -smp 1, so that a nanosecond is an
// instruction and the same table comes again whatever else the machine does.
package bench

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/tests/testutil/program"
)

func TestMain(m *testing.M) {
	if os.Getenv(envCaller) != "" {
		os.Exit(callerMain())
	}
	program.Main(m) // agents that were killed leave nothing
}

// row is one line of the table.
type row struct {
	what       string
	base, ours time.Duration // of one call or run; base 0: there is nothing to compare with
	budget     string
}

// nanos shows a duration without losing what counts.
func nanos(d time.Duration) string {
	if d >= 10*time.Microsecond {
		return fmt.Sprintf("%.1f µs", float64(d)/1e3)
	}
	return fmt.Sprintf("%d ns", d.Nanoseconds())
}

// printTable writes the rows as Markdown on standard output, unadorned, so that it can be pasted.
func printTable(title string, rows []row) {
	var b strings.Builder
	fmt.Fprintf(&b, "\n%s\n\n| what | base | Sallyport | over | ratio | budget |\n|---|---|---|---|---|---|\n", title)
	for _, r := range rows {
		if r.base == 0 {
			fmt.Fprintf(&b, "| %s | | %s | | | %s |\n", r.what, nanos(r.ours), r.budget)
			continue
		}
		over := (r.ours - r.base).Nanoseconds()
		fmt.Fprintf(&b, "| %s | %s | %s | %d ns | %.2f | %s |\n", r.what, nanos(r.base), nanos(r.ours), over, float64(r.ours)/float64(r.base), r.budget)
	}
	fmt.Fprintln(os.Stdout, b.String())
}

// alternate measures both sides in turns, so that what else the machine does meets both, and returns
// the medians.
func alternate(rounds int, base, ours func() time.Duration) (b, o time.Duration) {
	var bs, os []time.Duration
	for range rounds {
		bs, os = append(bs, base()), append(os, ours())
	}
	return median(bs), median(os)
}

func median(all []time.Duration) time.Duration {
	slices.Sort(all)
	return all[len(all)/2]
}
