// Package victim owns the program that the tests let loose on Sallyport: it tries to reach the network in every way the
// tests know of, out of every kind of process (the *.c files here; run the program without arguments for what it
// knows). It imports tests/testutil only.
//
// By hand: cc -static -O2 -pthread -o victim tests/victim/*.c
package victim

import (
	"embed"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"

	"github.com/sallyport/sallyport/tests/testutil"
)

// envBinary names a victim that was built before, for places without a compiler.
const envBinary = "SALLYPORT_VICTIM"

//go:embed *.c *.h
var sources embed.FS

// compiled is the program's bytes: made at most once in a test binary, written out anew for every test that asks.
var compiled = sync.OnceValues(compile)

// Build returns the path of the victim, a static executable that t may run, copy and link to. It is the one that
// SALLYPORT_VICTIM names, or else is compiled, and is removed with t's temporary directory. Without a C compiler t is
// skipped, or fails as testutil.Unsupported says.
func Build(t testing.TB) string {
	t.Helper()
	if ready := os.Getenv(envBinary); ready != "" {
		if _, err := os.Stat(ready); err != nil {
			t.Fatalf("using the victim of %s: %v", envBinary, err)
		}
		return ready
	}
	if _, err := exec.LookPath("cc"); err != nil {
		testutil.Unsupported(t, "cc", err.Error())
	}
	program, err := compiled()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "victim")
	// While a file is open for writing, another goroutine's fork would inherit it and make its execution ETXTBSY.
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	if err := os.WriteFile(file, program, 0o755); err != nil {
		t.Fatalf("writing the victim: %v", err)
	}
	return file
}

func compile() ([]byte, error) {
	dir, err := os.MkdirTemp("", "victim")
	if err != nil {
		return nil, fmt.Errorf("making a directory to compile the victim in: %w", err)
	}
	defer func() { _ = os.RemoveAll(dir) }() // what is left in the temporary directory harms nothing
	if err := os.CopyFS(dir, sources); err != nil {
		return nil, fmt.Errorf("copying the victim's sources: %w", err)
	}
	files, err := fs.Glob(sources, "*.c")
	if err != nil {
		return nil, fmt.Errorf("listing the victim's sources: %w", err)
	}
	cmd := exec.Command("cc", append([]string{"-static", "-O2", "-std=gnu11", "-Wall", "-Wextra", "-pthread", "-o", "victim"}, files...)...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("compiling the victim: %w\n%s", err, out)
	}
	program, err := os.ReadFile(filepath.Join(dir, "victim"))
	if err != nil {
		return nil, fmt.Errorf("reading the compiled victim: %w", err)
	}
	return program, nil
}
