package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/tests/testutil"
)

// The test binary is three programs: the tests, vmrun itself (both sides of it), and what runs in the guest.
const (
	envAsLauncher = "VMRUN_TEST_LAUNCHER" // "1": be vmrun
	envRole       = "VMT_ROLE"            // be a program of the guest, see playRole
)

func TestMain(m *testing.M) {
	switch {
	case inGuest(), os.Getenv(envAsLauncher) == "1":
		main()
	case testutil.InVM() && os.Getenv(envRole) != "":
		os.Exit(playRole(os.Getenv(envRole)))
	default:
		os.Exit(m.Run())
	}
}

// playRole is the program of the guest in TestBoot.
func playRole(role string) int {
	fmt.Println("role", role)
	var err error
	switch role {
	case "exit":
		fmt.Fprintln(os.Stderr, "to standard error", os.Getenv("VMT_EXTRA"), os.Args[1:])
		return 7
	case "signal":
		err = unix.Kill(unix.Getpid(), unix.SIGKILL)
	case "files":
		return copiedFiles()
	case "taint": // what a WARN leaves behind, when its lines are lost
		err = os.WriteFile("/proc/sys/kernel/tainted", []byte("512"), 0)
	case "kmsg": // user space may say what it likes
		err = os.WriteFile("/dev/kmsg", []byte("<0>BUG: not the kernel's"), 0)
	case "crash":
		err = os.WriteFile("/proc/sysrq-trigger", []byte("c"), 0)
	case "hang":
		time.Sleep(time.Hour)
	}
	if err != nil {
		fmt.Println(err)
		return 1
	}
	return 0
}

// copiedFiles shows what -f and -dyn brought.
func copiedFiles() int {
	data, err := os.ReadFile("/data/f")
	out, runErr := exec.Command("/dynamic", "dynamic program").CombinedOutput()
	if err := errors.Join(err, runErr); err != nil {
		fmt.Println(err, string(out))
		return 1
	}
	fmt.Printf("copied %s, %s\n", data, out)
	return 0
}

// TestBoot runs whole guests. It needs a kernel in VMRUN_KERNEL, as tests/vm/kernels.sh prints it.
func TestBoot(t *testing.T) {
	if os.Getenv("VMRUN_KERNEL") == "" {
		t.Skip("no kernel in VMRUN_KERNEL")
	}
	if _, err := exec.LookPath("qemu-system-x86_64"); err != nil {
		testutil.Unsupported(t, "qemu", err.Error())
	}
	self, err := os.Executable()
	must(t, err)
	if _, err := readStatic(self); errors.Is(err, errDynamic) {
		t.Skip("this test binary is dynamic: the guest needs CGO_ENABLED=0")
	}
	data := t.TempDir()
	must(t, os.WriteFile(filepath.Join(data, "f"), []byte("content"), 0o644))
	tests := []struct {
		role  string
		flags []string
		code  int
		want  []string
	}{
		{"exit", []string{"-env", "VMT_EXTRA=extra"}, 7, []string{"role exit", "to standard error extra [arg]"}},
		{"signal", nil, 128 + 9, []string{"role signal"}},
		{"files", []string{"-f", data + ":/data", "-dyn", "/bin/echo:/dynamic"}, 0, []string{"copied content, dynamic program"}},
		{"taint", nil, exitFault, []string{"FAULT", "tainted: kernel warning"}},
		{"kmsg", nil, 0, []string{"role kmsg"}},
		{"crash", nil, exitFault, []string{"sysrq triggered crash"}},
		{"hang", []string{"-timeout", "45s"}, exitTimeout, []string{"role hang", "longer than 45s"}},
	}
	for _, tt := range tests {
		t.Run(tt.role, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
			defer cancel()
			cmd := exec.CommandContext(ctx, self, append(tt.flags, self, "arg")...)
			cmd.Env = append(os.Environ(), envAsLauncher+"=1", envRole+"="+tt.role)
			out, err := cmd.CombinedOutput()
			var exit *exec.ExitError
			if err != nil && !errors.As(err, &exit) {
				t.Fatal(err)
			}
			if got := cmd.ProcessState.ExitCode(); got != tt.code {
				t.Errorf("exit code %d, want %d", got, tt.code)
			}
			for _, want := range tt.want {
				if !strings.Contains(string(out), want) {
					t.Errorf("output lacks %q", want)
				}
			}
			if t.Failed() {
				t.Logf("output:\n%s", out)
			}
		})
	}
}

func TestDynamicProgramIsRefused(t *testing.T) {
	t.Parallel()
	if _, err := readStatic("/bin/true"); !errors.Is(err, errDynamic) {
		t.Skipf("/bin/true is not a dynamic program here: %v", err)
	}
	err := writeImage(filepath.Join(t.TempDir(), "initrd"), options{program: "/bin/true"}, writeKernel(t, nil))
	if !errors.Is(err, errDynamic) {
		t.Errorf("error is %v", err)
	}
}
