// Package selftest is run in the guest by tests/vm/vmrun and asserts that the guest is what the other tests take for
// granted: the kernel asked for, its file systems, BPF LSM, BTF, modules, and a root that containers can leave. It
// imports tests/testutil only.
package selftest

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/tests/testutil"
)

func requireGuest(t *testing.T) {
	t.Helper()
	if !testutil.InVM() {
		t.Skip("runs in the guest only: go test -exec vmrun")
	}
}

func TestKernelIsTheOneAskedFor(t *testing.T) {
	requireGuest(t)
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		t.Fatal(err)
	}
	got := unix.ByteSliceToString(name.Release[:])
	if want := os.Getenv("VMRUN_RELEASE"); got != want || want == "" {
		t.Errorf("kernel release is %q, want %q", got, want)
	}
	t.Log("kernel", got)
}

func TestBPFIsAnActiveLSM(t *testing.T) {
	requireGuest(t)
	list := readFile(t, "/sys/kernel/security/lsm")
	if !slices.Contains(strings.Split(list, ","), "bpf") {
		t.Errorf("active LSMs are %q, without bpf", list)
	}
}

func TestKernelHasBTF(t *testing.T) {
	requireGuest(t)
	for _, of := range []string{"vmlinux", "tls"} {
		info, err := os.Stat(filepath.Join("/sys/kernel/btf", of))
		if err != nil || info.Size() == 0 {
			t.Errorf("BTF of %s: %v", of, err)
		}
	}
}

func TestFileSystemsAreMounted(t *testing.T) {
	requireGuest(t)
	for at, magic := range map[string]int64{
		"/proc":                unix.PROC_SUPER_MAGIC,
		"/sys":                 unix.SYSFS_MAGIC,
		"/tmp":                 unix.TMPFS_MAGIC,
		"/dev/pts":             unix.DEVPTS_SUPER_MAGIC,
		"/sys/fs/cgroup":       unix.CGROUP2_SUPER_MAGIC,
		"/sys/fs/bpf":          unix.BPF_FS_MAGIC,
		"/sys/kernel/security": unix.SECURITYFS_MAGIC,
		"/sys/kernel/debug":    unix.DEBUGFS_MAGIC,
		"/sys/kernel/tracing":  unix.TRACEFS_MAGIC,
	} {
		var st unix.Statfs_t
		if err := unix.Statfs(at, &st); err != nil {
			t.Errorf("statfs %s: %v", at, err)
		} else if st.Type != magic {
			t.Errorf("file system at %s has magic %#x, want %#x", at, st.Type, magic)
		}
	}
}

func TestCgroupsCanBeMade(t *testing.T) {
	requireGuest(t)
	if err := os.Mkdir("/sys/fs/cgroup/selftest", 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.Remove("/sys/fs/cgroup/selftest"); err != nil {
			t.Error(err)
		}
	})
	readFile(t, "/sys/fs/cgroup/selftest/cgroup.procs")
}

func TestModulesAreInserted(t *testing.T) {
	requireGuest(t)
	loaded := readFile(t, "/proc/modules")
	for _, name := range []string{"tls", "veth", "cls_bpf", "sch_ingress", "overlay"} {
		if !strings.Contains("\n"+loaded, "\n"+name+" ") {
			t.Errorf("module %s is not inserted", name)
		}
	}
}

// TestKernelTLSWorks asks for the upper layer protocol on a connected socket: the module is there and its dependencies.
func TestKernelTLSWorks(t *testing.T) {
	requireGuest(t)
	listener := socket(t)
	if err := unix.Bind(listener, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	if err := unix.Listen(listener, 1); err != nil {
		t.Fatal(err)
	}
	address, err := unix.Getsockname(listener)
	if err != nil {
		t.Fatal(err)
	}
	client := socket(t)
	if err := unix.Connect(client, address); err != nil {
		t.Fatalf("connecting over lo: %v", err)
	}
	if err := unix.SetsockoptString(client, unix.SOL_TCP, unix.TCP_ULP, "tls"); err != nil {
		t.Errorf("setting TCP_ULP to tls: %v", err)
	}
}

func socket(t *testing.T) int {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Close(fd); err != nil {
			t.Error(err)
		}
	})
	return fd
}

// TestRootCanBePivoted does what a container runtime does to enter a container.
func TestRootCanBePivoted(t *testing.T) {
	requireGuest(t)
	root := t.TempDir()
	result := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread, whose root is gone, ends with the goroutine
		result <- errors.Join(
			unix.Unshare(unix.CLONE_NEWNS|unix.CLONE_FS),
			unix.Mount("", "/", "", unix.MS_PRIVATE|unix.MS_REC, ""),
			unix.Mount("tmpfs", root, "tmpfs", 0, ""),
			unix.Chdir(root),
			unix.PivotRoot(".", "."),
			unix.Unmount(".", unix.MNT_DETACH),
		)
	}()
	if err := <-result; err != nil {
		t.Errorf("pivoting into a tmpfs: %v", err)
	}
}

// TestOrphansAreReaped starts a process whose child outlives it; the child's pid must not stay as a zombie of init.
func TestOrphansAreReaped(t *testing.T) {
	requireGuest(t)
	if _, err := os.Stat("/bin/busybox"); err != nil {
		t.Skip("the host had no static busybox to give")
	}
	out, err := exec.Command("/bin/sh", "-c", "sleep 0.2 >/dev/null 2>&1 & echo $!").Output()
	if err != nil {
		t.Fatal(err)
	}
	orphan := filepath.Join("/proc", string(bytes.TrimSpace(out)))
	for range 100 {
		if _, err := os.Stat(orphan); errors.Is(err, os.ErrNotExist) {
			return
		}
		if err := syscall.Nanosleep(&syscall.Timespec{Nsec: 50e6}, nil); err != nil && !errors.Is(err, syscall.EINTR) {
			t.Fatal(err)
		}
	}
	t.Errorf("%s is still there: %s", orphan, readFile(t, filepath.Join(orphan, "status")))
}

func readFile(t *testing.T, file string) string {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(data))
}
