package demo

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// systemPath is where daemons are, also when PATH lacks sbin.
func systemPath() []string {
	return []string{"/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"}
}

func lookPath(program string) (string, error) {
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

// prepare makes the demo's folder and its own view of the mounts: a BPF file system that goes with
// the demo and takes its pins along, and a /run/containerd of its own.
func (s *show) prepare() error {
	dir, err := os.MkdirTemp("", "sallyport-demo-")
	if err != nil {
		return fmt.Errorf("making a folder: %w", err)
	}
	s.dir = dir
	s.later(func() error { return os.RemoveAll(dir) })
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("making mounts private: %w", err)
	}
	for _, sub := range []string{"bpf", "run", "fifo", "policies", "rootfs"} {
		if err := os.Mkdir(s.path(sub), 0o711); err != nil { //nolint:gosec // containers look into some of them
			return fmt.Errorf("making a folder: %w", err)
		}
	}
	if err := os.MkdirAll("/run/containerd", 0o711); err != nil { //nolint:gosec // as containerd makes it
		return fmt.Errorf("making a folder: %w", err)
	}
	if err := unix.Mount(s.path("run"), "/run/containerd", "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("mounting /run/containerd: %w", err)
	}
	if err := unix.Mount("bpf", s.path("bpf"), "bpf", 0, ""); err != nil {
		return fmt.Errorf("mounting a BPF file system: %w", err)
	}
	s.later(func() error {
		return errors.Join(unix.Unmount(s.path("bpf"), unix.MNT_DETACH), unix.Unmount("/run/containerd", unix.MNT_DETACH))
	})
	return nil
}

func (s *show) path(name string) string { return filepath.Join(s.dir, name) }

// start runs a daemon until the end of the demo. What it writes goes to a file that the error of a
// failed start quotes.
func (s *show) start(program string, args ...string) error {
	path, err := lookPath(program)
	if err != nil {
		return err
	}
	out, err := os.Create(s.path(program + ".log"))
	if err != nil {
		return fmt.Errorf("starting %s: %w", program, err)
	}
	defer func() { _ = out.Close() }() // the daemon has its own
	cmd := exec.Command(path, args...) //nolint:gosec,noctx // it is stopped by stop, in order
	cmd.Env = []string{"PATH=" + strings.Join(systemPath(), ":")}
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("starting %s: %w", program, err)
	}
	done := make(chan struct{})
	go func() {
		_ = cmd.Wait() // however it ended: that it did is what counts
		close(done)
	}()
	s.later(func() error { return stop(cmd, done) })
	return nil
}

// stop ends a daemon, at last with SIGKILL.
func stop(cmd *exec.Cmd, done <-chan struct{}) error {
	for _, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		if err := cmd.Process.Signal(signal); err != nil && !errors.Is(err, os.ErrProcessDone) {
			return fmt.Errorf("stopping %s: %w", cmd.Path, err)
		}
		select {
		case <-done:
			return nil
		case <-time.After(10 * time.Second):
		}
	}
	return fmt.Errorf("stopping %s: it does not end", cmd.Path)
}

// tail is the end of what a daemon wrote.
func (s *show) tail(program string) string {
	text, err := os.ReadFile(s.path(program + ".log"))
	if err != nil {
		return err.Error()
	}
	return string(text[max(0, len(text)-2048):])
}
