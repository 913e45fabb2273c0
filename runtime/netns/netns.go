// Package netns owns what the agent asks of network namespaces: the cookie by which the kernel programs know one, and
// the links in it with the interface on the node at their other end. It imports nothing of this module.
package netns

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// NoPeerNetNS is the PeerNetnsID of a link whose other end, if it has one, is in the same network namespace.
const NoPeerNetNS = -1

// Namespace is a network namespace.
type Namespace struct {
	Cookie uint64 // unique on this boot, what bpf_get_netns_cookie returns
	Inode  uint64 // of its file in nsfs, as /proc/PID/ns/net shows it; given away again when the namespace is gone
	Links  []Link // in the order of their indexes; the loopback is among them
}

// Link is an interface in a namespace.
type Link struct {
	Name        string
	Kind        string // "veth", "netkit", …; "" for one without, such as the loopback
	Index       int
	PeerIndex   int  // interface index of the other end (veth, netkit) or the lower device (vlan, macvlan), in its own namespace; 0: none
	PeerNetnsID int  // of the namespace of PeerIndex, as this namespace numbers others; NoPeerNetNS: this one
	PeerLocal   bool // PeerIndex is an interface of the caller's network namespace
	Addresses   []netip.Prefix
}

// Inspect returns the network namespace of the process pid. The caller's own stays as it is. Between looking pid up
// and this call the number may have been given to another process: compare Inode with the one that was meant.
func Inspect(pid uint32) (Namespace, error) {
	file, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", pid))
	if err != nil {
		return Namespace{}, fmt.Errorf("inspecting the network namespace of process %d: %w", pid, err)
	}
	defer func() { _ = file.Close() }() // read only
	found, err := inspect(file)
	if err != nil {
		return Namespace{}, fmt.Errorf("inspecting the network namespace of process %d: %w", pid, err)
	}
	return found, nil
}

func inspect(file *os.File) (Namespace, error) {
	var stat unix.Stat_t
	if err := unix.Fstat(int(file.Fd()), &stat); err != nil {
		return Namespace{}, fmt.Errorf("reading its inode: %w", err)
	}
	var cookie uint64
	var handle *netlink.Handle
	err := within(file, func() error {
		var err error
		if cookie, err = ownCookie(); err != nil {
			return err
		}
		handle, err = netlink.NewHandle(unix.NETLINK_ROUTE) // its socket stays in the namespace it was made in
		return err
	})
	if err != nil {
		return Namespace{}, err
	}
	defer handle.Close()
	links, err := list(handle, stat.Ino)
	return Namespace{Cookie: cookie, Inode: stat.Ino, Links: links}, err
}

// within runs do on a thread that has entered the namespace, and lets no other goroutine onto a thread that did not
// come back from it.
func within(file *os.File, do func() error) error {
	result := make(chan error)
	go func() { // ends when do does; within waits for it
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			// A locked thread ends with its goroutine, but the main one cannot, and /proc/self is its: while it is held
			// here, another goroutine gets another thread.
			err := within(file, do)
			runtime.UnlockOSThread()
			result <- err
			return
		}
		home, err := os.Open("/proc/thread-self/ns/net")
		if err != nil {
			runtime.UnlockOSThread()
			result <- fmt.Errorf("opening the own network namespace: %w", err)
			return
		}
		defer func() { _ = home.Close() }() // read only
		if err := unix.Setns(int(file.Fd()), unix.CLONE_NEWNET); err != nil {
			runtime.UnlockOSThread()
			result <- fmt.Errorf("entering it: %w", err)
			return
		}
		err = do()
		if back := unix.Setns(int(home.Fd()), unix.CLONE_NEWNET); back == nil {
			runtime.UnlockOSThread()
		} // else the thread stays locked, and ends with this goroutine
		result <- err
	}()
	return <-result
}

