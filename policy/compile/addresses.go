package compile

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"

	"github.com/sallyport/sallyport/policy"
)

// peerIndex numbers the peer selectors of all policies and turns them into classes of addresses.
type peerIndex struct {
	node      []netip.Addr
	ids       map[string]uint32 // peer selector by what it says
	terms     []term
	world     int // index in terms, -1: not used
	host      int // index in terms, -1: not used
	selectors uint32
}

// term is a set of addresses: those of cidrs and not of excepts. A selector matches what any of
// its terms matches; world and host are one term for all selectors that name them.
type term struct {
	cidrs     []netip.Prefix // 128-bit
	excepts   []netip.Prefix // 128-bit, each inside one of cidrs
	selectors []uint32
}

// The two prefixes that every address is in one of. IPv6 prefixes that cover mapped do not speak
// of IPv4: ::/0 is every IPv6 address.
func roots() (all, mapped netip.Prefix) {
	return netip.PrefixFrom(netip.IPv6Unspecified(), 0), wide(netip.PrefixFrom(netip.IPv4Unspecified(), 0))
}

// wide returns a prefix in 128-bit form.
func wide(p netip.Prefix) netip.Prefix {
	if p.Addr().Is4() {
		return netip.PrefixFrom(netip.AddrFrom16(p.Addr().As16()), p.Bits()+96)
	}
	return p
}

// single returns the prefix of one address in 128-bit form.
func single(a netip.Addr) netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom16(a.As16()), 128)
}

func newPeerIndex(n policy.Node) *peerIndex {
	return &peerIndex{node: n.HostAddresses(), ids: map[string]uint32{}, world: -1, host: -1}
}

// selector numbers what an entry says about peers. Equal peers have one number.
func (x *peerIndex) selector(p *policy.Peers) (uint32, error) {
	key, err := peersKey(p)
	if err != nil {
		return 0, err
	}
	if id, ok := x.ids[key]; ok {
		return id, nil
	}
	id := x.selectors
	x.selectors++
	x.ids[key] = id
	plain := term{selectors: []uint32{id}}
	for _, c := range p.CIDRs {
		plain.cidrs = append(plain.cidrs, wide(c))
	}
	for _, s := range p.CIDRSets {
		if len(s.Except) == 0 {
			plain.cidrs = append(plain.cidrs, wide(s.CIDR))
			continue
		}
		t := term{cidrs: []netip.Prefix{wide(s.CIDR)}, selectors: []uint32{id}}
		for _, e := range s.Except {
			t.excepts = append(t.excepts, wide(e))
		}
		x.terms = append(x.terms, t)
	}
	if len(plain.cidrs) > 0 {
		x.terms = append(x.terms, plain)
	}
	x.entities(p.Entities, id)
	return id, nil
}

// entities adds a selector to the terms of the entities it names. The entity all is no address
// class: Peers.Any is true for it.
func (x *peerIndex) entities(names []policy.Entity, id uint32) {
	add := func(at *int, make func() term) {
		if *at < 0 {
			*at = len(x.terms)
			x.terms = append(x.terms, make())
		}
		t := &x.terms[*at]
		if !slices.Contains(t.selectors, id) {
			t.selectors = append(t.selectors, id)
		}
	}
	for _, e := range names {
		switch e {
		case policy.EntityWorld:
			add(&x.world, x.worldTerm)
		case policy.EntityHost:
			add(&x.host, x.hostTerm)
		case policy.EntityAll: // every peer: the selector is never asked
		}
	}
}

func (x *peerIndex) hostTerm() (t term) {
	for _, a := range x.node {
		t.cidrs = append(t.cidrs, single(a))
	}
	return t
}

// worldTerm is everything that is neither the node's nor loopback.
func (x *peerIndex) worldTerm() (t term) {
	all, mapped := roots()
	t.cidrs = []netip.Prefix{all, mapped}
	t.excepts = []netip.Prefix{
		wide(netip.PrefixFrom(netip.AddrFrom4([4]byte{127}), 8)),
		single(netip.IPv4Unspecified()), single(netip.IPv6Unspecified()), single(netip.IPv6Loopback()),
	}
	t.excepts = append(t.excepts, x.hostTerm().cidrs...)
	return t
}

