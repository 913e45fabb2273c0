// Package script runs the real program as a user does: command lines, what they print, how they
// end. It imports nothing of this module; the program is built and started.
package script

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

var update = flag.Bool("update", false, "rewrite what the scripts expect of cmp by what they got")

// nobody is the user that a script means by that word: any but root.
const nobody = 65534

func TestScripts(t *testing.T) {
	bin := build(t)
	examples, err := filepath.Abs("../../contrib/policies")
	if err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Dir:           "testdata",
		UpdateScripts: *update,
		Setup: func(env *testscript.Env) error {
			env.Setenv("EXAMPLES", examples)
			env.Setenv("PATH", bin+string(os.PathListSeparator)+env.Getenv("PATH"))
			return nil
		},
		Condition: func(name string) (bool, error) {
			if name == "root" {
				return os.Geteuid() == 0, nil
			}
			return false, fmt.Errorf("unknown condition %q", name)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"exits": exits},
	})
}

// build makes the programs in a folder that every user can read.
func build(t *testing.T) string {
	t.Helper()
	bin, err := os.MkdirTemp("", "sallyport-script") //nolint:usetesting // nobody could not look into t.TempDir
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(bin) })
	if err := os.Chmod(bin, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, dir := range map[string]string{"sallyport": "../../agent", "sallyport-hook": "../../agent/hook"} {
		cmd := exec.CommandContext(t.Context(), "go", "build", "-o", filepath.Join(bin, name), dir)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("building %s: %v\n%s", name, err, out)
		}
	}
	return bin
}

// exits runs a program and demands an exit code: exits CODE [nobody] [<FILE] PROGRAM ARGUMENT… What it
// wrote is then in the files stdout and stderr. With nobody it runs as that user, for which the
// script must be root. FILE is its standard input.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE [nobody] [<FILE] PROGRAM ARGUMENT…")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	args = args[1:]
	dir := ts.Getenv("WORK")
	var attributes syscall.SysProcAttr
	if args[0] == "nobody" {
		args, dir = args[1:], "/"
		attributes.Credential = &syscall.Credential{Uid: nobody, Gid: nobody}
	}
	var stdin []byte
	if file, ok := strings.CutPrefix(args[0], "<"); ok {
		stdin, err = os.ReadFile(ts.MkAbs(file))
		ts.Check(err)
		args = args[1:]
	}
	path, err := exec.LookPath(filepath.Join(filepath.SplitList(ts.Getenv("PATH"))[0], args[0]))
	ts.Check(err)
	cmd := exec.Command(path, args[1:]...)
	var stdout, stderr bytes.Buffer
	cmd.Dir, cmd.Stdout, cmd.Stderr, cmd.SysProcAttr = dir, &stdout, &stderr, &attributes
	cmd.Stdin = bytes.NewReader(stdin)
	cmd.Env = []string{"PATH=" + ts.Getenv("PATH")}
	got := 0
	if err := cmd.Run(); err != nil {
		var exit *exec.ExitError
		if !errors.As(err, &exit) {
			ts.Fatalf("running %s: %v", args[0], err)
		}
		got = exit.ExitCode()
	}
	ts.Check(os.WriteFile(ts.MkAbs("stdout"), stdout.Bytes(), 0o600))
	ts.Check(os.WriteFile(ts.MkAbs("stderr"), stderr.Bytes(), 0o600))
	if got != want {
		ts.Fatalf("%v ended with %d, not %d\n%s%s", args, got, want, stdout.Bytes(), stderr.Bytes())
	}
}
