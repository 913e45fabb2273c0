package read

import (
	"net/netip"
	"os"
	"testing"
	"unsafe"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/tests/testutil"
)

// TestChecksums: answers and resets are right where the checksums of what they are made of are still to be written, as they
// come from a veth, and where they have been: those who get them look.
func TestChecksums(t *testing.T) {
	s := newScene(t, "Enforce")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	s.serveInside(t, self, inPort)
	for _, addr := range []netip.Addr{s.PodAddr, s.PodAddr6} {
		awaitServer(t, s.Server, netip.AddrPortFrom(addr, inPort))
	}
	for _, c := range []struct {
		name       string
		namespaces []*testutil.NetNS
	}{
		{"written by the node", []*testutil.NetNS{s.Node}},
		{"written by all", []*testutil.NetNS{s.Node, s.Pod, s.Server}},
	} {
		for _, ns := range c.namespaces {
			writeChecksums(t, ns)
		}
		name := c.name
		for _, addr := range []netip.Addr{s.ServerAddr, s.ServerAddr6} {
			if text, code := s.curl(t, "-XPUT", at(addr)); code != 0 || text != denied {
				t.Errorf("%s: at %s curl ended with %d and %q", name, addr, code, text)
			}
		}
		for _, addr := range []netip.Addr{s.PodAddr, s.PodAddr6} {
			said := conversation{Pieces: []string{"GET /closed HTTP/1.1\r\nHost: a\r\n\r\n"}, Back: answer, Ends: ended}
			s.Server.Do(t, func() error {
				if wrong := said.hold(netip.AddrPortFrom(addr, inPort).String()); wrong != "" {
					t.Errorf("%s: in at %s: %s", name, addr, wrong)
				}
				return nil
			})
		}
		s.awaitEnds(t) // at the servers too, which only a right reset does
	}
}

// writeChecksums makes the kernel write every checksum before a packet leaves by a veth of the namespace.
func writeChecksums(t *testing.T, ns *testutil.NetNS) {
	t.Helper()
	links, err := ns.Handle(t).LinkList()
	if err != nil {
		t.Fatal(err)
	}
	ns.Do(t, func() error {
		for _, l := range links {
			if _, ok := l.(*netlink.Veth); !ok {
				continue
			}
			if err := ethtool(l.Attrs().Name, unix.ETHTOOL_STXCSUM, 0); err != nil {
				return err
			}
		}
		return nil
	})
}

// ethtool sets a switch of an interface of the thread's network namespace (linux/ethtool.h).
func ethtool(link string, command, value uint32) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }() // nothing was written
	arg := struct{ command, value uint32 }{command, value}
	request := struct {
		name [unix.IFNAMSIZ]byte
		arg  unsafe.Pointer
		rest [16]byte
	}{arg: unsafe.Pointer(&arg)}
	copy(request.name[:], link)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&request))); errno != 0 {
		return errno
	}
	return nil
}
