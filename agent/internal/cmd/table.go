package cmd

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/sallyport/sallyport/agent/internal/alert"
)

// table writes columns. Every cell is escaped, so that what a workload put into a name is seen and
// not obeyed by the terminal. Nothing is written before flush.
type table struct {
	out    io.Writer
	buffer *bytes.Buffer
	w      *tabwriter.Writer
}

func newTable(out io.Writer) table {
	var b bytes.Buffer
	return table{out, &b, tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)}
}

// newSection is a table with an empty line above it and headings.
func newSection(out io.Writer, headings ...string) table {
	t := newTable(out)
	t.buffer.WriteByte('\n')
	t.row(headings...)
	return t
}

// row writes one line; empty cells at its end are left out.
func (t table) row(cells ...string) {
	last := len(cells)
	for last > 0 && cells[last-1] == "" {
		last--
	}
	shown := make([]string, last)
	for i, cell := range cells[:last] {
		shown[i] = visible(cell)
	}
	fmt.Fprintln(t.w, strings.Join(shown, "\t"))
}

// flush writes what was gathered.
func (t table) flush() error {
	if err := t.w.Flush(); err != nil {
		return fmt.Errorf("writing the answer: %w", err)
	}
	if _, err := t.out.Write(t.buffer.Bytes()); err != nil {
		return fmt.Errorf("writing the answer: %w", err)
	}
	return nil
}

// pad fills an escaped text up to a width; a longer one is kept whole.
func pad(text string, width int) string {
	return fmt.Sprintf("%-*s", width, alert.Escape(text))
}