// ownCookie returns the cookie of the calling thread's network namespace (Linux 5.14, commit e8b9eab99232).
func ownCookie() (uint64, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, fmt.Errorf("opening a socket for the cookie: %w", err)
	}
	defer func() { _ = unix.Close(fd) }() // nothing was written
	cookie, err := unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
	if err != nil {
		return 0, fmt.Errorf("reading the cookie: %w", err)
	}
	return cookie, nil
}

// Cookie returns the cookie of the caller's own network namespace.
func Cookie() (uint64, error) { return ownCookie() }

// HostAddresses returns the addresses of every interface of the caller's network namespace, loopback and link-local
// ones included, with their prefix lengths.
func HostAddresses() ([]netip.Prefix, error) {
	handle, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("listing the node's addresses: %w", err)
	}
	defer handle.Close()
	byLink, err := addresses(handle)
	if err != nil {
		return nil, fmt.Errorf("listing the node's addresses: %w", err)
	}
	var all []netip.Prefix
	for _, list := range byLink {
		all = append(all, list...)
	}
	return all, nil
}

// dumps is how often a dump is tried that the kernel reports to be torn by a change.
const dumps = 5

func dump[T any](ask func() (T, error)) (T, error) {
	var found T
	var err error
	for range dumps {
		if found, err = ask(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
	}
	return found, err
}

func addresses(handle *netlink.Handle) (map[int][]netip.Prefix, error) {
	list, err := dump(func() ([]netlink.Addr, error) { return handle.AddrList(nil, netlink.FAMILY_ALL) })
	if err != nil {
		return nil, fmt.Errorf("listing addresses: %w", err)
	}
	byLink := make(map[int][]netip.Prefix)
	for _, a := range list {
		if p, ok := prefix(a.IPNet); ok {
			byLink[a.LinkIndex] = append(byLink[a.LinkIndex], p)
		}
	}
	return byLink, nil
}

func prefix(n *net.IPNet) (netip.Prefix, bool) {
	if n == nil {
		return netip.Prefix{}, false
	}
	addr, ok := netip.AddrFromSlice(n.IP)
	bits, size := n.Mask.Size()
	if !ok || size == 0 {
		return netip.Prefix{}, false
	}
	return netip.PrefixFrom(addr.Unmap(), bits), true
}

// list returns the links of the namespace of handle, whose inode is given, and whether their peers are the caller's.
func list(handle *netlink.Handle, inode uint64) ([]Link, error) {
	found, err := dump(handle.LinkList)
	if err != nil {
		return nil, fmt.Errorf("listing links: %w", err)
	}
	byLink, err := addresses(handle)
	if err != nil {
		return nil, err
	}
	home, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return nil, fmt.Errorf("opening the own network namespace: %w", err)
	}
	defer func() { _ = home.Close() }() // read only
	var stat unix.Stat_t
	if err := unix.Fstat(int(home.Fd()), &stat); err != nil {
		return nil, fmt.Errorf("reading the own network namespace's inode: %w", err)
	}
	// -1 where that namespace has no number for this one, which is so until a link joins the two.
	homeID, err := handle.GetNetNsIdByFd(int(home.Fd()))
	if err != nil {
		return nil, fmt.Errorf("asking for the number of the own network namespace: %w", err)
	}
	isHome := stat.Ino == inode
	links := make([]Link, 0, len(found))
	for _, l := range found {
		attrs := l.Attrs()
		link := Link{
			Name: attrs.Name, Kind: kind(l), Index: attrs.Index, PeerIndex: attrs.ParentIndex, PeerNetnsID: attrs.NetNsID,
			Addresses: byLink[attrs.Index],
		}
		if link.PeerNetnsID == NoPeerNetNS {
			link.PeerLocal = link.PeerIndex != 0 && isHome
		} else {
			link.PeerLocal = link.PeerIndex != 0 && link.PeerNetnsID == homeID
		}
		links = append(links, link)
	}
	return links, nil
}

// kind leaves out the name the library gives to links without one.
func kind(l netlink.Link) string {
	if l.Type() == "device" {
		return ""
	}
	return l.Type()
}
