package inventory

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sallyport/sallyport/tests/testutil"
)

// freeing is how long the kernel may take to free what nobody holds any more. What a process holds itself is gone at once.
func freeing() time.Duration {
	if testutil.InVM() {
		return time.Minute
	}
	return 3 * time.Second
}

// Main is the TestMain of tests that touch the kernel. A package whose tests pass fails all the same if they leave behind a
// goroutine, a child, a descriptor of anything, a pin, or a cgroup; in a guest, which is the test's alone, any program, map or link
// of the kernel too. Elsewhere those are the test's that it holds or has pinned: others on the machine load theirs meanwhile.
// free is what gives back what a package keeps from one test to the next.
func Main(m *testing.M, free ...func() error) {
	temporary, err := ownTemporary()
	if err != nil {
		fmt.Fprintln(os.Stderr, "making a place for the tests' files:", err)
		os.Exit(1)
	}
	before, err := hold()
	if err != nil {
		fmt.Fprintln(os.Stderr, "taking the inventory before the tests:", err)
		os.Exit(1)
	}
	code := m.Run()
	for _, f := range free {
		if err := f(); err != nil {
			fmt.Fprintln(os.Stderr, "giving back what the tests shared:", err)
			code = max(code, 1)
		}
	}
	if code == 0 { // a test that failed may have left anything
		if err := left(before); err != nil {
			fmt.Fprintln(os.Stderr, "FAIL: the tests have passed, and left something behind:", err)
			code = 1
		}
	}
	_ = os.RemoveAll(temporary) // what is mounted in it was told of
	os.Exit(code)
}

// ownTemporary gives the tests a directory for theirs, by which what they mount is told from what other tests do meanwhile.
func ownTemporary() (string, error) {
	dir, err := os.MkdirTemp("", "st-") // short, as sockets' paths have to be
	if err != nil {
		return "", err
	}
	// Others than root run what tests put there.
	return dir, errors.Join(os.Chmod(dir, 0o755), os.Setenv("TMPDIR", dir))
}

// left waits until nothing is held that was not held before.
func left(before Inventory) error {
	if err := goleak.Find(); err != nil {
		return err
	}
	for end := time.Now().Add(freeing()); ; time.Sleep(50 * time.Millisecond) {
		runtime.GC() // it closes what nobody refers to any more
		now, err := hold()
		if err != nil {
			return err
		}
		more := now.But(before)
		if len(more) == 0 {
			return nil
		}
		if time.Now().After(end) {
			return fmt.Errorf("\n%s", more)
		}
	}
}

// hold lists what this process holds, and in a guest what anybody does.
func hold() (Inventory, error) {
	i := Inventory{}
	errs := []error{i.descriptors(), i.children(), i.pins(), i.ownCgroups()}
	if testutil.InVM() {
		errs = append(errs, i.programs(), i.maps(), i.links())
	}
	return i, errors.Join(errs...)
}

// descriptors lists what the process has open, but for what Go's runtime waits by.
func (i Inventory) descriptors() error {
	const own = "/proc/self/fd"
	entries, err := os.ReadDir(own)
	if err != nil {
		return err
	}
	for _, e := range entries {
		to, err := os.Readlink(filepath.Join(own, e.Name()))
		if errors.Is(err, os.ErrNotExist) || strings.HasPrefix(to, "anon_inode:[event") {
			continue // the directory's own, which is closed by now
		}
		if err != nil {
			return err
		}
		i.add("descriptor", e.Name(), to)
	}
	return nil
}

// children lists the processes that this one has started and not waited for.
func (i Inventory) children() error {
	files, err := filepath.Glob("/proc/[0-9]*/status")
	if err != nil {
		return err
	}
	for _, file := range files {
		status, err := os.ReadFile(file)
		if err != nil {
			continue // it went meanwhile
		}
		if name, _, _ := strings.Cut(string(status), "\n"); strings.Contains(string(status), fmt.Sprintf("\nPPid:\t%d\n", os.Getpid())) {
			i.add("child", strings.Split(file, "/")[2], strings.TrimPrefix(name, "Name:\t"))
		}
	}
	return nil
}

// pins lists the BPF file systems that the tests have mounted, in a guest all that there are, and what is pinned there.
func (i Inventory) pins() error {
	roots, err := fileSystems()
	if err != nil {
		return err
	}
	for _, root := range roots {
		if !testutil.InVM() && !strings.HasPrefix(root, os.TempDir()+"/") {
			continue
		}
		i.add("file system", root, "")
		if err := i.walk("pin", root); err != nil {
			return err
		}
	}
	return nil
}

// ownCgroups lists those that the package pod has made for this process.
func (i Inventory) ownCgroups() error {
	for _, root := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified"} {
		dirs, err := filepath.Glob(filepath.Join(root, fmt.Sprintf("sallyport-test-%d-*", os.Getpid())))
		if err != nil {
			return err
		}
		for _, dir := range dirs {
			i.add("cgroup", dir, "")
		}
	}
	return nil
}
