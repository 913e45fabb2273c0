package inventory

import (
	"errors"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/tests/testutil"
)

// envLeave makes this program tests that leave something behind.
const envLeave = "INVENTORY_LEAVE"

func TestMain(m *testing.M) { Main(m) }

// leavings are what tests may leave, and what is said of it. Each is reached from a variable, so that no collector takes it away.
var leavings = map[string]struct { //nolint:gochecknoglobals // a constant table
	leave func(*testing.T)
	said  string
}{
	"nothing": {func(*testing.T) {}, ""},
	"map": {func(t *testing.T) {
		m, err := ebpf.NewMap(&ebpf.MapSpec{Name: "left", Type: ebpf.Array, KeySize: 4, ValueSize: 4, MaxEntries: 1})
		keep(t, m, err)
	}, "anon_inode:bpf-map"},
	"socket": {func(t *testing.T) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		keep(t, l, err)
	}, "socket:["},
	"child": {func(t *testing.T) {
		cmd := exec.Command("sleep", "30")
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		keep(t, cmd, cmd.Start())
	}, "child "},
	"goroutine": {func(*testing.T) { go func() { select {} }() }, "goroutine"},
	"pin": {func(t *testing.T) {
		dir, err := os.MkdirTemp("", "sallyport-left-") //nolint:usetesting // the end of the test would take it away
		if err != nil {
			t.Fatal(err)
		}
		private := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "") // the namespace is this process's
		keep(t, dir, errors.Join(private, unix.Mount("bpf", dir, "bpf", 0, "")))
	}, "file system "},
}

var kept []any //nolint:gochecknoglobals // outlives the test

func keep(t *testing.T, thing any, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	kept = append(kept, thing)
}

// TestLeave leaves what it is told to, in a process of its own.
func TestLeave(t *testing.T) {
	what := os.Getenv(envLeave)
	if what == "" {
		what = "nothing"
	}
	leavings[what].leave(t)
}

func TestWhatIsLeftFailsTheTests(t *testing.T) {
	testutil.RequireRoot(t)
	for what, w := range leavings {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			cmd := exec.Command("/proc/self/exe", "-test.run=^TestLeave$")
			cmd.Env = append(os.Environ(), envLeave+"="+what, "TMPDIR="+t.TempDir())
			cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS} // the mount goes with it
			out, err := cmd.CombinedOutput()
			if failed := err != nil; failed != (w.said != "") || !strings.Contains(string(out), w.said) {
				t.Errorf("it ended with %v, and is to fail by %q:\n%s", err, w.said, out)
			}
		})
	}
}
