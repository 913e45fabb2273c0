package policy

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// Error is one thing that is wrong with a policy file.
type Error struct {
	File    string `json:"file"`           // as given to Parse
	Line    int    `json:"line"`           // from 1; 0: the file as a whole
	Column  int    `json:"column"`         // from 1; 0: the line as a whole
	Field   string `json:"field,omitzero"` // spec.rules[0].egress[0].toCIDR[1]; "": the document
	Message string `json:"message"`
	Hint    string `json:"hint,omitzero"` // what would be right
}

// Error returns file:line:column: field: message: hint, on one line and without control
// characters.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(plain(e.File))
	for _, n := range []int{e.Line, e.Column} {
		if n > 0 {
			fmt.Fprintf(&b, ":%d", n)
		}
	}
	for _, part := range []string{e.Field, e.Message, e.Hint} {
		if part != "" {
			b.WriteString(": " + part)
		}
	}
	return b.String()
}

// Errors is everything that is wrong with a file, in the order of its lines.
type Errors []*Error

// Error returns one line for each error.
func (e Errors) Error() string {
	lines := make([]string, len(e))
	for i, err := range e {
		lines[i] = err.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap returns the errors one by one.
func (e Errors) Unwrap() []error {
	out := make([]error, len(e))
	for i, err := range e {
		out[i] = err
	}
	return out
}

// sorted orders the errors by place.
func (e Errors) sorted() Errors {
	slices.SortStableFunc(e, func(a, b *Error) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	return e
}

const maxQuoted = 64 // bytes of a file's own text in a message

// quote shows a value of a file in a message: bounded, and with everything escaped that could
// forge a second line or move a terminal's cursor.
func quote(s string) string {
	if len(s) > maxQuoted {
		return strconv.QuoteToASCII(s[:maxQuoted]) + "…"
	}
	return strconv.QuoteToGraphic(s)
}

// plain returns s as it is if it shows as it is, else quoted.
func plain(s string) string {
	for _, r := range s {
		if !unicode.IsGraphic(r) || r == unicode.ReplacementChar {
			return strconv.QuoteToASCII(s)
		}
	}
	return s
}

// list shows words as people enumerate them: a, b or c.
func list(words []string) string {
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	last := len(words) - 1
	return strings.Join(words[:last], ", ") + " or " + words[last]
}

// closest returns the word that somebody who wrote s probably meant.
func closest(s string, words []string) (word string, ok bool) {
	if len(s) > maxQuoted {
		return "", false
	}
	best := len(s)/3 + 1
	for _, w := range words {
		if d := distance(strings.ToLower(s), strings.ToLower(w)); d < best || d == best && !ok {
			best, word, ok = d, w, true
		}
	}
	return word, ok
}

// distance returns how many bytes must be put in, taken out, changed or swapped with their
// neighbour to make b of a.
func distance(a, b string) int {
	rows := make([][]int, len(a)+1)
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
		rows[i][0] = i
		for j := 1; j <= len(b); j++ {
			if i == 0 {
				rows[i][j] = j
				continue
			}
			change := rows[i-1][j-1]
			if a[i-1] != b[j-1] {
				change++
			}
			rows[i][j] = min(rows[i-1][j]+1, rows[i][j-1]+1, change)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				rows[i][j] = min(rows[i][j], rows[i-2][j-2]+1)
			}
		}
	}
	return rows[len(a)][len(b)]
}
