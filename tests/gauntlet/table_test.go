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
	atVeth   = "packet at the veth"
	atSocket = "packet at the socket"
	untried  = "–" // not where it was measured
)

//go:embed table.md
var table string

// results are the cells of a table by attack and title of the step.
type results map[string]map[string]string

// committed reads table.md.
func committed(t *testing.T) results {
	t.Helper()
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
	case atVeth:
		return 1
	case atSocket:
		return 2
	}
	return 3
}

// compare fails where what was measured is worse than what is committed, or not there at all.
func (r results) compare(t *testing.T, name string, step event.Step, cell string) {
	t.Helper()
	known, ok := r[name][title(step)]
	switch {
	case !ok || known == untried:
		t.Errorf("%s: %s, which table.md does not say", name, cell)
	case rank(cell) < rank(known):
		t.Errorf("%s: %s, worse than %s in table.md", name, cell, known)
	case cell != known:
		t.Logf("%s: %s, in table.md %s", name, cell, known)
	}
}

// printTable writes what was measured as Markdown, as table.md has it.
func printTable(all []attack, measured map[event.Step][]string) {
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
	for i, a := range all {
		fmt.Fprintf(&b, "| %s |", a.name)
		for _, step := range columns() {
			if i < len(measured[step]) {
				fmt.Fprintf(&b, " %s |", measured[step][i])
			}
		}
		b.WriteString("\n")
	}
	fmt.Fprintln(os.Stdout, b.String())
}

// TestTable: the table has every attack and every step, and says of what gets through why.
func TestTable(t *testing.T) {
	t.Parallel()
	known := committed(t)
	for _, a := range attacks() {
		row, ok := known[a.name]
		if !ok {
			t.Errorf("table.md has no row %s", a.name)
			continue
		}
		delete(known, a.name)
		for _, step := range columns() {
			if cell := row[title(step)]; cell == "" {
				t.Errorf("table.md says nothing of %s on %s", a.name, title(step))
			} else if cell == through && a.limit == "" {
				t.Errorf("%s gets through on %s, and nothing says why", a.name, title(step))
			}
			if limit := row["limit"]; limit != a.limit {
				t.Errorf("table.md says of %s %q, not %q", a.name, limit, a.limit)
			}
		}
	}
	for name := range known {
		t.Errorf("table.md has a row %s, which is no attack", name)
	}
}
