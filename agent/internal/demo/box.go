package demo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Names in containerd. The container's cgroup is /containerdNamespace/containerID.
const (
	containerdNamespace = "sallyport-demo"
	containerID         = "web"
	execRetries         = 5
)

// box is a containerd of the demo's own with its one container.
type box struct {
	show   *show
	socket string
	execs  int
}

// containerd starts the daemon with everything in the demo's folder.
func (s *show) containerd(ctx context.Context) (*box, error) {
	b := &box{show: s, socket: s.path("containerd.sock")}
	text := fmt.Sprintf(`version = 2
root = %q
state = %q
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.internal.v1.opt", "io.containerd.internal.v1.tracing",
  "io.containerd.tracing.processor.v1.otlp", "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs"]
[grpc]
  address = %q
[ttrpc]
  address = %q
`, s.path("containerd-root"), s.path("containerd-state"), b.socket, b.socket+".ttrpc")
	if err := os.WriteFile(s.path("containerd.toml"), []byte(text), 0o600); err != nil {
		return nil, fmt.Errorf("configuring containerd: %w", err)
	}
	if err := s.start("containerd", "--config", s.path("containerd.toml"), "--log-level", "warn"); err != nil {
		return nil, err
	}
	err := wait(ctx, "containerd", func() error {
		_, err := b.ctr(ctx, "version")
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("%w\n%s", err, s.tail("containerd"))
	}
	return b, nil
}

// ctr runs ctr and returns what it wrote, with its exit code in the error if it is not 0.
func (b *box) ctr(ctx context.Context, args ...string) (string, error) {
	path, err := lookPath("ctr")
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, append([]string{"--address", b.socket, "--namespace", containerdNamespace}, args...)...) //nolint:gosec // fixed program
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.WaitDelay = time.Second // a shim that it started may hold the pipes
	err = cmd.Run()
	if errors.Is(err, exec.ErrWaitDelay) {
		err = nil
	}
	if err != nil {
		err = fmt.Errorf("running ctr %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(out.String()))
	}
	return out.String(), err
}

// run makes the container's root file system of busybox, and starts it in the pod's network namespace.
// Its main program is a shell script: what counts is how a process came in, not what it is.
func (b *box) run(ctx context.Context, n *network) error {
	root := b.show.path("rootfs")
	if err := rootfs(ctx, root); err != nil {
		return err
	}
	b.show.later(func() error { return b.remove(context.WithoutCancel(ctx)) })
	main := fmt.Sprintf("while :; do timeout 5 wget -q -O /dev/null http://%s/main; sleep 0.2; done", n.outside)
	_, err := b.ctr(ctx, "run", "--detach", "--rootfs", "--fifo-dir", b.show.path("fifo"), "--log-uri", "file://"+b.show.path("main.log"),
		"--with-ns", "network:"+n.podPath, "--label", "app=web", root, containerID, "/bin/sh", "-c", main)
	return err
}

// rootfs fills a directory with busybox and a link for each of its applets.
func rootfs(ctx context.Context, root string) error {
	busybox, err := lookPath("busybox")
	if err != nil {
		return err
	}
	for _, dir := range []string{"bin", "dev", "etc", "proc", "root", "run", "sys", "tmp"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil { //nolint:gosec // as in any root file system
			return fmt.Errorf("making the container's files: %w", err)
		}
	}
	binary, err := os.ReadFile(busybox) // a program of the system
	if err != nil {
		return fmt.Errorf("making the container's files: %w", err)
	}
	if err := os.WriteFile(filepath.Join(root, "bin/busybox"), binary, 0o755); err != nil { //nolint:gosec // a program
		return fmt.Errorf("making the container's files: %w", err)
	}
	applets, err := exec.CommandContext(ctx, busybox, "--list").Output() //nolint:gosec // a program of the system
	if err != nil {
		return fmt.Errorf("listing busybox's applets: %w", err)
	}
	for applet := range strings.FieldsSeq(string(applets)) {
		if err := os.Symlink("busybox", filepath.Join(root, "bin", applet)); err != nil && !errors.Is(err, os.ErrExist) {
			return fmt.Errorf("making the container's files: %w", err)
		}
	}
	return nil
}

// shell runs a command line in a shell exec'd into the container. The output is what a person at the
// terminal would see.
//
// ctr closes its pipes at the end of the process and now and then loses what a short one has written:
// without the last line the attempt is made again.
func (b *box) shell(ctx context.Context, line string) (out string) {
	for range execRetries {
		b.execs++
		var err error
		out, err = b.ctr(ctx, "task", "exec", "--exec-id", "shell"+strconv.Itoa(b.execs), "--fifo-dir", b.show.path("fifo"),
			containerID, "/bin/sh", "-c", line+" 2>&1; echo exit=$?")
		if err != nil {
			return out + err.Error()
		}
		if strings.Contains(out, "exit=") {
			break
		}
	}
	return out
}

// remove ends the container and removes its cgroup.
func (b *box) remove(ctx context.Context) error {
	if _, err := b.ctr(ctx, "task", "kill", "--signal", "SIGKILL", containerID); err != nil {
		return err
	}
	err := wait(ctx, "the container's end", func() error {
		_, err := b.ctr(ctx, "task", "delete", "--force", containerID)
		if err != nil && strings.Contains(err.Error(), "not found") {
			return nil
		}
		return err
	})
	_, rmErr := b.ctr(ctx, "containers", "delete", containerID)
	return errors.Join(err, rmErr, removeCgroups())
}

// removeCgroups removes the cgroup of the demo's containerd namespace in every hierarchy.
func removeCgroups() error {
	found := []string{"/sys/fs/cgroup/" + containerdNamespace}
	below, err := filepath.Glob("/sys/fs/cgroup/*/" + containerdNamespace)
	if err != nil {
		return fmt.Errorf("finding the demo's cgroups: %w", err)
	}
	var errs []error
	for _, dir := range append(found, below...) {
		if err := os.Remove(dir); err != nil && !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, fmt.Errorf("removing a cgroup: %w", err))
		}
	}
	return errors.Join(errs...)
}
