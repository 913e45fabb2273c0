package oci

import (
	"errors"
	"fmt"
	"os"

	"github.com/sallyport/sallyport/runtime/cgroup"
	"github.com/sallyport/sallyport/runtime/identity"
	"github.com/sallyport/sallyport/runtime/procfs"
)

// ErrNoCgroup is wrapped where a container has no cgroup of its own, by which the kernel could tell it apart.
var ErrNoCgroup = errors.New("it has no cgroup of its own")

// Locator finds containers on the node.
type Locator struct {
	Cgroups cgroup.Hierarchy
	Proc    procfs.FS // must show processes by the numbers that the runtime uses
}

// Locate fills in where a container is: its first process, its cgroup, and whether its network is the node's.
// cgroupsPath is the one of the OCI spec. The process must be in a cgroup that is named for the container, so that a
// number that went to another process in between is not taken for it.
func (l Locator) Locate(c *identity.Container, pid uint32, cgroupsPath string) error {
	p, err := l.Proc.Process(pid)
	if err != nil {
		return fmt.Errorf("locating container %s: %w", c.ID, err)
	}
	path, named := cgroup.Top(p.Cgroup, cgroupsPath, c.ID)
	if !named || path == "/" {
		return fmt.Errorf("locating container %s: %w: process %d is in %s", c.ID, ErrNoCgroup, pid, p.Cgroup)
	}
	id, err := l.Cgroups.ID(path)
	if err != nil {
		return fmt.Errorf("locating container %s: %w", c.ID, err)
	}
	c.InitPID, c.CgroupPath, c.CgroupID = pid, path, id
	if host := l.hostNet(); host != 0 && p.Namespaces.Net != 0 {
		c.Pod.HostNetwork = p.Namespaces.Net == host
	}
	return nil
}

// hostNet is the inode of the node's network namespace: that of PID 1, or the agent's own where a security module hides
// PID 1's; 0 where neither can be seen.
func (l Locator) hostNet() uint64 {
	for _, pid := range []uint32{1, uint32(os.Getpid())} {
		if inode, err := l.Proc.NetNS(pid); err == nil {
			return inode
		}
	}
	return 0
}
