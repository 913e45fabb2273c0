package testutil

import (
	"errors"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// MountNS is a mount namespace that several daemons share, and that outlives each of them. It lives as long as the test,
// or a process in it.
type MountNS struct {
	file *os.File
}

// NewMountNS makes a mount namespace in which files and directories lie over others: over what, from where. Those of
// directories are made where they are missing. What is mounted in it reaches the namespaces of its processes' children,
// as the CRI needs, and nothing else.
func NewMountNS(t testing.TB, over map[string]string) *MountNS {
	t.Helper()
	RequireRoot(t)
	n := &MountNS{}
	err := OnThread(func() error {
		spec := DaemonSpec{Over: over, Shared: true}
		err := errors.Join(spec.makeTargets(), spec.unshare())
		if err == nil {
			n.file, err = os.Open("/proc/thread-self/ns/mnt")
		}
		return err
	})
	if err != nil {
		t.Fatal("making a mount namespace: ", err)
	}
	t.Cleanup(func() { _ = n.file.Close() }) // frees the namespace
	return n
}

// enter takes the calling thread, which must end with its function, into the namespace.
func (n *MountNS) enter() error {
	// A thread that shares its root and working directory with others may not enter.
	return errors.Join(unix.Unshare(unix.CLONE_FS), unix.Setns(int(n.file.Fd()), unix.CLONE_NEWNS))
}

// Do runs f on a thread in the namespace, and processes that f starts are in it too.
func (n *MountNS) Do(t testing.TB, f func() error) {
	t.Helper()
	err := OnThread(func() error {
		if err := n.enter(); err != nil {
			return err
		}
		return f()
	})
	if err != nil {
		t.Fatal("in a mount namespace: ", err)
	}
}
