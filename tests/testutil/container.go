package testutil

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// RunSpec says which container to run.
type RunSpec struct {
	ID           string
	Namespace    string // of containerd; "": the Containerd's own
	Image        string
	Args         []string
	NetNS        string // path of the network namespace to join (NetNS.Path); "": a new one
	HostNetwork  bool
	PIDNS        string // path of the PID namespace to join; "": a new one
	Labels       map[string]string
	Annotations  map[string]string
	Env          []string // KEY=VALUE
	Mounts       []string // as ctr run --mount takes them
	Capabilities []string // added: CAP_NET_ADMIN
	Privileged   bool
	Cgroup       string // path; "": /NAMESPACE/ID
	Snapshotter  string // overlayfs, as nodes have it; "": native, which copies
}

// Container is a container that Run started.
type Container struct {
	ID        string
	Namespace string
	PID       uint32 // of its first process, on the machine
	in        *Containerd
}

// ExecResult is what a program wrote and how it ended.
type ExecResult struct {
	Stdout, Stderr string
	Code           int
}

// Run starts a container with ctr run, detached. Its output is read with Log.
func (c *Containerd) Run(t testing.TB, spec RunSpec) *Container {
	t.Helper()
	if spec.Namespace == "" {
		spec.Namespace = c.Namespace
	}
	c.used[spec.Namespace] = true
	pidFile := c.path(spec.Namespace + "." + spec.ID + ".pid")
	args := append([]string{
		"run", "--detach", "--snapshotter", cmp.Or(spec.Snapshotter, "native"), "--fifo-dir", c.path("fifo"),
		"--pid-file", pidFile, "--log-uri", "file://" + c.logOf(spec.Namespace, spec.ID),
	}, spec.flags()...)
	args = append(append(args, spec.Image, spec.ID), spec.Args...)
	if _, err := c.try(spec.Namespace, args...); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(pidFile)
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 32)
	if err != nil {
		t.Fatal(err)
	}
	return &Container{ID: spec.ID, Namespace: spec.Namespace, PID: uint32(pid), in: c}
}

func (spec RunSpec) flags() []string {
	var flags []string
	add := func(flag, value string) {
		if value != "" {
			flags = append(flags, flag, value)
		}
	}
	for key, value := range spec.Labels {
		add("--label", key+"="+value)
	}
	for key, value := range spec.Annotations {
		add("--annotation", key+"="+value)
	}
	for _, value := range spec.Env {
		add("--env", value)
	}
	for _, value := range spec.Mounts {
		add("--mount", value)
	}
	for _, value := range spec.Capabilities {
		add("--cap-add", value)
	}
	add("--cgroup", spec.Cgroup)
	if spec.HostNetwork { // --net-host would also want /etc/resolv.conf and /etc/hosts, which guests lack
		spec.NetNS = fmt.Sprintf("/proc/%d/ns/net", os.Getpid())
	}
	if spec.NetNS != "" {
		add("--with-ns", "network:"+spec.NetNS)
	}
	if spec.PIDNS != "" {
		add("--with-ns", "pid:"+spec.PIDNS)
	}
	if spec.Privileged {
		flags = append(flags, "--privileged")
	}
	return flags
}

func (c *Containerd) logOf(namespace, name string) string {
	return filepath.Join(c.dir, "log", namespace+"."+name)
}

// Exec runs a program in the container with ctr task exec, and waits for its end.
func (k *Container) Exec(t testing.TB, args ...string) ExecResult {
	t.Helper()
	k.in.execs++
	id := "exec" + strconv.Itoa(k.in.execs)
	flags := []string{"task", "exec", "--exec-id", id, "--fifo-dir", k.in.path("fifo"), k.ID}
	result, err := k.in.ctr(k.Namespace, append(flags, args...)...)
	if err != nil {
		t.Fatal(err)
	}
	return result
}

// ExecDetached starts a program in the container with ctr task exec, and returns its PID on the machine. Its output is
// read with ExecLog.
func (k *Container) ExecDetached(t testing.TB, execID string, args ...string) uint32 {
	t.Helper()
	log := "file://" + k.in.logOf(k.Namespace, k.ID+"."+execID)
	flags := []string{"task", "exec", "--detach", "--exec-id", execID, "--log-uri", log, k.ID}
	if _, err := k.in.try(k.Namespace, append(flags, args...)...); err != nil {
		t.Fatal(err)
	}
	list, err := k.in.try(k.Namespace, "task", "ps", k.ID)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(list) {
		fields := strings.Fields(line)
		if pid, err := strconv.ParseUint(fields[0], 10, 32); err == nil && strings.Contains(line, execID) {
			return uint32(pid)
		}
	}
	t.Fatalf("exec %s is not among the container's processes:\n%s", execID, list)
	return 0
}

// Log returns what the container's first process and its children have written.
func (k *Container) Log(t testing.TB) string {
	t.Helper()
	return readLog(t, k.in.logOf(k.Namespace, k.ID))
}

// ExecLog returns what a detached exec has written.
func (k *Container) ExecLog(t testing.TB, execID string) string {
	t.Helper()
	return readLog(t, k.in.logOf(k.Namespace, k.ID+"."+execID))
}

func readLog(t testing.TB, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return string(text)
}

// Signal sends a signal (SIGTERM) to the container's first process with ctr task kill.
func (k *Container) Signal(t testing.TB, signal string) {
	t.Helper()
	if _, err := k.in.try(k.Namespace, "task", "kill", "--signal", signal, k.ID); err != nil {
		t.Fatal(err)
	}
}

// Remove ends the container and removes it.
func (k *Container) Remove(t testing.TB) {
	t.Helper()
	k.in.remove(t, k.Namespace, k.ID)
}

func (c *Containerd) remove(t testing.TB, namespace, id string) {
	t.Helper()
	deadline := time.Now().Add(callTimeout)
	for { // without a task there is nothing to delete first, and right after a start deleting may fail once
		_, taskErr := c.try(namespace, "task", "delete", "--force", id)
		_, err := c.try(namespace, "container", "delete", id)
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Errorf("removing container %s: %v", id, errors.Join(taskErr, err))
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func (c *Containerd) removeAll(t testing.TB, namespace string) {
	t.Helper()
	list, err := c.try(namespace, "container", "list", "--quiet")
	if err != nil {
		t.Errorf("listing what is to be removed: %v", err)
		return
	}
	for id := range strings.FieldsSeq(list) {
		c.remove(t, namespace, id)
	}
}

// CgroupHierarchies returns where the hierarchies of cgroups are mounted, those of version 1 and that of version 2.
func CgroupHierarchies(t testing.TB) []string {
	t.Helper()
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	var at []string
	for line := range strings.Lines(string(mounts)) {
		if fields := strings.Fields(line); len(fields) > 2 && (fields[2] == "cgroup" || fields[2] == "cgroup2") {
			at = append(at, fields[1])
		}
	}
	return at
}

// RemoveCgroups removes the cgroup /NAME and what is below, in every hierarchy. No process is left in them.
func RemoveCgroups(t testing.TB, name string) {
	t.Helper()
	for _, hierarchy := range CgroupHierarchies(t) {
		var dirs []string
		err := filepath.WalkDir(filepath.Join(hierarchy, name), func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				dirs = append(dirs, path)
			}
			return nil // what went meanwhile is what is wanted
		})
		if err != nil {
			t.Error(err)
		}
		for _, dir := range slices.Backward(dirs) {
			if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("removing a cgroup: %v", err)
			}
		}
	}
}
