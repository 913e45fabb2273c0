package testutil

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// EchoPort is where the servers of a Net listen.
const EchoPort = 7777

// Net is three network namespaces in a row, joined by veth pairs, on documentation prefixes that the node does not use
// for itself (some machines do):
//
//	pod (eth0) ── (Gate) node ── (eth0) server
//
// The node forwards. In the server's namespace TCP and UDP echo servers listen on EchoPort, over IPv4 and IPv6.
type Net struct {
	Pod, Node, Server       *NetNS
	Gate                    netlink.Link // the node's end of the pod's veth
	PodAddr, PodAddr6       netip.Addr
	NodeAddr, NodeAddr6     netip.Addr // the pod's gateway
	ServerAddr, ServerAddr6 netip.Addr
	Echo                    *Echo
}

// NetOptions says how a Net is made.
type NetOptions struct {
	HostNode bool // the node is the machine's (the test's) own network namespace, instead of one made for it
}

// slots is how many Nets can be in one namespace: as many /28 as a /24 has.
const slots = 16

// NewNet makes a Net. Everything is gone at the end of the test.
func NewNet(t testing.TB, options NetOptions) *Net {
	t.Helper()
	n := &Net{Pod: NewNetNS(t), Server: NewNetNS(t)}
	if options.HostNode {
		n.Node = hostNetNS(t)
	} else {
		n.Node = NewNetNS(t)
	}
	v4, v6 := freePrefixes(t, n.Node)
	slot, podSide := n.claim(t)
	n.Gate = podSide
	serverSide := n.veth(t, fmt.Sprintf("sp%ds", slot), n.Server)
	at := func(prefix, format string, args ...any) netip.Prefix {
		return netip.MustParsePrefix(fmt.Sprintf(prefix+format, args...))
	}
	podNode, podNode6 := at(v4, ".%d/29", 16*slot+1), at(v6, ":%x:1::1/64", slot)
	pod, pod6 := at(v4, ".%d/29", 16*slot+2), at(v6, ":%x:1::2/64", slot)
	serverNode, serverNode6 := at(v4, ".%d/29", 16*slot+9), at(v6, ":%x:2::1/64", slot)
	server, server6 := at(v4, ".%d/29", 16*slot+10), at(v6, ":%x:2::2/64", slot)

	node := n.Node.Handle(t)
	address(t, node, podSide, podNode, podNode6)
	address(t, node, serverSide, serverNode, serverNode6)
	leaf(t, n.Pod, []netip.Prefix{pod, pod6}, []netip.Prefix{podNode, podNode6})
	leaf(t, n.Server, []netip.Prefix{server, server6}, []netip.Prefix{serverNode, serverNode6})
	n.forward(t, options, podSide.Attrs().Name, serverSide.Attrs().Name)
	n.PodAddr, n.PodAddr6 = pod.Addr(), pod6.Addr()
	n.NodeAddr, n.NodeAddr6 = podNode.Addr(), podNode6.Addr()
	n.ServerAddr, n.ServerAddr6 = server.Addr(), server6.Addr()
	n.Echo = NewEcho(t, n.Server, netip.AddrPortFrom(n.ServerAddr, EchoPort), netip.AddrPortFrom(n.ServerAddr6, EchoPort))
	return n
}

// freePrefixes returns the starts of an IPv4 /24 and an IPv6 /32 for documentation that no address or route of the node
// overlaps, but for those of other Nets, which are within a slot.
func freePrefixes(t testing.TB, node *NetNS) (v4, v6 string) {
	t.Helper()
	h := node.Handle(t)
	used := nodePrefixes(t, h)
	free := func(start, rest string) bool {
		prefix := netip.MustParsePrefix(start + rest)
		return !slices.ContainsFunc(used, prefix.Overlaps)
	}
	for _, start := range []string{"198.51.100", "203.0.113", "192.0.2"} {
		if free(start, ".0/24") {
			v4 = start
			break
		}
	}
	for _, start := range []string{"2001:db8", "3fff:0"} {
		if free(start, "::/32") {
			v6 = start
			break
		}
	}
	if v4 == "" || v6 == "" {
		t.Fatalf("the node uses every documentation prefix itself: %v", used)
	}
	return v4, v6
}

// nodePrefixes returns the addresses and routes of a namespace, default routes and those of Nets left out.
func nodePrefixes(t testing.TB, h *netlink.Handle) []netip.Prefix {
	t.Helper()
	links, err := h.LinkList()
	if err != nil {
		t.Fatal("listing links: ", err)
	}
	var used []netip.Prefix
	add := func(n *net.IPNet) {
		if n == nil {
			return
		}
		addr, _ := netip.AddrFromSlice(n.IP)
		if bits, _ := n.Mask.Size(); bits > 0 {
			used = append(used, netip.PrefixFrom(addr.Unmap(), bits))
		}
	}
	for _, link := range links {
		if isSlot(link.Attrs().Name) {
			continue
		}
		addresses, err := h.AddrList(link, netlink.FAMILY_ALL)
		if err != nil {
			t.Fatal("listing addresses: ", err)
		}
		for _, a := range addresses {
			add(a.IPNet)
		}
		routes, err := h.RouteList(link, netlink.FAMILY_ALL)
		if err != nil {
			t.Fatal("listing routes: ", err)
		}
		for _, r := range routes {
			add(r.Dst)
			if r.Gw != nil {
				add(&net.IPNet{IP: r.Gw, Mask: net.CIDRMask(8*len(r.Gw), 8*len(r.Gw))})
			}
		}
	}
	return used
}

