package procfs_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sallyport/sallyport/runtime/procfs"
)

// fake writes a /proc with one process.
func fake(t *testing.T, pid uint32, files map[string]string) procfs.FS {
	t.Helper()
	root := t.TempDir()
	dir := filepath.Join(root, strconv.FormatUint(uint64(pid), 10))
	for name, text := range files {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		var err error
		if target, ok := strings.CutPrefix(text, "-> "); ok {
			err = os.Symlink(target, file)
		} else {
			err = os.WriteFile(file, []byte(text), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return procfs.New(root)
}

const statTail = " S 41 42 40 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 7788 1 2 3\n"

func TestProcess(t *testing.T) {
	t.Parallel()
	proc := fake(t, 42, map[string]string{
		"stat":   "42 (a) R 1 1 1 (x) y)" + statTail, // the name is "a) R 1 1 1 (x) y"
		"status": "Name:\ta\\nNSpid:\t1\nNSpid:\t42\t7\t1\n",
		"cgroup": "3:cpu:/x\n0::/default/box\n",
		"exe":    "-> /usr/bin/thing (deleted)",
		"ns/mnt": "-> mnt:[11]",
		"ns/net": "-> net:[12]",
		"ns/pid": "-> pid:[13]",
	})
	got, err := proc.Process(42)
	if err != nil {
		t.Fatal(err)
	}
	want := procfs.Process{
		PID: 42, PPID: 41, Session: 40, StartTicks: 7788, State: 'S', NSPID: []uint32{42, 7, 1},
		Cgroup: "/default/box", Exe: "/usr/bin/thing (deleted)", Namespaces: procfs.Namespaces{Mnt: 11, Net: 12, PID: 13},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("process (-want +got):\n%s", diff)
	}
	if _, err := proc.Process(43); !errors.Is(err, procfs.ErrGone) {
		t.Errorf("a process that is not there: %v, want ErrGone", err)
	}
}

func TestProcessRefusesWhatItCannotRead(t *testing.T) {
	t.Parallel()
	good := map[string]string{"stat": "42 (a)" + statTail, "status": "NSpid:\t42\n", "cgroup": "0::/\n"}
	for _, tc := range []struct{ name, file, text string }{
		{"empty stat", "stat", ""},
		{"no name", "stat", "42 a S 1"},
		{"short stat", "stat", "42 (a) S 1 2 3\n"},
		{"words for numbers", "stat", "42 (a)" + strings.Replace(statTail, "41", "x", 1)},
		{"no NSpid", "status", "Name:\ta\n"},
		{"bad NSpid", "status", "NSpid:\tx\n"},
		{"v1 only", "cgroup", "3:cpu:/x\n"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			files := map[string]string{tc.file: tc.text}
			for name, text := range good {
				if name != tc.file {
					files[name] = text
				}
			}
			got, err := fake(t, 42, files).Process(42)
			if err == nil || errors.Is(err, procfs.ErrGone) {
				t.Errorf("got %+v, %v; want an error that is not ErrGone", got, err)
			}
		})
	}
}

func TestCmdlineIsBounded(t *testing.T) {
	t.Parallel()
	proc := fake(t, 42, map[string]string{"cmdline": "sh\x00-c\x00\x00" + strings.Repeat("x", 1<<20)})
	args, err := proc.Cmdline(42)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"sh", "-c", "", strings.Repeat("x", procfs.MaxCmdline-len("sh\x00-c\x00\x00"))}
	if diff := cmp.Diff(want, args); diff != "" {
		t.Errorf("arguments (-want +got):\n%s", diff)
	}
	if args, err := fake(t, 42, map[string]string{"cmdline": ""}).Cmdline(42); err != nil || len(args) != 0 {
		t.Errorf("without arguments: %q, %v", args, err)
	}
}

// TestOwnProcess reads the real /proc: this test's own process and a child of it.
func TestOwnProcess(t *testing.T) {
	t.Parallel()
	proc := procfs.New("/proc")
	child := exec.Command("sleep", "60")
	if err := child.Start(); err != nil {
		t.Skip("needs the sleep program: ", err)
	}
	pid := uint32(child.Process.Pid)
	own := uint32(os.Getpid())
	self, err := proc.Process(own)
	if err != nil {
		t.Fatal(err)
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if self.Exe != exe || self.PPID != uint32(os.Getppid()) || self.Namespaces.PID == 0 || self.StartTicks == 0 {
		t.Errorf("own process is %+v", self)
	}
	if net, err := proc.NetNS(own); err != nil || net != self.Namespaces.Net {
		t.Errorf("own network namespace is %d, %v; want %d", net, err, self.Namespaces.Net)
	}
	threads, err := proc.Threads(own)
	if err != nil || !slices.Contains(threads, own) || len(threads) < 2 {
		t.Errorf("own threads are %v, %v", threads, err)
	}
	all, err := proc.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	at := slices.IndexFunc(all, func(p procfs.Process) bool { return p.PID == pid })
	if at < 0 || all[at].PPID != own || all[at].StartTicks < self.StartTicks {
		t.Errorf("the child is not in the snapshot as it should be (index %d)", at)
	}
	if err := child.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = child.Wait() // killed: the error says so
	if _, err := proc.Process(pid); !errors.Is(err, procfs.ErrGone) {
		t.Errorf("the ended child: %v, want ErrGone", err)
	}
	if _, err := proc.NetNS(pid); !errors.Is(err, procfs.ErrGone) {
		t.Errorf("network namespace of the ended child: %v, want ErrGone", err)
	}
	if _, err := proc.Threads(pid); !errors.Is(err, procfs.ErrGone) {
		t.Errorf("threads of the ended child: %v, want ErrGone", err)
	}
}
