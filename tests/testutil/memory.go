package testutil

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// Memory is a memory cgroup of the test's own, of either version of cgroups.
type Memory struct {
	dir         string
	root        string // the hierarchy
	limit, used string // names of files
}

// NewMemory makes it, without a limit. At the end of the test what is in it goes to the root of the hierarchy.
func NewMemory(t testing.TB) *Memory {
	t.Helper()
	RequireRoot(t)
	m := &Memory{root: "/sys/fs/cgroup/memory", limit: "memory.limit_in_bytes", used: "memory.usage_in_bytes"}
	if _, err := os.Stat(filepath.Join(m.root, "cgroup.procs")); err != nil {
		m.root, m.limit, m.used = UnifiedHierarchy(t), "memory.max", "memory.current"
		m.write(t, filepath.Join(m.root, "cgroup.subtree_control"), "+memory")
	}
	m.dir = filepath.Join(m.root, UniqueName())
	if err := os.Mkdir(m.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.remove(t) })
	return m
}

func (m *Memory) write(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0); err != nil {
		t.Fatal(err)
	}
}

func (m *Memory) remove(t testing.TB) {
	t.Helper()
	pids, err := os.ReadFile(filepath.Join(m.dir, "cgroup.procs"))
	for pid := range strings.FieldsSeq(string(pids)) {
		err = errors.Join(err, os.WriteFile(filepath.Join(m.root, "cgroup.procs"), []byte(pid), 0))
	}
	if err = errors.Join(err, unix.Rmdir(m.dir)); err != nil {
		t.Errorf("removing %s: %v", m.dir, err)
	}
}

// Charge does something whose memory is charged to the cgroup: what the test's process allocates meanwhile, and what maps that
// it makes meanwhile allocate ever.
func (m *Memory) Charge(t testing.TB, do func()) {
	t.Helper()
	self := strconv.Itoa(os.Getpid())
	m.write(t, filepath.Join(m.dir, "cgroup.procs"), self)
	defer m.write(t, filepath.Join(m.root, "cgroup.procs"), self)
	do()
}

// Enter puts a process into it.
func (m *Memory) Enter(t testing.TB, pid int) {
	t.Helper()
	m.write(t, filepath.Join(m.dir, "cgroup.procs"), strconv.Itoa(pid))
}

// Leave lets it grow by so many bytes more than it has now, and no further; negative: as far as it likes.
func (m *Memory) Leave(t testing.TB, more int64) {
	t.Helper()
	text := map[string]string{"memory.max": "max"}[m.limit]
	if more >= 0 {
		text = strconv.FormatInt(m.Used(t)+more, 10)
	} else if text == "" {
		text = "-1"
	}
	m.write(t, filepath.Join(m.dir, m.limit), text)
}

// Used is how many bytes are charged to it.
func (m *Memory) Used(t testing.TB) int64 {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(m.dir, m.used))
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}
