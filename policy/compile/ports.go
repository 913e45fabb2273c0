package compile

import (
	"cmp"
	"math/bits"
	"slices"
)

// portKey is a prefix of the ports of a protocol.
type portKey struct {
	protocol uint8
	length   uint8
	port     uint16
}

// portEntries makes the port entries of a ruleset, and the rules that match every protocol and
// port.
func portEntries(clauses []*clause) (entries []PortEntry, anyPort Bitset) {
	own := map[portKey]Bitset{}
	for bit, cl := range clauses {
		if cl.ports == nil {
			anyPort.Set(bit)
		}
		for _, span := range cl.ports {
			span.prefixes(func(k portKey) {
				s := own[k]
				s.Set(bit)
				own[k] = s
			})
		}
	}
	for k := range own {
		e := PortEntry{Protocol: k.protocol, Port: k.port, Length: k.length, Bits: anyPort}
		for length := range k.length + 1 { // the longest prefix hides those that cover it
			e.Bits = e.Bits.Or(own[portKey{k.protocol, length, k.port & portMask(length)}])
		}
		entries = append(entries, e)
	}
	slices.SortFunc(entries, comparePortEntries)
	return entries, anyPort
}

func comparePortEntries(a, b PortEntry) int {
	return cmp.Or(cmp.Compare(a.Protocol, b.Protocol), cmp.Compare(a.Port, b.Port), cmp.Compare(a.Length, b.Length))
}

// portMask has the leading bits of a port set.
func portMask(length uint8) uint16 { return ^uint16(0) << (16 - length) }

// prefixes yields the fewest prefixes that are the span's ports. A span of every port is the
// prefix of length 0, which calls without a port also match.
func (s portSpan) prefixes(yield func(portKey)) {
	if s.first == 0 {
		yield(portKey{protocol: s.protocol})
		return
	}
	for first, last := int(s.first), int(s.last); first <= last; {
		// The largest block that begins here is bounded by the zeros at the end of its
		// first port and by what is left.
		size := min(bits.TrailingZeros16(uint16(first)), bits.Len(uint(last-first+1))-1)
		yield(portKey{s.protocol, uint8(16 - size), uint16(first)})
		first += 1 << size
	}
}
