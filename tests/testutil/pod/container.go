package pod

import (
	"bufio"
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/tests/testutil"
)

// Container is a cgroup with the network namespace its processes run in.
type Container struct {
	Dir string // cgroup directory
	ID  uint64 // its inode
	NS  netns.NsHandle

	mounts *os.File // its mount namespace, once a process has entered
}

// Container makes a container. With the zero handle it gets a network namespace of its own, with
// loopback up and nothing else.
func (n *Node) Container(t testing.TB, name string, ns netns.NsHandle) *Container {
	t.Helper()
	c := &Container{Dir: filepath.Join(n.pods, name), NS: ns}
	if err := os.Mkdir(c.Dir, 0o755); err != nil {
		t.Fatal(err)
	}
	var st unix.Stat_t
	if err := unix.Stat(c.Dir, &st); err != nil {
		t.Fatal(err)
	}
	c.ID = st.Ino
	if ns == 0 {
		c.NS = newNetNS(t)
	}
	t.Cleanup(func() {
		if c.mounts != nil {
			_ = c.mounts.Close() // a handle
		}
	})
	return c
}

// newNetNS makes a network namespace with loopback up.
func newNetNS(t testing.TB) netns.NsHandle {
	t.Helper()
	var handle netns.NsHandle
	err := testutil.OnThread(func() error {
		var err error
		if handle, err = netns.New(); err != nil {
			return err
		}
		return loopbackUp()
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = handle.Close() }) // the last handle: nothing to be told
	return handle
}

// loopbackUp sets lo up in the current namespace.
func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd) //nolint:errcheck // a socket for one ioctl
	ifr, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	ifr.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, ifr)
}

// Command is a process that enters the container the way a runtime's does: cloned into the cgroup,
// in the container's mount namespace, which the first one makes, in the container's network namespace, then executed. The first of
// a container is Main, the later are Exec.
func (c *Container) Command(args ...string) *Process {
	cmd := exec.Command(args[0], args[1:]...) // the test's own program
	p := &Process{Cmd: cmd, container: c}
	cmd.Stdout, cmd.Stderr = &p.out, &p.err
	cmd.WaitDelay = stragglers
	return p
}

// stragglers is how long Wait waits for processes that still hold the output open.
const stragglers = 10 * time.Second

// Process is a process of a container.
type Process struct {
	*exec.Cmd
	HostMounts bool    // stay in the caller's mount namespace, as a runtime's own init does at first
	UserNS     *UserNS // not nil: in a user namespace of its own, as its root
	container  *Container
	out, err   bytes.Buffer
}

// UserNS is a user namespace whose ids, users and groups, are those of the node from First on.
type UserNS struct{ First, Count int }

// enter makes the attributes of a process those of one in the namespace.
func (u *UserNS) enter(attr *syscall.SysProcAttr) {
	ids := []syscall.SysProcIDMap{{ContainerID: 0, HostID: u.First, Size: u.Count}}
	attr.Cloneflags |= syscall.CLONE_NEWUSER
	attr.UidMappings, attr.GidMappings, attr.GidMappingsEnableSetgroups = ids, ids, true
	attr.Credential = &syscall.Credential{}
}

// Start starts it.
func (p *Process) Start(t testing.TB) {
	t.Helper()
	dir, err := os.Open(p.container.Dir)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close() //nolint:errcheck // read only
	p.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(dir.Fd())}
	if p.UserNS != nil {
		p.UserNS.enter(p.SysProcAttr)
	}
	err = testutil.OnThread(func() error {
		if err := netns.Set(p.container.NS); err != nil {
			return err
		}
		if !p.HostMounts {
			if err := p.enterMounts(); err != nil {
				return err
			}
		}
		return p.Cmd.Start()
	})
	if err != nil {
		t.Fatal(err)
	}
}

// enterMounts puts the calling thread, which ends after this, into the container's mount namespace.
func (p *Process) enterMounts() (err error) {
	if p.Dir == "" { // entering a namespace ends in its root
		if p.Dir, err = os.Getwd(); err != nil {
			return err
		}
	}
	if p.container.mounts == nil {
		return p.container.makeMounts()
	}
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return os.NewSyscallError("unshare", err)
	}
	return os.NewSyscallError("setns", unix.Setns(int(p.container.mounts.Fd()), unix.CLONE_NEWNS))
}

// makeMounts makes the mount namespace, a copy of the test's, and leaves the calling thread in it.
func (c *Container) makeMounts() (err error) {
	if err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS); err != nil {
		return os.NewSyscallError("unshare", err)
	}
	if err := unix.Mount("none", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return os.NewSyscallError("mount", err)
	}
	c.mounts, err = os.Open("/proc/thread-self/ns/mnt")
	return err
}

// Listen gives the lines that the process, not yet started, says on standard error; Complaint is empty then.
func (p *Process) Listen() (*bufio.Scanner, error) {
	p.Stderr = nil
	r, err := p.StderrPipe()
	return bufio.NewScanner(r), err
}

// Result waits for a started process and returns the line it printed. Its exit code is in
// ProcessState; what it said on standard error is in Complaint.
func (p *Process) Result() string {
	_ = p.Wait() // the exit code is the victim's verdict, which its output says better
	return strings.TrimSpace(p.out.String())
}

// Complaint is what the process said on standard error, after Result.
func (p *Process) Complaint() string { return strings.TrimSpace(p.err.String()) }

// Run starts it, waits, and returns the line it printed.
func (p *Process) Run(t testing.TB) string {
	t.Helper()
	p.Start(t)
	return p.Result()
}
