// Package node holds the tests on a node as Kubernetes uses it: a containerd with its CRI plugin, runc and the CNI
// bridge, pods and execs made over the CRI, and the agent as an operator runs it. Everything lives in mount and network
// namespaces of the tests' own; PIDs, cgroups and the kernel programs are the machine's. They need root, and Debian's
// packages containerd, runc, containernetworking-plugins and busybox-static (contrib/tools/setup.sh node); containerd 2
// is built once from the module in the folder containerd.
package node

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/tests/testutil"
)

const (
	envBinary = "SALLYPORT_BINARY"     // an agent that was built before
	envStage  = "SALLYPORT_TEST_STAGE" // set: the tests have their mount namespace
)

// TestMain runs the tests in a mount namespace of their own: however they end, with it go the BPF file systems that
// they mounted, and with those what agents have attached.
func TestMain(m *testing.M) {
	if os.Geteuid() != 0 {
		m.Run() // every test says that it needs root
		return
	}
	if os.Getenv(envStage) != "" {
		if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
			fmt.Fprintln(os.Stderr, "making mounts private:", err)
			os.Exit(1)
		}
		m.Run()
		return
	}
	code, err := inOwnMounts()
	if err != nil {
		fmt.Fprintln(os.Stderr, "running the tests in a mount namespace of their own:", err)
	}
	os.Exit(code)
}

func inOwnMounts() (code int, err error) {
	runtime.LockOSThread() // the tests end with this thread
	dir, err := os.MkdirTemp("", "sallyport-node-")
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

// compiled is the agent's program, built once.
var compiled = sync.OnceValues(func() (string, error) {
	file := filepath.Join(os.Getenv(envStage), "sallyport")
	cmd := exec.Command("go", "build", "-ldflags", "-s -w", "-o", file, "github.com/sallyport/sallyport/agent")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building the agent: %w\n%s", err, out)
	}
	return file, nil
})

// binary returns the path of the agent's program.
func binary(t *testing.T) string {
	t.Helper()
	testutil.RequireRoot(t)
	if ready := os.Getenv(envBinary); ready != "" {
		return ready
	}
	if _, err := exec.LookPath("go"); err != nil {
		testutil.Unsupported(t, "go", err.Error())
	}
	file, err := compiled()
	if err != nil {
		t.Fatal(err)
	}
	return file
}
