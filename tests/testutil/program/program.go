// Package program serves tests of the agent as an operator runs it: it builds the program, and keeps what it leaves behind
// in a mount namespace. It imports testutil and inventory only.
package program

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/tests/testutil"
	"github.com/sallyport/sallyport/tests/testutil/inventory"
)

const (
	envBinary = "SALLYPORT_BINARY"     // an agent that was built before
	envHook   = "SALLYPORT_HOOK"       // its OCI hook, the same
	envStage  = "SALLYPORT_TEST_STAGE" // set: the tests have their mount namespace
)

// Main is the TestMain of tests that run agents: they get a mount namespace of their own, with which, however they end,
// the BPF file systems go that they mounted, and with those what agents have attached.
func Main(m *testing.M) {
	if os.Geteuid() != 0 {
		m.Run() // every test says that it needs root
		return
	}
	if os.Getenv(envStage) != "" {
		if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
			fmt.Fprintln(os.Stderr, "making mounts private:", err)
			os.Exit(1)
		}
		inventory.Main(m)
	}
	code, err := inOwnMounts()
	if err != nil {
		fmt.Fprintln(os.Stderr, "running the tests in a mount namespace of their own:", err)
	}
	os.Exit(code)
}

func inOwnMounts() (code int, err error) {
	runtime.LockOSThread() // the tests end with this thread
	dir, err := os.MkdirTemp("", "sallyport-tests-")
	if err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), envStage+"="+dir)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	err = cmd.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return max(exit.ExitCode(), 1), nil
	}
	return cmd.ProcessState.ExitCode(), err
}

// compiled and compiledHook are the programs, each built once.
var (
	compiled     = sync.OnceValues(func() (string, error) { return compile("sallyport", "agent") })
	compiledHook = sync.OnceValues(func() (string, error) { return compile("sallyport-hook", "agent/hook") })
)

func compile(name, dir string, flags ...string) (string, error) {
	file := filepath.Join(os.Getenv(envStage), name)
	args := slices.Concat([]string{"build", "-ldflags", "-s -w"}, flags, []string{"-o", file, "github.com/sallyport/sallyport/" + dir})
	cmd := exec.Command("go", args...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building %s: %w\n%s", name, err, out)
	}
	return file, nil
}

// Binary returns the path of the agent's program, built once; SALLYPORT_BINARY names one that was built before.
func Binary(t testing.TB) string {
	t.Helper()
	return ready(t, envBinary, compiled)
}

// Hook is Binary of the program that OCI runtimes call; SALLYPORT_HOOK names one that was built before.
func Hook(t testing.TB) string {
	t.Helper()
	return ready(t, envHook, compiledHook)
}

func ready(t testing.TB, env string, build func() (string, error)) string {
	t.Helper()
	testutil.RequireRoot(t)
	if file := os.Getenv(env); file != "" {
		return file
	}
	if _, err := exec.LookPath("go"); err != nil {
		testutil.Unsupported(t, "go", err.Error())
	}
	file, err := build()
	if err != nil {
		t.Fatal(err)
	}
	return file
}
