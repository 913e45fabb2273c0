package agent

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/tests/testutil"
	"github.com/sallyport/sallyport/tests/testutil/program"
)

// wantRefusal checks that a command ended with that exit code and one line that holds all parts.
func wantRefusal(t *testing.T, r testutil.ExecResult, code int, parts ...string) {
	t.Helper()
	if r.Code != code || r.Stdout != "" || strings.Count(r.Stderr, "\n") != 1 || !strings.HasPrefix(r.Stderr, "sallyport: ") {
		t.Errorf("exit code %d, standard output %q, standard error %q; want code %d and one line", r.Code, r.Stdout, r.Stderr, code)
	}
	for _, part := range parts {
		if !strings.Contains(r.Stderr, part) {
			t.Errorf("%q does not say %q", r.Stderr, part)
		}
	}
}

func TestAgentRefusesToStart(t *testing.T) {
	node := testutil.NewNetNS(t)
	unmount := func(a *agent) error { return unix.Unmount(a.Path("bpf"), unix.MNT_DETACH) }
	for name, test := range map[string]struct {
		extra string // of the configuration
		setup func(*agent) error
		code  int
		parts []string
	}{
		"unknown key":     {extra: "polices: {dir: /tmp}\n", code: 2, parts: []string{"config.yaml", "polices", "policies"}},
		"senseless value": {extra: "gate: {enabled: perhaps}\n", code: 2, parts: []string{"config.yaml", "gate.enabled"}},
		"no bpffs":        {setup: unmount, code: 1, parts: []string{"is no BPF file system", "mount -t bpf"}},
		"absent bpffs": {
			setup: func(a *agent) error { return errors.Join(unmount(a), os.Remove(a.Path("bpf"))) },
			code:  1, parts: []string{"/bpf: no such file or directory"},
		},
		"read-only bpffs": {
			setup: func(a *agent) error {
				return unix.Mount("bpf", a.Path("bpf"), "bpf", unix.MS_REMOUNT|unix.MS_RDONLY, "")
			},
			code: 1, parts: []string{"/bpf/sallyport", "read-only file system"},
		},
		"file in the socket's place": {
			setup: func(a *agent) error { return os.WriteFile(a.Path("api.sock"), nil, 0o600) },
			code:  1, parts: []string{"api.sock", "there is a file that is no socket"},
		},
		"folder in the log's place": {
			setup: func(a *agent) error { return os.Mkdir(a.Path("alerts.jsonl"), 0o700) },
			code:  1, parts: []string{"JSON lines", "alerts.jsonl"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			a := newAgent(t, node, conf{containerd: "/nowhere", extra: test.extra})
			if test.setup != nil {
				if err := test.setup(a); err != nil {
					t.Fatal(err)
				}
			}
			a.Configure(t, a.config())
			wantRefusal(t, a.Run(t, "run", "--config", a.Path("config.yaml")), test.code, test.parts...)
		})
	}
}

// TestAgentNeedsBTF holds that a kernel that does not show its types is said first, and that nothing is left in it.
func TestAgentNeedsBTF(t *testing.T) {
	a := newAgent(t, testutil.NewNetNS(t), conf{containerd: "/nowhere"})
	a.Configure(t, a.config())
	args := []string{"-m", "sh", "-c", `mount -t tmpfs none /sys/kernel/btf && exec "$@"`, "sh", a.Program, "run", "--config", a.Path("config.yaml")}
	a.Program = "unshare"
	wantRefusal(t, a.Run(t, args...), 1, "BTF", "6.1", "CONFIG_DEBUG_INFO_BTF")
	if _, err := os.Stat(filepath.Join(a.Path("bpf"), "sallyport")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("there is a directory of pins: %v", err)
	}
}

func TestOnlyRootMayRunAnAgent(t *testing.T) {
	dir, err := os.MkdirTemp("", "sallyport-") //nolint:usetesting // the folders above t.TempDir are root's only
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) }) // what is left in the temporary directory harms nothing
	text, err := os.ReadFile(program.Binary(t))
	program := filepath.Join(dir, "sallyport")
	if err := errors.Join(err, os.WriteFile(program, text, 0o755), os.Chmod(dir, 0o755)); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"run"}, {"run", "--cleanup"}, {"demo"}} {
		cmd := exec.Command(program, args...)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		cmd.Dir = "/"
		var stdout, stderr bytes.Buffer
		cmd.Stdout, cmd.Stderr = &stdout, &stderr
		var exit *exec.ExitError
		if err := cmd.Run(); err != nil && !errors.As(err, &exit) {
			t.Fatal(err)
		}
		r := testutil.ExecResult{Stdout: stdout.String(), Stderr: stderr.String(), Code: cmd.ProcessState.ExitCode()}
		wantRefusal(t, r, 3, "root")
	}
}

// TestOneAgentOnly runs a second agent, and asks agents that died.
func TestOneAgentOnly(t *testing.T) {
	a := newAgent(t, testutil.NewNetNS(t), conf{containerd: "/nowhere"})
	a.Start(t)
	for _, args := range [][]string{{"run"}, {"run", "--cleanup"}} {
		wantRefusal(t, a.Run(t, append(args, "--config", a.Path("config.yaml"))...), 5, a.Path("api.sock"), "another agent has it")
	}
	if !strings.HasPrefix(a.Status(t).Agent.Platform, "linux/") {
		t.Error("the first agent does not answer")
	}
	a.Kill(t)
	if _, err := os.Stat(a.Path("api.sock")); err != nil {
		t.Errorf("the killed agent's socket is gone, so that nothing shows that it is replaced: %v", err)
	}
	wantRefusal(t, a.Run(t, "status", "--socket", a.Path("api.sock")), 4, "no agent is running")
	a.Start(t)
	if !a.Status(t).Adopted {
		t.Error("the pins of the killed agent were not adopted")
	}
	a.Stop(t)
	wantRefusal(t, a.Run(t, "observe", "-f", "--socket", a.Path("api.sock")), 4, "no agent is running")
}
