package oracle

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/tests/testutil/pod"
)

// envCaller makes this test binary a caller: a process in a container that makes the calls it is told
// on standard input. Its value is the directory it takes for its root, or the mount namespace of a caller that has done so,
// then its path in there.
const envCaller = "SALLYPORT_ORACLE_CALLER"

// Lines on standard input and output of a caller.
const (
	formCall   = "%s %d %s\n" // connect or bind, protocol, address and port
	formAnswer = "%d\n"       // errno
	formHere   = "here\n"     // it is where it calls from
)

// callerMain is the caller. Its first run goes where the second is to be found.
func callerMain() int {
	if root, exe, first := strings.Cut(os.Getenv(envCaller), " "); first {
		err := enter(root)
		if err == nil {
			err = unix.Exec(exe, []string{exe}, []string{envCaller + "=here"})
		}
		fmt.Fprintln(os.Stderr, "becoming", exe, "below", root, err)
		return 125
	}
	runtime.LockOSThread() // one task makes all calls
	fmt.Fprint(os.Stdout, formHere)
	for {
		var name, at string
		var protocol int
		if _, err := fmt.Scanf(formCall, &name, &protocol, &at); err != nil {
			return 0 // the test has closed the pipe
		}
		peer, err := netip.ParseAddrPort(at)
		if err != nil {
			return 125
		}
		fmt.Fprintf(os.Stdout, formAnswer, call(name, protocol, peer))
	}
}

// enter makes a directory the root of a mount namespace of the calling thread's own, as runtimes do: the root of a
// namespace is what paths of programs count from, chroot(2) alone changes nothing. Moved there and not pivoted to,
// which the first file system of a guest does not allow.
func enter(root string) error {
	runtime.LockOSThread()
	if strings.HasPrefix(root, "/proc/") {
		return join(root)
	}
	for _, step := range []func() error{
		func() error { return unix.Unshare(unix.CLONE_NEWNS) },
		func() error { return unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "") },
		func() error { return unix.Mount(root, root, "", unix.MS_BIND, "") },
		func() error { return unix.Chdir(root) },
		func() error { return unix.Mount(root, "/", "", unix.MS_MOVE, "") },
		func() error { return unix.Chroot(".") },
		func() error { return unix.Chdir("/") },
	} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// join puts the calling thread into the mount namespace of another caller, whose root is its own then: the processes of a
// container have one, and files of others are not the container's.
func join(namespace string) error {
	file, err := os.Open(namespace)
	if err != nil {
		return err
	}
	defer file.Close()
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return err
	}
	return unix.Setns(int(file.Fd()), unix.CLONE_NEWNS)
}

// call makes one call and returns its errno.
func call(name string, protocol int, at netip.AddrPort) syscall.Errno {
	kind := unix.SOCK_STREAM
	if protocol == unix.IPPROTO_UDP {
		kind = unix.SOCK_DGRAM
	}
	family, to := unix.AF_INET6, unix.Sockaddr(&unix.SockaddrInet6{Port: int(at.Port()), Addr: at.Addr().As16()})
	if at.Addr().Is4() {
		family, to = unix.AF_INET, &unix.SockaddrInet4{Port: int(at.Port()), Addr: at.Addr().As4()}
	}
	fd, err := unix.Socket(family, kind|unix.SOCK_NONBLOCK, protocol)
	if err == nil {
		defer unix.Close(fd) // of a socket that carried nothing
		if name == "bind" {
			err = unix.Bind(fd, to)
		} else {
			err = unix.Connect(fd, to)
		}
	}
	var errno syscall.Errno
	errors.As(err, &errno)
	return errno
}

// caller is a process of the test that makes calls.
type caller struct {
	process policy.Process // without its workload, which the policies of the moment decide
	pid     uint32
	in      io.Writer
	out     *bufio.Reader
}

// newCaller starts a process in a container as exe, a path below root, or in the mount namespace that root is.
func newCaller(t *testing.T, c *pod.Container, root, exe string) *caller {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p := c.Command(self)
	p.HostMounts = true // its first program is exe, as that of a container is what the runtime's init executes
	p.Env = []string{envCaller + "=" + root + " " + exe}
	p.Stdout, p.Stderr = nil, os.Stderr
	in, err := p.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := p.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.Start(t)
	t.Cleanup(func() {
		_ = in.Close() // what tells the caller to end
		if err := p.Wait(); err != nil {
			t.Errorf("the caller %s: %v", exe, err)
		}
	})
	lines := bufio.NewReader(out)
	if _, err := fmt.Fscanf(lines, formHere); err != nil {
		t.Fatalf("waiting for the caller %s: %v", exe, err)
	}
	return &caller{policy.Process{Exe: exe}, uint32(p.Process.Pid), in, lines}
}

// make makes a call and returns its errno.
func (c *caller) make(t *testing.T, q policy.Call) syscall.Errno {
	t.Helper()
	name := "connect"
	if q.Listen {
		name = "bind"
	}
	if _, err := fmt.Fprintf(c.in, formCall, name, q.Protocol, netip.AddrPortFrom(q.Peer, q.Port)); err != nil {
		t.Fatal("telling a caller what to call: ", err)
	}
	var errno int
	if _, err := fmt.Fscanf(c.out, formAnswer, &errno); err != nil {
		t.Fatal("reading what a caller got: ", err)
	}
	return syscall.Errno(errno)
}

// plant makes a root directory in which this test binary, which must be static, has these paths.
func plant(t *testing.T, paths []string) string {
	t.Helper()
	root := t.TempDir()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	image, err := os.ReadFile(self)
	if err != nil {
		t.Fatal(err)
	}
	first := filepath.Join(root, "caller")
	if err := os.WriteFile(first, image, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, path := range paths {
		path = filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Link(first, path); err != nil {
			t.Fatal(err)
		}
	}
	return root
}
