package config

import (
	"fmt"
	"strings"
)

// Error is one thing that is wrong with the configuration.
type Error struct {
	Source  string // where the value came from: file:line, --flag or SALLYPORT_…; "" for a default
	Key     string // alerts.syslog.network; "" for the file as a whole
	Message string
	Hint    string // what would be right
}

// Error returns source: key: message: hint, on one line.
func (e *Error) Error() string {
	parts := make([]string, 0, 4)
	for _, part := range []string{e.Source, e.Key, e.Message, e.Hint} {
		if part != "" {
			parts = append(parts, part)
		}
	}
	return strings.Join(parts, ": ")
}

// quote shows a value in a message: bounded and on one line.
func quote(s string) string {
	const most = 64
	if len(s) > most {
		return fmt.Sprintf("%+q…", s[:most])
	}
	return fmt.Sprintf("%q", s)
}

// list shows words as people enumerate them: a, b or c.
func list[T ~string](words []T) string {
	var b strings.Builder
	for i, word := range words {
		switch {
		case i == 0:
		case i == len(words)-1:
			b.WriteString(" or ")
		default:
			b.WriteString(", ")
		}
		b.WriteString(string(word))
	}
	return b.String()
}
