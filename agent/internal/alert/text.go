package alert

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

// cutMark ends a text that was cut. Escape doubles every backslash, so no workload can make it.
const cutMark = `\...`

// Escape makes hostile text safe to print, and keeps every byte of it: what is not printable
// (controls, line and paragraph separators, bidirectional marks) and bytes that are not UTF-8
// become Go escapes such as \n, \x1b and \u202e, and a backslash is doubled. strconv.UnquoteChar
// with quote 0 turns it back.
func Escape(s string) string {
	plain := true
	for i := range len(s) {
		if c := s[i]; c < ' ' || c >= utf8.RuneSelf-1 || c == '\\' {
			plain = false
			break
		}
	}
	if plain {
		return s
	}
	buf := make([]byte, 0, len(s)+len(s)/4)
	for i := 0; i < len(s); {
		r, width := utf8.DecodeRuneInString(s[i:])
		buf = appendEscaped(buf, s[i:i+width], r)
		i += width
	}
	return string(buf)
}

// appendEscaped appends one rune, whose bytes are raw.
func appendEscaped(dst []byte, raw string, r rune) []byte {
	const hex = "0123456789abcdef"
	switch {
	case r == '\\':
		return append(dst, `\\`...)
	case r == utf8.RuneError && len(raw) == 1: // not UTF-8: the byte itself
		return append(dst, '\\', 'x', hex[raw[0]>>4], hex[raw[0]&0xf])
	case strconv.IsPrint(r):
		return append(dst, raw...)
	}
	quoted := strconv.QuoteRuneToASCII(r)
	return append(dst, quoted[1:len(quoted)-1]...)
}

// Cut shortens an escaped text to at most limit units, mark included, where cost says how many
// units a piece of the text takes (a sink that escapes once more counts that). It cuts between
// characters and between escapes, never inside one.
func Cut(s string, limit int, cost func(string) int) string {
	if cost(s) <= limit {
		return s
	}
	room := limit - cost(cutMark)
	if room < 0 {
		return ""
	}
	end := 0
	for end < len(s) {
		n := unitLen(s[end:])
		c := cost(s[end : end+n])
		if c > room {
			break
		}
		room -= c
		end += n
	}
	return s[:end] + cutMark
}

// unitLen is the length of the first character or escape of an escaped text.
func unitLen(s string) int {
	if s[0] != '\\' || len(s) == 1 {
		_, width := utf8.DecodeRuneInString(s)
		return width
	}
	n := 2
	switch s[1] {
	case 'x':
		n = 4
	case 'u':
		n = 6
	case 'U':
		n = 10
	case '.':
		n = len(cutMark)
	}
	return min(n, len(s))
}

// joinArgs writes an argument vector as one text. An argument with a space, a quote or nothing in
// it is quoted, so that the borders between arguments cannot be forged.
func joinArgs(args []string) string {
	var b strings.Builder
	for i, arg := range args {
		if i > 0 {
			b.WriteByte(' ')
		}
		text := Escape(arg)
		if text == "" || strings.ContainsAny(text, ` "'`) {
			text = `"` + strings.ReplaceAll(text, `"`, `\"`) + `"`
		}
		b.WriteString(text)
	}
	return b.String()
}
