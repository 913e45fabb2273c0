package demo

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"runtime"
	"strconv"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Addresses from the prefixes for documentation (RFC 5737, RFC 3849).
const (
	podAddr, podGate           = "192.0.2.2/30", "192.0.2.1/30"
	podAddr6, podGate6         = "2001:db8:1::2/64", "2001:db8:1::1/64"
	outsideAddr, outsideGate   = "192.0.2.6/30", "192.0.2.5/30"
	outsideAddr6, outsideGate6 = "2001:db8:2::2/64", "2001:db8:2::1/64"
	webPort                    = 8080
	udpPort                    = 53
)

// network is what the demo's programs talk over, and what the servers outside have seen.
type network struct {
	podPath           string // of the pod's network namespace, for ctr
	outside, outside6 netip.AddrPort

	mu   sync.Mutex
	seen map[string]int // by what came: an HTTP path, "udp"
}

// count returns how often something was seen outside.
func (n *network) count(what string) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.seen[what]
}

func (n *network) saw(what string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.seen[what]++
}

// network makes the namespaces, the links between them and the servers outside.
func (s *show) network() (*network, error) {
	n := &network{
		podPath: s.path("pod.netns"), seen: map[string]int{},
		outside:  netip.AddrPortFrom(netip.MustParsePrefix(outsideAddr).Addr(), webPort),
		outside6: netip.AddrPortFrom(netip.MustParsePrefix(outsideAddr6).Addr(), webPort),
	}
	for _, sysctl := range []string{"net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"} {
		if err := os.WriteFile("/proc/sys/"+sysctl, []byte("1"), 0); err != nil {
			return nil, fmt.Errorf("switching on forwarding in the demo's namespace: %w", err)
		}
	}
	if err := up("lo"); err != nil {
		return nil, err
	}
	outside := s.path("outside.netns")
	for _, l := range []leaf{
		{n.podPath, "pod", []string{podAddr, podAddr6}, []string{podGate, podGate6}},
		{outside, "outside", []string{outsideAddr, outsideAddr6}, []string{outsideGate, outsideGate6}},
	} {
		if err := s.leaf(l); err != nil {
			return nil, err
		}
	}
	return n, inside(outside, n.serve)
}

// leaf is a network namespace at path, joined to the node by a veth.
type leaf struct {
	path, name string
	addresses  []string // of its end, per family
	gates      []string // of the node's end, in the same order
}

// leaf makes it.
func (s *show) leaf(l leaf) error {
	if err := newNamespace(l.path); err != nil {
		return fmt.Errorf("making the network namespace %s: %w", l.name, err)
	}
	s.later(func() error { return unix.Unmount(l.path, unix.MNT_DETACH) })
	handle, err := netns.GetFromPath(l.path)
	if err != nil {
		return fmt.Errorf("opening the network namespace %s: %w", l.name, err)
	}
	defer handle.Close() //nolint:errcheck // read only
	veth := &netlink.Veth{
		LinkAttrs: netlink.LinkAttrs{Name: "demo-" + l.name}, PeerName: "eth0", PeerNamespace: netlink.NsFd(handle),
	}
	if err := netlink.LinkAdd(veth); err != nil {
		return fmt.Errorf("making the veth of %s: %w", l.name, err)
	}
	if err := up(veth.Name, l.gates...); err != nil {
		return err
	}
	return inside(l.path, func() error {
		errs := []error{up("lo"), up("eth0", l.addresses...)}
		for _, gate := range l.gates {
			errs = append(errs, route(gate))
		}
		return errors.Join(errs...)
	})
}

// newNamespace makes a network namespace that lives as long as the mount at path.
func newNamespace(path string) error {
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		return err
	}
	return onThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return err
		}
		return unix.Mount("/proc/thread-self/ns/net", path, "", unix.MS_BIND, "")
	})
}

// inside runs f in the network namespace at path.
func inside(path string, f func() error) error {
	return onThread(func() error {
		handle, err := netns.GetFromPath(path)
		if err != nil {
			return fmt.Errorf("opening a network namespace: %w", err)
		}
		defer handle.Close() //nolint:errcheck // read only
		if err := netns.Set(handle); err != nil {
			return fmt.Errorf("entering a network namespace: %w", err)
		}
		return f()
	})
}

// onThread runs f on a thread that ends with it, whatever f did to its namespaces. The main thread
// never ends, and /proc/self shows its namespaces: it is held back while another is found.
func onThread(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // not unlocked: the thread ends with the goroutine
		if unix.Gettid() == unix.Getpid() {
			defer runtime.UnlockOSThread()
			done <- onThread(f)
			return
		}
		done <- f()
	}()
	return <-done
}

// up sets a link of the current namespace up, with addresses that need no detection of duplicates.
func up(name string, addresses ...string) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return fmt.Errorf("finding link %s: %w", name, err)
	}
	for _, text := range addresses {
		addr, err := netlink.ParseAddr(text)
		if err != nil {
			return fmt.Errorf("parsing address %s: %w", text, err)
		}
		addr.Flags = unix.IFA_F_NODAD
		if err := netlink.AddrAdd(link, addr); err != nil {
			return fmt.Errorf("giving %s the address %s: %w", name, text, err)
		}
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return fmt.Errorf("setting %s up: %w", name, err)
	}
	return nil
}

// route makes the gateway the default route of the current namespace.
func route(gate string) error {
	gw := netip.MustParsePrefix(gate).Addr()
	if err := netlink.RouteAdd(&netlink.Route{Gw: gw.AsSlice()}); err != nil {
		return fmt.Errorf("routing over %s: %w", gw, err)
	}
	return nil
}

// serve opens the servers in the current namespace. They note what they saw, and end with the process.
func (n *network) serve() error {
	web := &http.Server{
		ReadHeaderTimeout: time.Second,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			n.saw(r.URL.Path)
			_, _ = io.WriteString(w, "hello from outside\n") // the client may have gone
		}),
	}
	for _, at := range []netip.AddrPort{n.outside, n.outside6} {
		l, err := net.Listen("tcp", at.String()) //nolint:noctx // local and at once
		if err != nil {
			return fmt.Errorf("serving outside: %w", err)
		}
		go func() { _ = web.Serve(l) }() // until the process ends
	}
	udp, err := net.ListenPacket("udp", net.JoinHostPort(n.outside.Addr().String(), strconv.Itoa(udpPort))) //nolint:noctx // local and at once
	if err != nil {
		return fmt.Errorf("serving outside: %w", err)
	}
	go n.answer(udp)
	return nil
}

// answer sends every datagram back.
func (n *network) answer(conn net.PacketConn) {
	buf := make([]byte, 2048)
	for {
		size, from, err := conn.ReadFrom(buf)
		if err != nil {
			return
		}
		n.saw("udp")
		_, _ = conn.WriteTo(buf[:size], from) // the client may have gone
	}
}