// peersKey writes peers down, so that equal ones can be found, and refuses what has no meaning.
func peersKey(p *policy.Peers) (string, error) {
	var key []byte
	prefix := func(kind byte, c netip.Prefix) error {
		if !c.IsValid() || c != c.Masked() || c.Addr().Zone() != "" || c.Addr().Is4In6() {
			return fmt.Errorf("the prefix %s is not valid", c)
		}
		key = append(append(key, kind, byte(c.Addr().BitLen()), byte(c.Bits())), c.Addr().AsSlice()...)
		return nil
	}
	for _, c := range p.CIDRs {
		if err := prefix('c', c); err != nil {
			return "", err
		}
	}
	for _, s := range p.CIDRSets {
		if err := prefix('s', s.CIDR); err != nil {
			return "", err
		}
		for _, e := range s.Except {
			if err := prefix('e', e); err != nil {
				return "", err
			}
			if e.Bits() <= s.CIDR.Bits() || !s.CIDR.Contains(e.Addr()) {
				return "", fmt.Errorf("the exception %s is not a part of %s", e, s.CIDR)
			}
		}
	}
	for _, e := range p.Entities {
		if e != policy.EntityWorld && e != policy.EntityHost {
			return "", fmt.Errorf("there is no entity %q", e)
		}
		key = append(append(key, 'n'), e...)
	}
	return string(key), nil
}

// change is what a prefix does to the set of terms that match.
type change struct {
	add, remove []uint32
}

// classes is the outcome of peerIndex.classify.
type classes struct {
	addresses []AddressEntry
	members   [][]Identity // by selector: the identities it matches, ascending
	count     int          // of identities
}

// classify parts the addresses into identities: walking the prefixes in order with the prefixes
// that cover them on a stack, the set of terms that match inside a prefix is that of its closest
// cover, more what begins here, less what is excepted here.
func (x *peerIndex) classify() classes {
	changes := x.changes()
	prefixes := make([]netip.Prefix, 0, len(changes))
	for p := range changes {
		prefixes = append(prefixes, p)
	}
	slices.SortFunc(prefixes, func(a, b netip.Prefix) int {
		return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
	})
	n := &namer{terms: x.terms, byTerms: map[string]Identity{}, bySelectors: map[string]Identity{}, members: make([][]Identity, x.selectors)}
	n.name(nil) // Identity 0
	type cover struct {
		prefix   netip.Prefix
		terms    []uint32
		identity Identity
	}
	var stack []cover
	var out []AddressEntry
	all, mapped := roots()
	for _, p := range prefixes {
		for len(stack) > 0 && !stack[len(stack)-1].prefix.Contains(p.Addr()) {
			stack = stack[:len(stack)-1]
		}
		var above cover
		if p != mapped && len(stack) > 0 {
			above = stack[len(stack)-1]
		}
		here := cover{prefix: p, terms: changes[p].apply(above.terms)}
		here.identity = n.name(here.terms)
		stack = append(stack, here)
		if p == all || p == mapped || here.identity != above.identity {
			out = append(out, AddressEntry{p, here.identity})
		}
	}
	return classes{addresses: out, members: n.members, count: n.count}
}

// changes gathers what each prefix changes. The roots are always there.
func (x *peerIndex) changes() map[netip.Prefix]*change {
	all, mapped := roots()
	out := map[netip.Prefix]*change{all: {}, mapped: {}}
	at := func(p netip.Prefix) *change {
		c, ok := out[p]
		if !ok {
			c = &change{}
			out[p] = c
		}
		return c
	}
	for i, t := range x.terms {
		for _, p := range t.cidrs {
			c := at(p)
			c.add = append(c.add, uint32(i))
		}
		for _, p := range t.excepts {
			c := at(p)
			c.remove = append(c.remove, uint32(i))
		}
	}
	return out
}

// apply returns a sorted set of terms after the change. Both lists of the change ascend, because
// the terms were visited in order.
func (c *change) apply(set []uint32) []uint32 {
	if len(c.add) == 0 && len(c.remove) == 0 {
		return set
	}
	out := make([]uint32, 0, len(set)+len(c.add))
	out = append(append(out, set...), c.add...)
	slices.Sort(out)
	out = slices.Compact(out)
	return slices.DeleteFunc(out, func(t uint32) bool {
		_, removed := slices.BinarySearch(c.remove, t)
		return removed
	})
}

// namer gives an identity to every set of selectors.
type namer struct {
	terms       []term
	byTerms     map[string]Identity
	bySelectors map[string]Identity
	members     [][]Identity
	count       int
}

// name returns the identity of a sorted set of terms.
func (n *namer) name(terms []uint32) Identity {
	termsKey := setKey(terms)
	if id, ok := n.byTerms[termsKey]; ok {
		return id
	}
	var selectors []uint32
	for _, t := range terms {
		selectors = append(selectors, n.terms[t].selectors...)
	}
	slices.Sort(selectors)
	selectors = slices.Compact(selectors)
	key := setKey(selectors)
	id, ok := n.bySelectors[key]
	if !ok {
		id = Identity(n.count)
		n.count++
		n.bySelectors[key] = id
		for _, s := range selectors {
			n.members[s] = append(n.members[s], id)
		}
	}
	n.byTerms[termsKey] = id
	return id
}

// setKey writes a set down.
func setKey(set []uint32) string {
	key := make([]byte, 0, 4*len(set))
	for _, v := range set {
		key = binary.LittleEndian.AppendUint32(key, v)
	}
	return string(key)
}
