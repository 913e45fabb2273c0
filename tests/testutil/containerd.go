package testutil

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// callTimeout bounds one call of ctr. Emulated guests take seconds to start it.
const callTimeout = 2 * time.Minute

// Containerd is a containerd of the test's own: its state is in a directory of its own, its mounts in a mount namespace
// of its own. PIDs, cgroups and network namespaces are those of the machine.
type Containerd struct {
	Socket    string
	Namespace string // containerd namespace that calls use; unique, so that its cgroups (/NAMESPACE/ID) are too
	dir       string
	daemon    *Daemon
	used      map[string]bool // namespaces
	execs     int
}

// NewContainerd starts containerd, with runc and the native snapshotter. At the end of the test it is stopped, and its
// containers, cgroups and files are removed. It needs root and Debian's packages containerd, runc and busybox-static.
func NewContainerd(t testing.TB) *Containerd {
	t.Helper()
	RequireRoot(t)
	for _, program := range []string{"containerd", "containerd-shim-runc-v2", "runc", "ctr", "busybox"} {
		if _, err := LookPath(program); err != nil {
			Unsupported(t, "containerd", err.Error())
		}
	}
	dir, err := os.MkdirTemp("", "sallyport-") //nolint:usetesting // t.TempDir is too long for the path of a socket
	if err != nil {
		t.Fatal(err)
	}
	c := &Containerd{Socket: filepath.Join(dir, "containerd.sock"), Namespace: UniqueName(), dir: dir, used: map[string]bool{}}
	t.Cleanup(func() { c.close(t) })
	if err := os.WriteFile(c.path("config.toml"), []byte(c.config()), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, sub := range []string{"run", "fifo", "log"} {
		if err := os.Mkdir(c.path(sub), 0o711); err != nil {
			t.Fatal(err)
		}
	}
	c.Start(t)
	return c
}

// UniqueName returns a name that no other test on the machine uses: letters and digits.
func UniqueName() string { return "sp" + strings.ToLower(rand.Text()[:10]) }

// LookPath finds a program of the system, also where PATH lacks sbin.
func LookPath(program string) (string, error) {
	if path, err := exec.LookPath(program); err == nil {
		return path, nil
	}
	for _, dir := range systemPath() {
		if path, err := exec.LookPath(filepath.Join(dir, program)); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("looking for %s: %w", program, exec.ErrNotFound)
}

// SystemPath is a PATH with the system's directories, sbin too.
func SystemPath() string { return strings.Join(systemPath(), ":") }

func systemPath() []string {
	return []string{"/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"}
}

func (c *Containerd) path(name string) string { return filepath.Join(c.dir, name) }

func (c *Containerd) config() string {
	return fmt.Sprintf(`version = 2
root = %q
state = %q
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.internal.v1.opt", "io.containerd.internal.v1.tracing",
  "io.containerd.tracing.processor.v1.otlp", "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs"]
[grpc]
  address = %q
[ttrpc]
  address = %q
`, c.path("root"), c.path("state"), c.Socket, c.Socket+".ttrpc")
}

// Start starts the daemon, again after Kill: containers that ran go on.
func (c *Containerd) Start(t testing.TB) {
	t.Helper()
	program, err := LookPath("containerd")
	if err != nil {
		t.Fatal(err)
	}
	logFile, err := os.OpenFile(c.path("containerd.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, "--config", c.path("config.toml"), "--log-level", "warn")
	cmd.Env = []string{"PATH=" + os.Getenv("PATH") + ":" + SystemPath()}
	cmd.Stdout, cmd.Stderr = logFile, logFile
	c.daemon, err = StartDaemon(DaemonSpec{Cmd: cmd, Over: map[string]string{"/run/containerd": c.path("run")}})
	_ = logFile.Close() // the daemon has its own
	if err != nil {
		t.Fatal("starting containerd: ", err)
	}
	deadline := time.Now().Add(callTimeout)
	for {
		_, err := c.try(c.Namespace, "version")
		if err == nil {
			return
		}
		if time.Now().After(deadline) || c.daemon.Ended() {
			t.Fatalf("containerd does not answer: %v\n%s", err, c.daemonLog())
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// Kill ends the daemon with SIGKILL. Containers and their shims go on.
func (c *Containerd) Kill(t testing.TB) {
	t.Helper()
	if err := c.daemon.Stop(syscall.SIGKILL); err != nil {
		t.Fatal("killing containerd: ", err)
	}
}

// Signal sends the daemon a signal, such as SIGSTOP and SIGCONT, between which it answers nobody.
func (c *Containerd) Signal(t testing.TB, signal syscall.Signal) {
	t.Helper()
	if err := c.daemon.Signal(signal); err != nil {
		t.Fatal("signalling containerd: ", err)
	}
}

// daemonLog is the end of what the daemon wrote.
func (c *Containerd) daemonLog() string {
	text, err := os.ReadFile(c.path("containerd.log"))
	if err != nil {
		return err.Error()
	}
	return string(text[max(0, len(text)-4096):])
}

func (c *Containerd) close(t testing.TB) {
	t.Helper()
	if c.daemon != nil && c.daemon.Ended() && len(c.used) > 0 {
		c.Start(t) // its containers cannot be removed without it
	}
	for namespace := range c.used {
		c.removeAll(t, namespace)
	}
	if c.daemon != nil {
		if err := c.daemon.Stop(syscall.SIGTERM); err != nil {
			t.Errorf("stopping containerd: %v", err)
		}
	}
	for namespace := range c.used {
		RemoveCgroups(t, namespace)
	}
	if t.Failed() {
		t.Logf("containerd wrote:\n%s", c.daemonLog())
	}
	if err := os.RemoveAll(c.dir); err != nil {
		t.Errorf("removing containerd's files: %v", err)
	}
}

// try runs ctr in a containerd namespace and returns what it wrote to standard output.
func (c *Containerd) try(namespace string, args ...string) (string, error) {
	result, err := c.ctr(namespace, args...)
	if err == nil && result.Code != 0 {
		err = fmt.Errorf("running ctr %s: exit code %d: %s", strings.Join(args, " "), result.Code, strings.TrimSpace(result.Stderr))
	}
	return result.Stdout, err
}

// ctr runs ctr and returns what it wrote and its exit code.
func (c *Containerd) ctr(namespace string, args ...string) (ExecResult, error) {
	program, err := LookPath("ctr")
	if err != nil {
		return ExecResult{}, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, append([]string{"--address", c.Socket, "--namespace", namespace}, args...)...)
	cmd.WaitDelay = time.Second // a shim that it started may hold the pipes
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err = cmd.Run()
	result := ExecResult{Stdout: stdout.String(), Stderr: stderr.String(), Code: cmd.ProcessState.ExitCode()}
	var exit *exec.ExitError
	if ctx.Err() == nil && (errors.As(err, &exit) || errors.Is(err, exec.ErrWaitDelay)) {
		err = nil
	}
	if err != nil {
		return result, fmt.Errorf("running ctr %s: %w", strings.Join(args, " "), err)
	}
	return result, nil
}
