package arch

import (
	"go/ast"
	"regexp"
	"strings"
	"testing"
)

// The largest things there may be, in lines.
const (
	maxGoFile  = 500
	maxGoFunc  = 80
	maxGoTest  = 120
	maxMain    = 60
	maxBPFFile = 400
	maxBPFFunc = 80
	maxParams  = 4 // beyond a context
)

func TestGoSizes(t *testing.T) {
	for _, s := range sources(t) {
		if s.generated {
			continue
		}
		if s.lines > maxGoFile {
			t.Errorf("%s: %d lines, more than %d", s.path, s.lines, maxGoFile)
		}
		if s.path == "agent/main.go" && s.lines > maxMain {
			t.Errorf("%s: %d lines, more than %d", s.path, s.lines, maxMain)
		}
		for _, d := range s.syntax.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok {
				continue
			}
			most := maxGoFunc
			if s.test() {
				most = maxGoTest
			}
			if n := s.line(f.End()) - s.line(f.Pos()) + 1; n > most {
				t.Errorf("%s:%d: %s has %d lines, more than %d", s.path, s.line(f.Pos()), f.Name.Name, n, most)
			}
			if n := params(f.Type); n > maxParams && !s.test() {
				t.Errorf("%s:%d: %s has %d parameters, more than %d: take a struct", s.path, s.line(f.Pos()), f.Name.Name, n, maxParams)
			}
		}
	}
}

// params counts the parameters of a function, without contexts and what is variadic.
func params(f *ast.FuncType) int {
	n := 0
	for _, p := range f.Params.List {
		if selector, ok := p.Type.(*ast.SelectorExpr); ok && selector.Sel.Name == "Context" {
			continue
		}
		if _, variadic := p.Type.(*ast.Ellipsis); variadic {
			continue
		}
		n += max(1, len(p.Names))
	}
	return n
}

// A C function of ours begins in the first column with something that is no brace, comment,
// directive or label, and its body with a brace there; it ends with a brace there.
var (
	bodyBegins = regexp.MustCompile(`^\{\s*$`)
	bodyEnds   = regexp.MustCompile(`^\}\s*$`)
	licence    = regexp.MustCompile(`^(//|/\*) SPDX-License-Identifier: \(GPL-2\.0-only OR BSD-2-Clause\)( \*/)?\n`)
)

func TestBPFSources(t *testing.T) {
	found := 0
	walk(t, func(name string) {
		if !within(name, "bpf") || !strings.HasSuffix(name, ".c") && !strings.HasSuffix(name, ".h") {
			return
		}
		found++
		text := read(t, name)
		if !licence.MatchString(text) {
			t.Errorf("%s: the first line is no SPDX line with the dual licence", name)
		}
		if n := strings.Count(text, "\n"); n > maxBPFFile {
			t.Errorf("%s: %d lines, more than %d", name, n, maxBPFFile)
		}
		begin := 0
		for i, line := range strings.Split(text, "\n") {
			switch {
			case bodyBegins.MatchString(line):
				begin = i + 1
			case bodyEnds.MatchString(line) && begin > 0:
				if n := i + 1 - begin; n > maxBPFFunc {
					t.Errorf("%s:%d: a function of %d lines, more than %d", name, begin, n, maxBPFFunc)
				}
				begin = 0
			}
			if regexp.MustCompile(`^#include .*\.c[>"]`).MatchString(line) {
				t.Errorf("%s:%d: includes a .c file", name, i+1)
			}
		}
	})
	if found == 0 {
		t.Error("no source of a kernel program was found")
	}
}
