package testutil

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/vishvananda/netlink"
)

// Star is network namespaces around a node that forwards between them: one veth each, in a namespace of the node's own.
type Star struct {
	Node   *NetNS
	Leaves []Leaf
}

// Leaf is one of the namespaces, with its interface eth0.
type Leaf struct {
	*NetNS
	Outside  netlink.Link    // the node's end of the veth
	Own      [2]netip.Prefix // addresses of eth0: IPv4, IPv6
	Gateways [2]netip.Prefix // the node's addresses on the same link
}

// NewStar makes a star with a leaf for each pair of an IPv4 and an IPv6 network. The node has the first address of each,
// the leaf the second. Everything is gone at the end of the test.
func NewStar(t testing.TB, networks ...[2]netip.Prefix) *Star {
	t.Helper()
	n := &Net{Node: NewNetNS(t)}
	s := &Star{Node: n.Node}
	for i, network := range networks {
		l := Leaf{NetNS: NewNetNS(t)}
		for f, p := range network {
			first := p.Masked().Addr().Next()
			l.Gateways[f], l.Own[f] = netip.PrefixFrom(first, p.Bits()), netip.PrefixFrom(first.Next(), p.Bits())
		}
		l.Outside = n.veth(t, fmt.Sprintf("leaf%d", i), l.NetNS)
		address(t, s.Node.Handle(t), l.Outside, l.Gateways[:]...)
		leaf(t, l.NetNS, l.Own[:], l.Gateways[:])
		s.Leaves = append(s.Leaves, l)
	}
	n.forward(t, NetOptions{})
	return s
}
