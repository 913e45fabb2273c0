package victim

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/tests/testutil"
)

// process is what /proc says of the process that made the attempt, while it still stood there.
type process struct {
	pid, parent, session int
	exe, comm, dir       string
	args                 []string
	parentArgs           string // command line of its parent, NULs as blanks
	cgroup, pids         string // pids: in every pid namespace it is in, blank separated
}

// inspect runs the transforms with an attempt that connects to a unix socket here and stays, looks at the process at the
// other end, lets it go, and checks the line and the exit code that come back.
func inspect(t *testing.T, program, transforms string) (first int, last process) {
	t.Helper()
	dir, err := os.MkdirTemp("", "v") //nolint:usetesting // a short path: a unix socket's is limited, and so is the first line of a script
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(dir, "s"), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	if err := listener.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	line := strings.Fields(transforms + " -- unix-connect " + filepath.Join(dir, "s") + " 10000")
	cmd := exec.CommandContext(t.Context(), program, line...)
	var stdout, stderr strings.Builder
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	cmd.WaitDelay = 20 * time.Second
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	conn, err := listener.AcceptUnix()
	if err != nil {
		_ = cmd.Wait() // its output says more
		t.Fatalf("victim %s never connected: %v\n%s", transforms, err, stderr.String())
	}
	last = look(t, peerPID(t, conn))
	if err := conn.Close(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil || stdout.String() != "unix-connect: ok\n" {
		t.Errorf("victim %s: printed %q: %v\n%s", transforms, stdout.String(), err, stderr.String())
	}
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	return cmd.Process.Pid, last
}

func peerPID(t *testing.T, conn *net.UnixConn) int {
	t.Helper()
	raw, err := conn.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var cred *unix.Ucred
	var credErr error
	if err := raw.Control(func(fd uintptr) { cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); err != nil {
		t.Fatal(err)
	}
	if credErr != nil {
		t.Fatal(credErr)
	}
	return int(cred.Pid)
}

func look(t *testing.T, pid int) process {
	t.Helper()
	p := process{pid: pid, comm: proc(t, pid, "comm"), cgroup: proc(t, pid, "cgroup")}
	p.args = strings.Split(strings.TrimSuffix(proc(t, pid, "cmdline"), "\x00"), "\x00")
	for link, to := range map[string]*string{"exe": &p.exe, "cwd": &p.dir} {
		target, err := os.Readlink(fmt.Sprintf("/proc/%d/%s", pid, link))
		if err != nil {
			t.Fatal(err)
		}
		*to = target
	}
	stat := proc(t, pid, "stat")
	stat = stat[strings.LastIndexByte(stat, ')')+1:] // the name before may hold anything
	var state string
	var group int
	if _, err := fmt.Sscan(stat, &state, &p.parent, &group, &p.session); err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(proc(t, pid, "status")) {
		if pids, ok := strings.CutPrefix(line, "NSpid:"); ok {
			p.pids = strings.Join(strings.Fields(pids), " ")
		}
	}
	p.parentArgs = strings.ReplaceAll(proc(t, p.parent, "cmdline"), "\x00", " ")
	return p
}

func proc(t *testing.T, pid int, file string) string {
	t.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, file))
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSuffix(string(data), "\n")
}

