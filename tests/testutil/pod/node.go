// Package pod makes containers by hand, from the same parts a runtime uses: a cgroup below a parent
// of the test's own, a mount namespace, a network namespace. Tests of LABEL and JUDGE need to say
// exactly how a process enters a container, which no runtime lets them.
package pod

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/tests/testutil"
)

// Node is a cgroup subtree and a BPF file system of the test's own.
type Node struct {
	BPFFS      string // mount point
	CgroupRoot string // directory that cgroup programs are attached to
	Parent     string // path below the hierarchy's root whose children are containers
	pods       string // the directory of Parent
}

// NewNode makes a node and removes it at the end of the test.
func NewNode(t testing.TB) *Node {
	t.Helper()
	testutil.RequireRoot(t)
	hierarchy := hierarchy(t)
	name := fmt.Sprintf("sallyport-test-%d-%s", os.Getpid(), sanitize(t.Name()))
	n := &Node{BPFFS: t.TempDir(), CgroupRoot: filepath.Join(hierarchy, name), Parent: "/" + name + "/pods"}
	n.pods = filepath.Join(n.CgroupRoot, "pods")
	if err := os.Mkdir(n.CgroupRoot, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { removeCgroup(t, n.CgroupRoot) })
	if err := os.Mkdir(n.pods, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("bpf", n.BPFFS, "bpf", 0, ""); err != nil {
		t.Fatalf("mounting a BPF file system: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(n.BPFFS, unix.MNT_DETACH); err != nil {
			t.Errorf("unmounting the BPF file system: %v", err)
		}
	})
	return n
}

// Cgroup makes a cgroup that is no container's, and returns its directory.
func (n *Node) Cgroup(t testing.TB, name string) string {
	t.Helper()
	dir := filepath.Join(n.CgroupRoot, name)
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// sanitize keeps a cgroup name short enough to be a container parent.
func sanitize(s string) string {
	s = strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' {
			return r
		}
		return -1
	}, s)
	return s[max(0, len(s)-20):]
}

// hierarchy is where cgroup v2 is mounted: pure or hybrid.
func hierarchy(t testing.TB) string {
	t.Helper()
	for _, dir := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified"} {
		var st unix.Statfs_t
		if unix.Statfs(dir, &st) == nil && st.Type == unix.CGROUP2_SUPER_MAGIC {
			return dir
		}
	}
	t.Fatal("no cgroup v2 hierarchy is mounted")
	return ""
}

// removeCgroup ends what still runs in a cgroup of the test's own, and removes it.
func removeCgroup(t testing.TB, dir string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, "cgroup.kill"), []byte("1"), 0); err != nil {
		t.Logf("killing %s: %v", dir, err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Errorf("listing %s: %v", dir, err)
	}
	for _, e := range entries {
		if e.IsDir() {
			removeCgroup(t, filepath.Join(dir, e.Name()))
		}
	}
	testutil.Eventually(t, "removing "+dir, func() error { return unix.Rmdir(dir) })
}
