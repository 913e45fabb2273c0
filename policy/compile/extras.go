package compile

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/sallyport/sallyport/policy"
)

// The tables know peers and ports apart. Where the one depends on the other — the port of a service
// stands for those of its backends, a port by its name for a number that each pod chooses — an entry
// gets more clauses: for each set of ports the addresses at which the entry stands for just these. They
// have the entry's rule, and stand behind its first clause.

// extras makes the further clauses of an egress entry.
func (c *run) extras(first *clause, e *policy.Entry) []clause {
	memo := extrasKey{first.peers, first.anyPeer, first.rule.Deny, fmt.Sprintf("%v%v", e.Ports, e.ICMPs)}
	spots, ok := c.spots[memo]
	if !ok {
		spots = append(c.namedSpots(first, e), c.serviceSpots(first, e)...)
		c.spots[memo] = spots
	}
	out := make([]clause, 0, len(spots))
	for _, s := range spots {
		cl := *first
		cl.names, cl.anyPeer = nil, false
		cl.peers, cl.ports = c.peers.list(s.addresses), s.ports
		out = append(out, cl)
	}
	return out
}

// extrasKey is everything that the extras of an entry depend on.
type extrasKey struct {
	peers   uint32
	anyPeer bool
	deny    bool
	ports   string
}

// spot is addresses with the ports that count at each of them.
type spot struct {
	addresses []netip.Addr
	ports     []portSpan
}

// spots gathers addresses by their ports, in the order of the ports.
type spots map[string]*spot

func (s spots) add(a netip.Addr, ports []portSpan) {
	if len(ports) == 0 {
		return
	}
	slices.SortFunc(ports, comparePorts)
	ports = slices.Compact(ports)
	key := fmt.Sprintf("%v", ports)
	if s[key] == nil {
		s[key] = &spot{ports: ports}
	}
	s[key].addresses = append(s[key].addresses, a)
}

func (s spots) list() (out []spot) {
	for _, key := range slices.Sorted(maps.Keys(s)) {
		out = append(out, *s[key])
	}
	return out
}

func comparePorts(a, b portSpan) int {
	return cmp.Or(cmp.Compare(a.protocol, b.protocol), cmp.Compare(a.first, b.first), cmp.Compare(a.last, b.last))
}

// namedSpots finds the endpoints at which an entry's ports by name stand for a number.
func (c *run) namedSpots(first *clause, e *policy.Entry) []spot {
	if !hasNamed(e.Ports) || first.ports == nil {
		return nil
	}
	found := spots{}
	for _, a := range slices.SortedFunc(maps.Keys(c.world.named), netip.Addr.Compare) {
		if c.matchesPeer(first, a) {
			found.add(a, namedSpans(e.Ports, c.world.named[a]))
		}
	}
	return found.list()
}

// serviceSpots finds the ports of services for which an entry matches what is behind them, where it
// does not match the service itself. An entry that denies matches if one of the backends does.
func (c *run) serviceSpots(first *clause, e *policy.Entry) []spot {
	if e.ICMPs != nil || first.anyPeer && first.ports == nil {
		return nil
	}
	found := spots{}
	for i := range c.world.callable {
		s := &c.world.callable[i]
		direct := c.matchesPeer(first, s.address)
		var ports []portSpan
		for j := range s.ports {
			p := &s.ports[j]
			if direct && spansHave(first.ports, p.protocol, p.port) {
				continue
			}
			behind := func(b netip.AddrPort) bool { return c.matchesBackend(first, e, p.protocol, b) }
			matches := slices.ContainsFunc(p.backends, behind)
			if !first.rule.Deny {
				matches = !slices.ContainsFunc(p.backends, func(b netip.AddrPort) bool { return !behind(b) })
			}
			if matches {
				ports = append(ports, portSpan{p.protocol, p.port, p.port})
			}
		}
		found.add(s.address, ports)
	}
	return found.list()
}

// matchesBackend says whether an entry matches a call to a backend.
func (c *run) matchesBackend(first *clause, e *policy.Entry, protocol uint8, b netip.AddrPort) bool {
	a := policy.Call{Peer: b.Addr()}.Canonical().Peer
	if !c.matchesPeer(first, a) {
		return false
	}
	return spansHave(first.ports, protocol, b.Port()) || hasNamed(e.Ports) && spansHave(nonNil(namedSpans(e.Ports, c.world.named[a])), protocol, b.Port())
}

func nonNil(s []portSpan) []portSpan { return append([]portSpan{}, s...) }

// matchesPeer says whether a clause matches an address.
func (c *run) matchesPeer(cl *clause, a netip.Addr) bool {
	return cl.anyPeer || a.IsValid() && c.peers.contains(cl.peers, a)
}

// spansHave says whether ports have one; nil is every protocol and port.
func spansHave(spans []portSpan, protocol uint8, port uint16) bool {
	return spans == nil || slices.ContainsFunc(spans, func(s portSpan) bool {
		return s.protocol == protocol && (s.first == 0 || s.first <= port && port <= s.last)
	})
}

// hasNamed says whether one of the ports is by name.
func hasNamed(ports []policy.Port) bool {
	return slices.ContainsFunc(ports, func(p policy.Port) bool { return p.Name != "" })
}

// namedSpans returns what the ports by name stand for where a pod names its ports like this.
func namedSpans(ports []policy.Port, named []policy.NamedPort) (out []portSpan) {
	for _, p := range ports {
		for _, n := range p.Named(named) {
			out = append(out, portSpan{n.Protocol.Numbers()[0], n.Port, n.Port})
		}
	}
	return out
}

// resolvedKey is a clause and what its ports by name are for a workload.
type resolvedKey struct {
	id    uint64
	ports string
}

// ofWorkload returns a clause as it is for one workload: with the numbers that its own ports by name
// have there.
func (c *run) ofWorkload(cl *clause, w *policy.Workload) *clause {
	if cl.named == nil {
		return cl
	}
	spans := namedSpans(cl.named, w.Ports)
	slices.SortFunc(spans, comparePorts)
	spans = slices.Compact(spans)
	key := resolvedKey{cl.id, fmt.Sprintf("%v", spans)}
	if _, ok := c.resolved[key]; !ok {
		resolved := *cl
		resolved.ports = append(slices.Clone(cl.ports), spans...)
		c.resolved[key] = c.numbered(resolved)
	}
	c.resolved[key].used = c.runs
	return c.resolved[key]
}
