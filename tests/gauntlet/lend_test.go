package gauntlet

import (
	"errors"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/tests/testutil"
	"github.com/sallyport/sallyport/tests/testutil/pod"
)

// lend is the connection to the open port of a process of the node, which runs inside the pod's network namespace, for an
// attack that comes with one; or nil. The process lives as long as the test.
func (s *scene) lend(t *testing.T, a *attack) *os.File {
	t.Helper()
	if !a.lent {
		return nil
	}
	s.open.Reset()
	owner := s.victim(&pod.Container{Dir: s.node.Cgroup(t, "node"), NS: s.ns}, "offer-tcp SERVER4 OPEN @lent 60000")
	owner.HostMounts = true
	owner.Start(t)
	t.Cleanup(func() {
		_ = owner.Process.Kill() // may have ended
		owner.Result()
	})
	testutil.Eventually(t, "the node's connection", func() error {
		if len(s.open.Contacts()) == 0 {
			return errors.New("it has not come")
		}
		return nil
	})
	return connection(t, owner.Process.Pid)
}

// connection is the first connection over IPv4 that a process has.
func connection(t *testing.T, pid int) *os.File {
	t.Helper()
	pidfd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pidfd)
	const most = 32
	for there := range most {
		fd, err := unix.PidfdGetfd(pidfd, there, 0)
		if errors.Is(err, unix.EBADF) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		file := os.NewFile(uintptr(fd), "connection")
		if peer, err := unix.Getpeername(fd); err == nil {
			if _, ok := peer.(*unix.SockaddrInet4); ok {
				return file
			}
		}
		_ = file.Close() // another's
	}
	t.Fatal("the process has no connection")
	return nil
}
