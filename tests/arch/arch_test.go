// Package arch holds the architecture as tests: who may import whom, how large things may be, how
// errors are worded, and that what is written down in two places is the same.
//
// It reads sources and imports only what it compares: policy, policy/compile and probes/event.
package arch

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

const (
	root   = "../.."
	module = "github.com/sallyport/sallyport"
)

// source is one Go file of the module.
type source struct {
	path      string // from the root, with slashes
	syntax    *ast.File
	fset      *token.FileSet
	lines     int
	generated bool
}

func (s *source) dir() string          { return path.Dir(s.path) }
func (s *source) test() bool           { return strings.HasSuffix(s.path, "_test.go") }
func (s *source) line(p token.Pos) int { return s.fset.Position(p).Line }

// walk calls visit for every file of the project below the root, except what git does not track.
func walk(t *testing.T, visit func(name string)) {
	t.Helper()
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, name)
		if err != nil {
			return err
		}
		rel = filepath.ToSlash(rel)
		if d.IsDir() {
			if rel == ".git" || rel == "build" {
				return fs.SkipDir
			}
			return nil
		}
		if d.Type().IsRegular() {
			visit(rel)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(root, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// sources parses every Go file of the main module. contrib/tools is a module of its own.
func sources(t *testing.T) []*source {
	t.Helper()
	var out []*source
	walk(t, func(name string) {
		if !strings.HasSuffix(name, ".go") || strings.HasPrefix(name, "contrib/") {
			return
		}
		text := read(t, name)
		fset := token.NewFileSet()
		syntax, err := parser.ParseFile(fset, name, text, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, &source{name, syntax, fset, strings.Count(text, "\n"), ast.IsGenerated(syntax)})
	})
	if len(out) < 10 {
		t.Fatalf("only %d Go files were found", len(out))
	}
	return out
}

// TestPackageComments demands exactly one comment for each package, and that it says something.
func TestPackageComments(t *testing.T) {
	type docs struct{ files, comments []string }
	packages := map[string]*docs{}
	for _, s := range sources(t) {
		// External test packages are documented by what they test.
		if strings.HasSuffix(s.syntax.Name.Name, "_test") {
			continue
		}
		key := s.dir()
		if packages[key] == nil {
			packages[key] = &docs{}
		}
		d := packages[key]
		d.files = append(d.files, s.path)
		if s.syntax.Doc == nil || s.generated {
			continue
		}
		d.comments = append(d.comments, s.path)
		text := s.syntax.Doc.Text()
		if s.syntax.Name.Name != "main" && !strings.HasPrefix(text, "Package "+s.syntax.Name.Name+" ") {
			t.Errorf("%s: the comment does not begin with Package %s", s.path, s.syntax.Name.Name)
		}
	}
	for dir, d := range packages {
		generated := dir == "agent/internal/api/v1" // documented in its .proto
		if len(d.comments) != 1 && !generated {
			t.Errorf("%s: %d package comments %v", dir, len(d.comments), d.comments)
		}
	}
}

// TestErrorWording holds the voice of errors: what was being done, in gerund, lower case.
func TestErrorWording(t *testing.T) {
	for _, s := range sources(t) {
		if s.test() || s.generated {
			continue
		}
		ast.Inspect(s.syntax, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok || len(call.Args) == 0 || !isErrorCall(call) {
				return true
			}
			literal, ok := call.Args[0].(*ast.BasicLit)
			if !ok {
				return true
			}
			text := strings.Trim(literal.Value, "`\"")
			where := s.line(call.Pos())
			if regexp.MustCompile(`(?i)\b(failed|unable|could not|error while)\b`).MatchString(text) {
				t.Errorf("%s:%d: %q: say what was being done: reading …, attaching …", s.path, where, text)
			}
			if regexp.MustCompile(`^[A-Z][a-z]`).MatchString(text) || strings.HasSuffix(text, ".") && !strings.HasSuffix(text, "..") {
				t.Errorf("%s:%d: %q: begin in lower case, end without a full stop", s.path, where, text)
			}
			return true
		})
	}
}

// isErrorCall says whether a call is errors.New or fmt.Errorf.
func isErrorCall(call *ast.CallExpr) bool {
	selector, ok := call.Fun.(*ast.SelectorExpr)
	if !ok {
		return false
	}
	from, ok := selector.X.(*ast.Ident)
	return ok && (from.Name == "errors" && selector.Sel.Name == "New" || from.Name == "fmt" && selector.Sel.Name == "Errorf")
}

// TestNoInit finds functions that run by being imported, and anonymous imports that only do that.
func TestNoInit(t *testing.T) {
	for _, s := range sources(t) {
		if s.generated {
			continue
		}
		for _, d := range s.syntax.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && f.Name.Name == "init" && f.Recv == nil {
				t.Errorf("%s:%d: an init function: call it from where it is needed", s.path, s.line(f.Pos()))
			}
		}
		for _, i := range s.syntax.Imports {
			if i.Name != nil && i.Name.Name == "_" && i.Path.Value != `"embed"` {
				t.Errorf("%s:%d: %s is imported for its side effects", s.path, s.line(i.Pos()), i.Path.Value)
			}
		}
	}
}
