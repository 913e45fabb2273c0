package compile

import (
	"cmp"
	"encoding/binary"
	"net/netip"
	"slices"
)

// change is what a prefix does to the set of terms that match.
type change struct {
	add, remove []uint32
	inside      bool // from here on external terms do not match
}

// classes is the outcome of peerIndex.classify.
type classes struct {
	selectors []bool // those that were asked for
	live      int    // how many of them
	addresses []AddressEntry
	members   [][]Identity // by selector: the identities it matches, ascending
}

// of says whether these are the classes of some selectors.
func (c *classes) of(live []bool) bool {
	n := 0
	for i, l := range live {
		if l {
			n++
			if i >= len(c.selectors) || !c.selectors[i] {
				return false
			}
		}
	}
	return n == c.live
}

// classify parts the addresses into identities: walking the prefixes in order with the prefixes
// that cover them on a stack, the set of terms that match inside a prefix is that of its closest
// cover, more what begins here, less what is excepted here.
//
// Only selectors that are live count, so that the outcome is the same whatever was compiled before.
func (x *peerIndex) classify(live []bool) *classes {
	changes := x.changes(live)
	type place struct {
		prefix netip.Prefix
		*change
	}
	places := make([]place, 0, len(changes))
	for p, c := range changes {
		places = append(places, place{p, c})
	}
	slices.SortFunc(places, func(a, b place) int {
		return cmp.Or(a.prefix.Addr().Compare(b.prefix.Addr()), cmp.Compare(a.prefix.Bits(), b.prefix.Bits()))
	})
	n := &namer{index: x, live: live, byTerm: make([]Identity, len(x.terms)), byTerms: map[string]Identity{}, bySelectors: map[string]Identity{}, taken: map[Identity]bool{}, members: make([][]Identity, len(x.bySelector))}
	n.name(nil) // Identity 0
	type cover struct {
		prefix   netip.Prefix
		terms    []uint32
		identity Identity
		inside   bool
	}
	var stack []cover
	var out []AddressEntry
	all, mapped := roots()
	for _, at := range places {
		p := at.prefix
		for len(stack) > 0 && !stack[len(stack)-1].prefix.Contains(p.Addr()) {
			stack = stack[:len(stack)-1]
		}
		var above cover
		if p != mapped && len(stack) > 0 {
			above = stack[len(stack)-1]
		}
		here := cover{prefix: p, terms: at.apply(above.terms), inside: above.inside || at.inside}
		if here.inside {
			here.terms = slices.DeleteFunc(slices.Clone(here.terms), func(t uint32) bool { return x.terms[t].external })
		}
		here.identity = n.name(here.terms)
		stack = append(stack, here)
		if p == all || p == mapped || here.identity != above.identity {
			out = append(out, AddressEntry{p, here.identity})
		}
	}
	for _, members := range n.members {
		slices.Sort(members)
	}
	made := &classes{selectors: live, addresses: out, members: n.members}
	for _, l := range live {
		if l {
			made.live++
		}
	}
	return made
}

// changes gathers what each prefix changes. The roots are always there.
func (x *peerIndex) changes(live []bool) map[netip.Prefix]*change {
	all, mapped := roots()
	out := make(map[netip.Prefix]*change, x.prefixes)
	var free []change // made many at a time
	at := func(p netip.Prefix) *change {
		c, ok := out[p]
		if !ok {
			if len(free) == 0 {
				free = make([]change, 256)
			}
			c, free = &free[0], free[1:]
			out[p] = c
		}
		return c
	}
	at(all)
	at(mapped)
	external := false
	for i := range x.terms {
		t := &x.terms[i]
		if !slices.ContainsFunc(t.selectors, func(s uint32) bool { return live[s] }) {
			continue
		}
		external = external || t.external
		for _, p := range t.cidrs {
			c := at(p)
			c.add = append(c.add, uint32(i))
		}
		for _, p := range t.excepts {
			c := at(p)
			c.remove = append(c.remove, uint32(i))
		}
		for _, a := range t.single {
			c := at(single(a))
			c.add = append(c.add, uint32(i))
		}
	}
	if external {
		for a := range x.world.inside {
			at(single(a)).inside = true
		}
		for _, p := range x.world.prefixes {
			at(p).inside = true
		}
	}
	x.prefixes = len(out)
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
	index       *peerIndex
	live        []bool     // selectors that count
	byTerm      []Identity // of one term alone; 0: not known yet
	byTerms     map[string]Identity
	bySelectors map[string]Identity
	taken       map[Identity]bool
	members     [][]Identity
}

// name returns the identity of a sorted set of terms.
func (n *namer) name(terms []uint32) Identity {
	if len(terms) == 1 {
		one := &n.byTerm[terms[0]]
		if *one == 0 {
			*one = n.find(terms)
		}
		return *one
	}
	termsKey := setKey(terms)
	id, ok := n.byTerms[termsKey]
	if !ok {
		id = n.find(terms)
		n.byTerms[termsKey] = id
	}
	return id
}

// find returns the identity of a set of terms that has none yet: that of the selectors which match.
func (n *namer) find(terms []uint32) Identity {
	var selectors []uint32
	for _, t := range terms {
		for _, s := range n.index.terms[t].selectors {
			if n.live[s] {
				selectors = append(selectors, s)
			}
		}
	}
	slices.Sort(selectors)
	selectors = slices.Compact(selectors)
	key := setKey(selectors)
	id, ok := n.bySelectors[key]
	if !ok {
		id = n.number(selectors)
		n.bySelectors[key] = id
		for _, s := range selectors {
			n.members[s] = append(n.members[s], id)
		}
	}
	return id
}

// number makes the number of a set of selectors of what they say. Two sets of which that would be the same get
// one after the other what is free next, in the order of the addresses: the outcome is the input's alone.
func (n *namer) number(selectors []uint32) Identity {
	if len(selectors) == 0 {
		return 0
	}
	var sum uint64 // the order of the selectors is not the input's
	for _, s := range selectors {
		sum += n.index.sums[s]
	}
	id := Identity(sum>>32) ^ Identity(sum)
	for id == 0 || n.taken[id] {
		id++
	}
	n.taken[id] = true
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
