package arch

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"
)

// link is a markdown link that is no address on the net.
var link = regexp.MustCompile(`\]\(([^)#\s]+)(#[^)\s]*)?\)`)

// TestLinks follows the relative links of every markdown file.
func TestLinks(t *testing.T) {
	walk(t, func(name string) {
		if !strings.HasSuffix(name, ".md") {
			return
		}
		for _, m := range link.FindAllStringSubmatch(read(t, name), -1) {
			if strings.Contains(m[1], "://") || strings.HasPrefix(m[1], "mailto:") {
				continue
			}
			if _, err := os.Stat(filepath.Join(root, filepath.Dir(name), m[1])); err != nil {
				t.Errorf("%s: the link to %s leads nowhere", name, m[1])
			}
		}
	})
}

// TestNoMachinePaths keeps folders of whoever wrote a file out of it, objects included. The
// patterns are put together here so that they do not find themselves.
func TestNoMachinePaths(t *testing.T) {
	home := regexp.MustCompile(`(^|[\s"'=(:,` + "`" + `])/(` + strings.Join([]string{"ro" + "ot", "wo" + "rk", "home", "Users"}, "|") + `)/[A-Za-z0-9._-]`)
	registry := regexp.MustCompile(`pro` + `xy\.golang|su` + `m\.golang|registry\.npm`)
	walk(t, func(name string) {
		text := read(t, name)
		for _, pattern := range []*regexp.Regexp{home, registry} {
			if at := pattern.FindStringIndex(text); at != nil {
				t.Errorf("%s:%d: %q belongs to one machine", name, 1+strings.Count(text[:at[0]], "\n"), text[at[0]:at[1]])
			}
		}
	})
}

// TestText finds what editors leave behind: trailing blanks, carriage returns, a last line without
// an end, bytes that are no UTF-8, and characters that show text in another order than it is.
func TestText(t *testing.T) {
	bidi := regexp.MustCompile(`[\x{202a}-\x{202e}\x{2066}-\x{2069}]`)
	walk(t, func(name string) {
		switch filepath.Ext(name) {
		case ".go", ".c", ".h", ".md", ".yaml", ".yml", ".sh", ".proto", ".txtar", "":
		default:
			return
		}
		text := read(t, name)
		switch {
		case text == "":
			return
		case !utf8.ValidString(text):
			t.Errorf("%s: is no UTF-8", name)
		case strings.Contains(text, "\r"):
			t.Errorf("%s: has carriage returns", name)
		case !strings.HasSuffix(text, "\n"):
			t.Errorf("%s: the last line has no end", name)
		case bidi.MatchString(text):
			t.Errorf("%s: has characters that reorder text", name)
		}
		for i, line := range strings.Split(text, "\n") {
			if strings.TrimRight(line, " \t") != line {
				t.Errorf("%s:%d: blanks at the end", name, i+1)
			}
		}
	})
}

// Every target that a document or the CI names must be one of the Makefile.
func TestMakeTargets(t *testing.T) {
	targets := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^([a-z][a-z-]*):`).FindAllStringSubmatch(read(t, "Makefile"), -1) {
		targets[m[1]] = true
	}
	walk(t, func(name string) {
		if !strings.HasSuffix(name, ".md") && !within(name, ".ci") {
			return
		}
		for _, m := range regexp.MustCompile("(?m)(?:^|`)make ([a-z][a-z-]*)").FindAllStringSubmatch(read(t, name), -1) {
			if !targets[m[1]] {
				t.Errorf("%s: there is no make %s", name, m[1])
			}
		}
	})
}