// TestTransformsDoWhatTheySay looks at the process that each transform leads to.
func TestTransformsDoWhatTheySay(t *testing.T) {
	t.Parallel()
	program := Build(t)
	real, err := filepath.EvalSymlinks(program)
	if err != nil {
		t.Fatal(err)
	}
	child := func(first int, p process) bool { return p.pid != first && p.parent == first }
	same := func(first int, p process) bool { return p.pid == first }
	orphan := func(first int, p process) bool {
		return p.pid != first && p.parent != first && !strings.Contains(p.parentArgs, program)
	}
	execed := func(p process) bool { return p.exe == real && p.args[1] == "--" }
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	tests := []struct {
		transforms string
		holds      func(first int, p process) bool
	}{
		{"sleep 5", same},
		{"wait", same},
		{"fork", child},
		{"vfork", func(first int, p process) bool { return child(first, p) && execed(p) }},
		{"clone-parent", child},
		{"pid-reuse", child},
		{"setsid", func(first int, p process) bool { return child(first, p) && p.session == p.pid }},
		{"double-fork", orphan},
		{"orphan-chain 4", orphan},
		{"orphan-chain 0", child},
		{"daemon", func(first int, p process) bool { return orphan(first, p) && p.dir == "/" && p.session != unixSession() }},
		{"exec-self", func(first int, p process) bool { return same(first, p) && execed(p) }},
		{"thread-exec", func(first int, p process) bool { return same(first, p) && execed(p) }},
		{"argv0 other", func(first int, p process) bool { return same(first, p) && execed(p) && p.args[0] == "other" }},
		{"rename-comm other", func(first int, p process) bool { return same(first, p) && p.comm == "other" }},
		{"memfd", func(first int, p process) bool { return same(first, p) && strings.HasPrefix(p.exe, "/memfd:victim") }},
		{"copy " + at("copy"), func(first int, p process) bool { return same(first, p) && p.exe == at("copy") }},
		{"symlink " + at("link"), func(_ int, p process) bool { return execed(p) && p.args[0] == at("link") }},
		{"script " + at("script"), func(_ int, p process) bool {
			return p.exe == real && slices.Equal(p.args[1:3], []string{"--script", at("script")})
		}},
		{"script " + at("again") + " run " + at("again"), func(_ int, p process) bool { return slices.Equal(p.args[1:3], []string{"--script", at("again")}) }},
		{"script " + at("fd") + " run-fd " + at("fd"), func(_ int, p process) bool { return strings.HasPrefix(p.args[2], "/dev/fd/") }},
		{"run-fails " + at("nothing"), same},
		{"share-dir run " + real, func(first int, p process) bool { return same(first, p) && execed(p) }},
		{"fork setsid vfork double-fork clone-parent", func(first int, p process) bool { return p.parent != first }},
		{"daemon thread-exec orphan-chain 2 memfd exec-self pid-reuse orphan-chain 1", orphan},
	}
	for _, tt := range tests {
		t.Run(tt.transforms, func(t *testing.T) {
			t.Parallel()
			if first, p := inspect(t, program, tt.transforms); !tt.holds(first, p) {
				t.Errorf("started as %d, the attempt came from %+v", first, p)
			}
			expect(t, program, tt.transforms+" -- socket 255 stream", "EAFNOSUPPORT")
		})
	}
}

func unixSession() int {
	session, err := unix.Getsid(0)
	if err != nil {
		return -1
	}
	return session
}

// TestPIDComesRound takes the way without CAP_CHECKPOINT_RESTORE. Few pids make it short, and they are the machine's.
func TestPIDComesRound(t *testing.T) {
	testutil.RequireRoot(t)
	if !testutil.InVM() {
		t.Skip("lowers kernel.pid_max: in a guest only")
	}
	const setting = "/proc/sys/kernel/pid_max"
	old, err := os.ReadFile(setting)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(setting, []byte("2000"), 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.WriteFile(setting, old, 0); err != nil {
			t.Error(err)
		}
	})
	cmd := exec.CommandContext(t.Context(), Build(t), "pid-reuse", "--", "listen-only")
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	if out, err := cmd.CombinedOutput(); err != nil || string(out) != "listen-only: ok\n" {
		t.Errorf("printed %q: %v", out, err)
	}
}

// TestHardLinkIsRun needs a victim on the file system of the link, and so makes one.
func TestHardLinkIsRun(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	copied, linked := filepath.Join(dir, "copy"), filepath.Join(dir, "link")
	if first, p := inspect(t, Build(t), "copy "+copied+" hardlink "+linked); p.pid != first || p.exe != linked {
		t.Errorf("started as %d, the attempt came from %+v", first, p)
	}
}

func TestProcessInAPIDNamespace(t *testing.T) {
	testutil.RequireRoot(t)
	first, p := inspect(t, Build(t), "unshare-pid exec-self")
	if want := fmt.Sprintf("%d 1", p.pid); p.parent != first || !strings.HasSuffix(p.pids, want) {
		t.Errorf("started as %d, the attempt came from %+v; want pids %s", first, p, want)
	}
}

func TestProcessIntoACgroup(t *testing.T) {
	testutil.RequireRoot(t)
	name := "sallyport-victim-" + strconv.Itoa(os.Getpid())
	cgroup := filepath.Join(cgroupRoot(t), name)
	if err := os.Mkdir(cgroup, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		err := os.Remove(cgroup)
		for range 100 { // a process closes its pipes before it leaves its cgroup
			if !errors.Is(err, syscall.EBUSY) {
				break
			}
			time.Sleep(20 * time.Millisecond)
			err = os.Remove(cgroup)
		}
		if err != nil {
			t.Error(err)
		}
	})
	first, p := inspect(t, Build(t), "into-cgroup "+cgroup+" double-fork")
	if !strings.Contains(p.cgroup, "0::/"+name) || p.parent == first {
		t.Errorf("started as %d, the attempt came from %+v", first, p)
	}
}

// cgroupRoot is where cgroup v2 is mounted, alone or beside v1.
func cgroupRoot(t *testing.T) string {
	t.Helper()
	for _, dir := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified"} {
		var st unix.Statfs_t
		if err := unix.Statfs(dir, &st); err == nil && st.Type == unix.CGROUP2_SUPER_MAGIC {
			return dir
		}
	}
	testutil.Unsupported(t, "cgroup2", "it is not mounted")
	return ""
}
