package learn

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/policy/flows"
)

// peer is the other end, and by which name it was looked up; "" where that is not known.
type peer struct {
	name    string
	address netip.Addr
}

// ports are the protocols and ports that were used with one peer.
type ports struct {
	used     map[policy.Port]bool
	queries  map[string]bool // names that were asked for there
	requests map[policy.Port]map[request]bool
	seen     span
}

func newPorts() *ports {
	return &ports{used: map[policy.Port]bool{}, queries: map[string]bool{}, requests: map[policy.Port]map[request]bool{}}
}

// said takes in what was said inside of a flow.
func (p *ports) said(f *flows.Flow) {
	if f.Query != nil {
		p.queries[*f.Query] = true
	}
	if r := f.Request; r != nil {
		p.request(*portOf(&f.Call), request{r.Method, r.Host, r.Path})
	}
}

func (p *ports) request(port policy.Port, r request) {
	if p.requests[port] == nil {
		p.requests[port] = map[request]bool{}
	}
	p.requests[port][r] = true
}

// copy takes in what was used of others.
func (p *ports) copy(others *ports) {
	maps.Copy(p.used, others.used)
	maps.Copy(p.queries, others.queries)
	for port, list := range others.requests {
		for r := range list {
			p.request(port, r)
		}
	}
	p.seen.add(others.seen)
}

// alone says whether a port stands for itself, because of what is said there.
func (p *ports) alone(port policy.Port) bool { return isDNS(port) || p.requests[port] != nil }

// portOf returns the port of a call as a policy writes it; nil if none can be written that means this call
// and no other.
func portOf(c *policy.Call) *policy.Port {
	name := policy.Protocol(policy.ProtocolName(c.Protocol))
	switch name {
	case policy.ProtocolTCP, policy.ProtocolUDP, policy.ProtocolSCTP:
		if c.Port == 0 {
			return nil
		}
		return &policy.Port{Port: c.Port, Protocol: name}
	case policy.ProtocolICMP, policy.ProtocolICMPv6:
		return &policy.Port{Protocol: name}
	case policy.ProtocolAny:
	}
	return nil
}

// isDNS says whether a port is a resolver's.
func isDNS(p policy.Port) bool {
	const dns = 53
	return p.Port == dns && (p.Protocol == policy.ProtocolUDP || p.Protocol == policy.ProtocolTCP)
}

// ranges lists ports by protocol, those that follow one another as a range.
func (p *ports) ranges() []policy.Port {
	list := slices.SortedFunc(maps.Keys(p.used), func(a, b policy.Port) int {
		return cmp.Or(cmp.Compare(a.Protocol, b.Protocol), cmp.Compare(a.Port, b.Port))
	})
	var out []policy.Port
	for _, one := range list {
		if len(out) > 0 {
			last := &out[len(out)-1]
			_, end, ok := last.Range()
			if ok && last.Protocol == one.Protocol && end+1 == one.Port && !p.alone(one) && !p.alone(policy.Port{Port: end, Protocol: last.Protocol}) {
				last.EndPort = one.Port
				continue
			}
		}
		out = append(out, one)
	}
	return out
}

// entry is one entry of egress or ingress: the peers that were used with the same ports.
type entry struct {
	names    []string
	prefixes []netip.Prefix
	ports    []policy.Port
	queries  map[string]bool
	requests map[policy.Port]map[request]bool
	seen     span
}

// named puts the names in the place of the addresses where there are any; or else takes them away.
func named(peers map[peer]*ports, names bool) map[peer]*ports {
	out := map[peer]*ports{}
	for p, used := range peers {
		to := peer{name: p.name}
		if !names || p.name == "" {
			to = peer{address: p.address}
		}
		if out[to] == nil {
			out[to] = newPorts()
		}
		out[to].copy(used)
	}
	return out
}

// entries groups the peers of a direction by their ports, so that the entries together match exactly what
// was seen. Peers with names stand in entries of their own, behind those with addresses, which their names
// come from.
func entries(peers map[peer]*ports, o Options) []entry {
	byPorts := map[string]*entry{}
	for p, used := range named(peers, !o.Addresses) {
		list := used.ranges()
		key := fmt.Sprint(p.name != "", list, slices.Sorted(maps.Keys(used.queries)), used.requests) // maps are written in the order of their keys
		e := byPorts[key]
		if e == nil {
			e = &entry{ports: list, queries: used.queries, requests: used.requests}
			byPorts[key] = e
		}
		if p.name != "" {
			e.names = append(e.names, p.name)
		} else {
			e.prefixes = append(e.prefixes, netip.PrefixFrom(p.address, p.address.BitLen()))
		}
		e.seen.add(used.seen)
	}
	out := make([]entry, 0, len(byPorts))
	for _, key := range slices.Sorted(maps.Keys(byPorts)) {
		e := byPorts[key]
		slices.Sort(e.names)
		e.prefixes = widen(e.prefixes, o)
		out = append(out, *e)
	}
	slices.SortStableFunc(out, func(a, b entry) int {
		return cmp.Or(slices.Compare(a.names, b.names), slices.CompareFunc(a.prefixes, b.prefixes, netip.Prefix.Compare))
	})
	return out
}

// widen sorts addresses and, where that was asked for, puts a prefix in the place of those that share it.
func widen(list []netip.Prefix, o Options) []netip.Prefix {
	shared := map[netip.Prefix][]netip.Prefix{}
	for _, p := range list {
		bits := o.WidenV6
		if p.Addr().Is4() {
			bits = o.WidenV4
		}
		if bits <= 0 || bits > p.Bits() {
			bits = p.Bits()
		}
		wide := netip.PrefixFrom(p.Addr(), bits).Masked()
		shared[wide] = append(shared[wide], p)
	}
	out := make([]netip.Prefix, 0, len(shared))
	for wide, addresses := range shared {
		if len(addresses) == 1 {
			wide = addresses[0]
		}
		out = append(out, wide)
	}
	slices.SortFunc(out, netip.Prefix.Compare)
	return out
}

// address writes a prefix; an address alone without its length.
func address(p netip.Prefix) string {
	if p.IsSingleIP() {
		return p.Addr().String()
	}
	return p.String()
}

// sanitized makes a name for a policy or a rule: lower case letters, digits and dashes.
func sanitized(text string, longest int) string {
	clean := strings.Map(func(r rune) rune {
		switch {
		case 'a' <= r && r <= 'z', '0' <= r && r <= '9':
			return r
		case 'A' <= r && r <= 'Z':
			return r - 'A' + 'a'
		}
		return '-'
	}, text)
	for strings.Contains(clean, "--") {
		clean = strings.ReplaceAll(clean, "--", "-")
	}
	clean = strings.Trim(clean, "-")
	if len(clean) > longest {
		clean = strings.Trim(clean[:longest], "-")
	}
	if clean == "" {
		return "unnamed"
	}
	return clean
}

// unique makes a name that no other has.
func unique(taken map[string]bool, name string) string {
	out := name
	for i := 2; taken[out]; i++ {
		out = fmt.Sprintf("%s-%d", name, i)
	}
	taken[out] = true
	return out
}