// isSlot reports whether an interface is of a Net: sp0p, sp0s.
func isSlot(name string) bool {
	var slot int
	var side byte
	n, err := fmt.Sscanf(name, "sp%d%c", &slot, &side)
	return err == nil && n == 2
}

// claim makes the pod's veth in the first slot that is free: the interface's name is the claim.
func (n *Net) claim(t testing.TB) (int, netlink.Link) {
	t.Helper()
	for slot := range slots {
		link, err := n.makeVeth(t, fmt.Sprintf("sp%dp", slot), n.Pod)
		if err == nil {
			return slot, link
		}
		if !errors.Is(err, unix.EEXIST) {
			t.Fatal("making the pod's veth: ", err)
		}
	}
	t.Fatalf("the node has %d test networks already", slots)
	return 0, nil
}

func (n *Net) veth(t testing.TB, name string, peer *NetNS) netlink.Link {
	t.Helper()
	link, err := n.makeVeth(t, name, peer)
	if err != nil {
		t.Fatalf("making veth %s: %v", name, err)
	}
	return link
}

// makeVeth makes a veth on the node whose other end is eth0 of peer. It is removed at the end, which matters on the
// machine's own network namespace.
func (n *Net) makeVeth(t testing.TB, name string, peer *NetNS) (netlink.Link, error) {
	t.Helper()
	h := n.Node.Handle(t)
	attrs := netlink.NewLinkAttrs()
	attrs.Name = name
	err := h.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "eth0", PeerNamespace: netlink.NsFd(peer.file.Fd())})
	if err != nil {
		return nil, err
	}
	link, err := h.LinkByName(name)
	if err != nil {
		return nil, err
	}
	n.Node.Do(t, func() error { return withoutDAD(name) })
	t.Cleanup(func() {
		var missing netlink.LinkNotFoundError
		if err := h.LinkDel(link); err != nil && !errors.Is(err, unix.ENODEV) && !errors.As(err, &missing) {
			t.Errorf("removing %s: %v", name, err)
		}
	})
	return link, nil
}

// address gives a link addresses, usable at once, and brings it up.
func address(t testing.TB, h *netlink.Handle, link netlink.Link, addresses ...netip.Prefix) {
	t.Helper()
	if err := h.LinkSetUp(link); err != nil {
		t.Fatalf("bringing up %s: %v", link.Attrs().Name, err)
	}
	for _, p := range addresses {
		addr := &netlink.Addr{IPNet: &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}}
		if p.Addr().Is6() {
			addr.Flags = unix.IFA_F_NODAD
		}
		if err := h.AddrAdd(link, addr); err != nil {
			t.Fatalf("giving %s the address %s: %v", link.Attrs().Name, p, err)
		}
	}
}

// leaf gives a namespace's eth0 its addresses and default routes.
func leaf(t testing.TB, ns *NetNS, own, gateways []netip.Prefix) {
	t.Helper()
	h := ns.Handle(t)
	eth0, err := h.LinkByName("eth0")
	if err != nil {
		t.Fatal(err)
	}
	address(t, h, eth0, own...)
	for _, gateway := range gateways {
		if err := h.RouteAdd(&netlink.Route{LinkIndex: eth0.Attrs().Index, Gw: gateway.Addr().AsSlice()}); err != nil {
			t.Fatalf("routing through %s: %v", gateway.Addr(), err)
		}
	}
}

// forward lets the node forward between its links: everywhere in a namespace of its own, between the two only on the
// machine's.
func (n *Net) forward(t testing.TB, options NetOptions, links ...string) {
	t.Helper()
	const ipv6All = "/proc/sys/net/ipv6/conf/all/forwarding"
	n.Node.Do(t, func() error { // /proc/sys/net shows the namespace of the thread
		if !options.HostNode {
			return errors.Join(on("/proc/sys/net/ipv4/ip_forward"), on(ipv6All))
		}
		for _, link := range links {
			if err := on("/proc/sys/net/ipv4/conf/" + link + "/forwarding"); err != nil {
				return err
			}
		}
		if text, err := os.ReadFile(ipv6All); err == nil && strings.TrimSpace(string(text)) == "1" {
			return nil
		}
		if InVM() {
			return on(ipv6All)
		}
		for _, link := range links { // Linux 6.17: forwarding of one interface, without the machine's
			if err := on("/proc/sys/net/ipv6/conf/" + link + "/force_forwarding"); errors.Is(err, os.ErrNotExist) {
				Unsupported(t, "ipv6-forwarding", "an interface alone cannot forward IPv6 on this kernel")
			} else if err != nil {
				return err
			}
		}
		return nil
	})
}

func on(file string) error { return os.WriteFile(file, []byte("1"), 0o644) }
