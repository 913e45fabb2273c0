package features

import (
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// row is a kernel that lacks something.
type row struct {
	name  string
	on    string // the kernel: "6.1", "6.12" or here
	lsm   bool   // bpf is among the active LSMs
	rare  bool   // tried by make features only: where a machine is emulated an agent takes half a minute to start
	steps string // that may be used; "": all
	take  func(t *testing.T, s *scene)
	later *row   // what is taken away from the agent that runs then
	late  bool   // containers start ungoverned, since their packets cannot be gated
	says  string // a regular expression: the part of what the agent says that the table has
}

const (
	here     = "6.18, the machine's" // without trampolines
	allSteps = "lsm, fmod_ret, cgroup, report"
)

// rows are in the order in which they can be tried: a lockdown is not lifted again.
func rows() []row {
	refuses := func(name, says string, take func(*testing.T, *scene)) row {
		return row{name: name, on: "6.12", take: take, says: says}
	}
	tracing := sysctl("kernel/ftrace_enabled=0")
	return []row{
		refuses("BTF (`CONFIG_DEBUG_INFO_BTF`)", `a kernel is needed.*`, hide("/sys/kernel/btf")),
		refuses("a BPF file system", `is no BPF file system: mount one with: mount -t bpf bpffs`, func(t *testing.T, s *scene) { unmount(s.agent.Path("bpf"))(t, s) }),
		refuses("cgroup v2", `no cgroup v2 hierarchy is mounted.*`, unmount("/sys/fs/cgroup")),
		refuses("tracing of functions (`kernel.ftrace_enabled=0`)", `the kernel does not trace functions \(.*?\)`, tracing),
		{name: "kprobes (`/sys/kernel/debug/kprobes/enabled`), with `steps: [report]`", on: "6.12", steps: "report", take: kprobesOff, says: `kprobes are switched off \(.*?\)`},
		{
			name: "`bpf` in `lsm=`, and " + harmless, on: "6.12", take: settings, says: `bpf is not among the active LSMs .*\)`,
			later: &row{name: "tracing of functions, switched off below an agent that runs", on: "6.12", take: tracing, says: `somebody has tampered with what enforces; it was put back: .*?enabled`},
		},
		refuses("permission to read kernel memory (`lockdown=confidentiality`)", `the kernel is locked down.*`, write("/sys/kernel/security/lockdown", "confidentiality")),
		{name: "securityfs", on: "6.12", lsm: true, rare: true, take: unmount("/sys/kernel/security"), says: `mount securityfs at /sys/kernel/security`},
		{name: "tcx and uprobe.multi", on: "6.1", lsm: true, rare: true, take: nothing},
		{name: "tcx and the modules of clsact (`sch_ingress`, `cls_bpf`)", on: "6.1", lsm: true, rare: true, late: true, take: modules("cls_bpf", "sch_ingress"), says: `adding clsact.*`},
		{name: "BPF LSM and trampolines", on: here, take: nothing, says: `fmod_ret: .*`},
	}
}

// harmless is what settings takes away.
const harmless = "io_uring, perf events, BPF and user namespaces for users, debugfs, tracefs, half of the lockdown (`lockdown=integrity`)"

func nothing(*testing.T, *scene) {}

func settings(t *testing.T, s *scene) {
	for _, setting := range []string{
		"kernel/io_uring_disabled=2", "kernel/perf_event_paranoid=4", "kernel/unprivileged_bpf_disabled=1",
		"kernel/unprivileged_userns_clone=0", "kernel/kptr_restrict=2", "kernel/dmesg_restrict=1", "net/core/bpf_jit_harden=2",
	} {
		sysctl(setting)(t, s)
	}
	write("/sys/kernel/security/lockdown", "integrity")(t, s)
	unmount("/sys/kernel/tracing")(t, s)
	unmount("/sys/kernel/debug")(t, s)
}

// write writes a file, and writes what was there again at the end.
func write(path, text string) func(*testing.T, *scene) {
	return func(t *testing.T, _ *scene) {
		t.Helper()
		was, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = os.WriteFile(path, was, 0) })
	}
}

func sysctl(setting string) func(*testing.T, *scene) {
	name, value, _ := strings.Cut(setting, "=")
	return write("/proc/sys/"+name, value)
}

func kprobesOff(t *testing.T, s *scene) { write("/sys/kernel/debug/kprobes/enabled", "0")(t, s) }

// unmount unmounts what is mounted at a path, in the tests' own mount namespace.
func unmount(path string) func(*testing.T, *scene) {
	return func(t *testing.T, _ *scene) {
		t.Helper()
		var st unix.Statfs_t
		if err := unix.Statfs(path, &st); err != nil {
			t.Fatal(err)
		}
		if err := unix.Unmount(path, unix.MNT_DETACH); err != nil {
			t.Fatalf("unmounting %s: %v", path, err)
		}
		types := map[int64]string{
			unix.CGROUP2_SUPER_MAGIC: "cgroup2", unix.BPF_FS_MAGIC: "bpf", unix.SECURITYFS_MAGIC: "securityfs",
			unix.DEBUGFS_MAGIC: "debugfs", unix.TRACEFS_MAGIC: "tracefs",
		}
		t.Cleanup(func() {
			if err := unix.Mount(types[st.Type], path, types[st.Type], 0, ""); err != nil {
				t.Errorf("mounting %s again: %v", path, err)
			}
		})
	}
}

// hide lays an empty directory over another.
func hide(path string) func(*testing.T, *scene) {
	return func(t *testing.T, _ *scene) {
		t.Helper()
		if err := unix.Mount("none", path, "tmpfs", 0, ""); err != nil {
			t.Fatalf("hiding %s: %v", path, err)
		}
		t.Cleanup(func() {
			if err := unix.Unmount(path, unix.MNT_DETACH); err != nil {
				t.Error(err)
			}
		})
	}
}

// modules removes modules from the kernel.
func modules(names ...string) func(*testing.T, *scene) {
	return func(t *testing.T, _ *scene) {
		t.Helper()
		for _, name := range names {
			if err := unix.DeleteModule(name, 0); err != nil {
				t.Fatalf("removing module %s: %v", name, err)
			}
		}
	}
}
