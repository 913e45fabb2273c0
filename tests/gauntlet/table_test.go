package gauntlet

import (
	_ "embed"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/probes/event"
)

// Cells, from the worst. A call that is stopped is better than what it sends.
const (
	through  = "**gets through**"
	reported = "**gets through**, reported"
	atVeth   = "packet at the veth"
	atSocket = "packet at the socket"
	untried  = "–" // not where it was measured
)

//go:embed table.md
var table string

//go:embed l7.md
var tableL7 string

// results are the cells of a table by attack and title of the step.
type results map[string]map[string]string

// committed reads a table.
func committed(table string) results {
	r := results{}
	var steps []string
	for line := range strings.Lines(table) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		switch {
		case !strings.HasPrefix(line, "|") || strings.HasPrefix(cells[0], "---"):
		case steps == nil:
			steps = cells[1:]
		default:
			r[cells[0]] = map[string]string{}
			for i, cell := range cells[1:] {
				r[cells[0]][steps[i]] = cell
			}
		}
	}
	return r
}

func rank(cell string) int {
	switch cell {
	case through:
		return 0
	case reported:
		return 1
	case atVeth:
		return 2
	case atSocket:
		return 3
	}
	return 4
}

// compare fails where what was measured is worse than what is committed, or not there at all.
func (r results) compare(t *testing.T, name string, step event.Step, cell string) {
	t.Helper()
	known, ok := r[name][title(step)]
	switch {
	case !ok || known == untried:
		t.Errorf("%s: %s, which the table does not say", name, cell)
	case rank(cell) < rank(known):
		t.Errorf("%s: %s, worse than %s in the table", name, cell, known)
	case cell != known:
		t.Logf("%s: %s, in the table %s", name, cell, known)
	}
}

// printTable writes what was measured as Markdown, as table.md has it.
func printTable(names []string, measured map[event.Step][]string) {
	var b strings.Builder
	b.WriteString("\n| attack |")
	rule := "\n|---|"
	for _, step := range columns() {
		if measured[step] != nil {
			fmt.Fprintf(&b, " %s |", title(step))
			rule += "---|"
		}
	}
	b.WriteString(rule + "\n")
	for i, name := range names {
		fmt.Fprintf(&b, "| %s |", name)
		for _, step := range columns() {
			if i < len(measured[step]) {
				fmt.Fprintf(&b, " %s |", measured[step][i])
			}
		}
		b.WriteString("\n")
	}
	fmt.Fprintln(os.Stdout, b.String())
}

// limits are those of attacks, by their names.
type limits map[string]string

// check: a table has every attack and every step, and says of what gets through why.
func (r results) check(t *testing.T, all limits) {
	t.Helper()
	for name, limit := range all {
		row, ok := r[name]
		if !ok {
			t.Errorf("there is no row %s", name)
			continue
		}
		delete(r, name)
		for _, step := range columns() {
			if cell := row[title(step)]; cell == "" {
				t.Errorf("nothing is said of %s on %s", name, title(step))
			} else if (cell == through || cell == reported) && limit == "" {
				t.Errorf("%s gets through on %s, and nothing says why", name, title(step))
			}
		}
		if row["limit"] != limit {
			t.Errorf("of %s it is said %q, not %q", name, row["limit"], limit)
		}
	}
	for name := range r {
		t.Errorf("there is a row %s, which is no attack", name)
	}
}

func TestTable(t *testing.T) {
	t.Parallel()
	all, said := limits{}, limits{}
	for _, a := range attacks() {
		all[a.name] = a.limit
	}
	committed(table).check(t, all)
	for _, a := range sayings(t) {
		said[a.name] = a.limit
	}
	committed(tableL7).check(t, said)
}
