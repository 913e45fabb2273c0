package testutil

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// NetNS is a network namespace. It lives as long as the test, or a process in it.
type NetNS struct {
	file *os.File
}

// NewNetNS makes a network namespace with its loopback up.
func NewNetNS(t testing.TB) *NetNS {
	t.Helper()
	RequireRoot(t)
	n := &NetNS{}
	err := OnThread(func() error {
		err := unix.Unshare(unix.CLONE_NEWNET)
		if err == nil {
			n.file, err = os.Open("/proc/thread-self/ns/net")
		}
		if err != nil {
			return err
		}
		return withoutDAD("default")
	})
	if err != nil {
		t.Fatal("making a network namespace: ", err)
	}
	t.Cleanup(func() { _ = n.file.Close() }) // frees the namespace
	h := n.Handle(t)
	lo, err := h.LinkByName("lo")
	if err == nil {
		err = h.LinkSetUp(lo)
	}
	if err != nil {
		t.Fatal("bringing up the loopback: ", err)
	}
	return n
}

// hostNetNS is the network namespace of the test itself.
func hostNetNS(t testing.TB) *NetNS {
	t.Helper()
	file, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = file.Close() }) // read only
	return &NetNS{file: file}
}

// Path names the namespace to other processes, while the test runs.
func (n *NetNS) Path() string { return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), n.file.Fd()) }

// Inode is the namespace's number in /proc/PID/ns/net.
func (n *NetNS) Inode(t testing.TB) uint64 {
	t.Helper()
	var stat unix.Stat_t
	if err := unix.Fstat(int(n.file.Fd()), &stat); err != nil {
		t.Fatal(err)
	}
	return stat.Ino
}

// Cookie is the number by which the kernel's programs know the namespace.
func (n *NetNS) Cookie(t testing.TB) (cookie uint64) {
	t.Helper()
	n.Do(t, func() error {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		cookie, err = unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
		return errors.Join(err, unix.Close(fd))
	})
	return cookie
}

// Do runs f on a thread in the namespace. Sockets that f makes, and processes that it starts, are and stay in it; what
// f starts with go is not.
func (n *NetNS) Do(t testing.TB, f func() error) {
	t.Helper()
	if err := n.Try(f); err != nil {
		t.Fatal("in a network namespace: ", err)
	}
}

// Try is Do for what may fail, and for any goroutine.
func (n *NetNS) Try(f func() error) error {
	return OnThread(func() error {
		if err := unix.Setns(int(n.file.Fd()), unix.CLONE_NEWNET); err != nil {
			return err
		}
		return f()
	})
}

// Listen listens for TCP in the namespace. Whoever asked for it closes it.
func (n *NetNS) Listen(t testing.TB, at netip.AddrPort) (l net.Listener) {
	t.Helper()
	n.Do(t, func() (err error) {
		l, err = net.Listen("tcp", at.String())
		return err
	})
	return l
}

// Start starts a process in the namespace.
func (n *NetNS) Start(t testing.TB, cmd *exec.Cmd) {
	t.Helper()
	n.Do(t, cmd.Start)
}

// NsHandle is the namespace's, while the test runs.
func (n *NetNS) NsHandle() netns.NsHandle { return netns.NsHandle(n.file.Fd()) }

// Handle speaks rtnetlink in the namespace.
func (n *NetNS) Handle(t testing.TB) *netlink.Handle {
	t.Helper()
	h, err := netlink.NewHandleAt(n.NsHandle(), unix.NETLINK_ROUTE)
	if err != nil {
		t.Fatal("speaking rtnetlink in a network namespace: ", err)
	}
	t.Cleanup(h.Close)
	return h
}

// OnThread runs f on a thread of its own, which ends with it: whatever namespaces f enters, no other code finds itself
// in them.
func OnThread(f func() error) error {
	done := make(chan error)
	go func() {
		err := errors.New("the function ended its goroutine")
		defer func() { done <- err }()
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			// The main thread cannot end, and /proc/self is its: another goroutine gets another thread meanwhile.
			err = OnThread(f)
			runtime.UnlockOSThread()
			return
		}
		err = f()
	}()
	return <-done
}

// withoutDAD makes the IPv6 addresses of an interface of the thread's namespace usable at once, without the second of
// duplicate address detection.
func withoutDAD(link string) error {
	return os.WriteFile("/proc/sys/net/ipv6/conf/"+link+"/accept_dad", []byte("0"), 0o644)
}
