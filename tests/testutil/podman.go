package testutil

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Podman runs containers with podman, which has no daemon. Its state is in a directory of its own; processes, cgroups and
// network namespaces are those of the machine.
type Podman struct {
	Hooks   string // folder whose *.json say which OCI hooks are called
	runtime string
	parent  string // cgroup of all its containers
	dir     string
	mounts  *MountNS
}

// NewPodman prepares podman with an OCI runtime, runc or crun. Where pureV2 is set, it sees a machine with cgroup v2 alone,
// which crun needs; there are no controllers in it where the machine has version 1 too, so that nothing is limited. At the
// end containers, cgroups and files are removed. It needs root and Debian's packages podman and busybox-static.
func NewPodman(t testing.TB, runtime string, pureV2 bool) *Podman {
	t.Helper()
	RequireRoot(t)
	for _, program := range []string{"podman", "conmon", "busybox", runtime} {
		if _, err := LookPath(program); err != nil {
			Unsupported(t, "podman", err.Error())
		}
	}
	dir, err := os.MkdirTemp("", "sallyport-") //nolint:usetesting // t.TempDir is too long for the path of a socket
	if err != nil {
		t.Fatal(err)
	}
	p := &Podman{Hooks: filepath.Join(dir, "hooks"), runtime: runtime, parent: UniqueName(), dir: dir}
	over := map[string]string{}
	if pureV2 {
		over["/sys/fs/cgroup"] = UnifiedHierarchy(t)
	}
	// Locks in shared memory would be those of the machine's podman, and its limits on processes more than ours.
	config := fmt.Sprintf(`[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
pids_limit = 0
[engine]
cgroup_manager = "cgroupfs"
events_logger = "none"
lock_type = "file"
hooks_dir = [%q]
`, p.Hooks)
	p.mounts = NewMountNS(t, over) // closed after what is in it
	t.Cleanup(func() { p.close(t) })
	err = errors.Join(os.Mkdir(p.Hooks, 0o700), os.WriteFile(filepath.Join(dir, "containers.conf"), []byte(config), 0o600))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// UnifiedHierarchy is where the machine has cgroup v2, alone or beside v1.
func UnifiedHierarchy(t testing.TB) string {
	t.Helper()
	for _, at := range CgroupHierarchies(t) {
		var st unix.Statfs_t
		if unix.Statfs(at, &st) == nil && st.Type == unix.CGROUP2_SUPER_MAGIC {
			return at
		}
	}
	t.Fatal("no cgroup v2 hierarchy is mounted")
	return ""
}

// podmanTime bounds one call.
const podmanTime = 2 * time.Minute

// Try runs podman. How it ended is its exit code, which run takes from the container.
func (p *Podman) Try(t testing.TB, args ...string) ExecResult {
	t.Helper()
	flags := []string{
		"--root", filepath.Join(p.dir, "root"), "--runroot", filepath.Join(p.dir, "run"), "--tmpdir", filepath.Join(p.dir, "tmp"),
		"--storage-driver", "vfs", "--runtime", p.runtime,
	}
	cmd := exec.Command("podman", append(flags, args...)...)
	cmd.Env = []string{"PATH=" + SystemPath(), "HOME=" + p.dir, "CONTAINERS_CONF=" + filepath.Join(p.dir, "containers.conf")}
	cmd.WaitDelay = time.Second // conmon may hold the pipes
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	p.mounts.Do(t, cmd.Start)
	timer := time.AfterFunc(podmanTime, func() { _ = cmd.Process.Kill() }) // its exit code tells
	defer timer.Stop()
	err := cmd.Wait()
	if _, ended := errors.AsType[*exec.ExitError](err); err != nil && !ended && !errors.Is(err, exec.ErrWaitDelay) {
		t.Fatal("running podman: ", err)
	}
	return ExecResult{Stdout: stdout.String(), Stderr: stderr.String(), Code: cmd.ProcessState.ExitCode()}
}

// Build builds an image from a Dockerfile and returns a file of it that containerd can import. from names the folders
// that stand in for earlier stages, by the names of these.
func (p *Podman) Build(t testing.TB, dockerfile, ref string, from map[string]string) (archive string) {
	t.Helper()
	archive = filepath.Join(t.TempDir(), "image.tar")
	args := []string{"build", "--file", dockerfile, "--tag", ref}
	for stage, dir := range from {
		args = append(args, "--build-context", stage+"="+dir)
	}
	p.Must(t, append(args, t.TempDir())...)
	p.Must(t, "save", "--output", archive, ref)
	return archive
}

// Must runs podman, which must end well.
func (p *Podman) Must(t testing.TB, args ...string) string {
	t.Helper()
	r := p.Try(t, args...)
	if r.Code != 0 {
		t.Fatalf("podman %s: exit code %d: %s", strings.Join(args, " "), r.Code, r.Stderr)
	}
	return r.Stdout
}

// Run runs a container of an image in a network namespace; flags are those of podman run. It is privileged, since crun
// could not limit its devices where it may not lock memory.
func (p *Podman) Run(t testing.TB, image string, network *NetNS, flags []string, args ...string) ExecResult {
	t.Helper()
	all := append([]string{"run", "--privileged", "--cgroup-parent", "/" + p.parent, "--network", "ns:" + network.Path()}, flags...)
	return p.Try(t, append(append(all, image), args...)...)
}

// Image makes an image of busybox and files. No registry is asked.
func (p *Podman) Image(t testing.TB, ref string, files ...File) {
	t.Helper()
	file := filepath.Join(p.dir, "image.tar")
	archive, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(WriteImage(t, archive, ImageSpec{Ref: ref, Files: files}), archive.Close()); err != nil {
		t.Fatal("writing the image: ", err)
	}
	p.Must(t, "load", "--input", file)
}

func (p *Podman) close(t testing.TB) {
	t.Helper()
	p.Must(t, "rm", "--all", "--force", "--time", "0")
	RemoveCgroups(t, p.parent)
	if err := os.RemoveAll(p.dir); err != nil {
		t.Errorf("removing podman's files: %v", err)
	}
}
