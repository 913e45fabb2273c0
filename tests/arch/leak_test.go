package arch

import (
	"go/ast"
	"maps"
	"slices"
	"strings"
	"testing"
)

// verifiers are what a TestMain calls so that what tests leave behind fails them.
var verifiers = []string{"goleak.VerifyTestMain", "inventory.Main", "program.Main", "Main"}

// imported are packages by which tests touch the kernel.
var imported = []string{"github.com/cilium/ebpf", module + "/tests/testutil/attached", module + "/tests/testutil/pod", module + "/tests/testutil/program"}

// TestLeaksAreFound demands of each package that starts goroutines, and of each whose tests touch the kernel, that its tests fail
// if something of that is left.
func TestLeaksAreFound(t *testing.T) {
	starts, touches, verifies := map[string]bool{}, map[string]bool{}, map[string]bool{}
	for _, s := range sources(t) {
		switch {
		case !s.test() && !within(s.dir(), "tests"):
			starts[s.dir()] = starts[s.dir()] || startsGoroutines(s)
		case s.test() && within(s.dir(), "tests"):
			touches[s.dir()] = touches[s.dir()] || touchesKernel(t, s)
		}
		if s.test() {
			verifies[s.dir()] = verifies[s.dir()] || verifiesMain(s)
		}
	}
	for _, dir := range slices.Sorted(maps.Keys(starts)) {
		if starts[dir] && !verifies[dir] {
			t.Errorf("%s starts goroutines, and its tests have no TestMain that finds those they leave (goleak.VerifyTestMain)", dir)
		}
	}
	for _, dir := range slices.Sorted(maps.Keys(touches)) {
		if touches[dir] && !verifies[dir] {
			t.Errorf("tests in %s touch the kernel, and have no TestMain that finds what they leave there (inventory.Main)", dir)
		}
	}
}

func startsGoroutines(s *source) (found bool) {
	ast.Inspect(s.syntax, func(n ast.Node) bool {
		if _, ok := n.(*ast.GoStmt); ok {
			found = true
		}
		if call, ok := n.(*ast.CallExpr); ok {
			selector, ok := call.Fun.(*ast.SelectorExpr)
			found = found || ok && selector.Sel.Name == "Go" // of a group
		}
		return !found
	})
	return found
}

func touchesKernel(t *testing.T, s *source) bool {
	t.Helper()
	return slices.ContainsFunc(s.syntax.Imports, func(i *ast.ImportSpec) bool { return slices.Contains(imported, unquote(t, i.Path.Value)) })
}

func verifiesMain(s *source) (found bool) {
	for _, d := range s.syntax.Decls {
		f, ok := d.(*ast.FuncDecl)
		if !ok || f.Name.Name != "TestMain" {
			continue
		}
		ast.Inspect(f, func(n ast.Node) bool {
			if call, ok := n.(*ast.CallExpr); ok {
				found = found || slices.Contains(verifiers, name(call.Fun))
			}
			return !found
		})
	}
	return found
}

// name is how a function is called: pkg.Name or Name.
func name(fun ast.Expr) string {
	switch f := fun.(type) {
	case *ast.Ident:
		return f.Name
	case *ast.SelectorExpr:
		return strings.Join([]string{name(f.X), f.Sel.Name}, ".")
	}
	return ""
}
