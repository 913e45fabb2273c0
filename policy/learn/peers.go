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

// peer is the other end: a name, or else an address.
type peer struct {
	name    string
	address netip.Addr
}

func peerOf(f *flows.Flow, o Options) peer {
	if f.PeerName != "" && !o.Addresses {
		return peer{name: f.PeerName}
	}
	return peer{address: f.Call.Peer}
}

// ports are the protocols and ports that were used with one peer.
type ports struct {
	used map[policy.Port]bool
	seen span
}

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

// ranges lists ports by protocol, those that follow one another as a range.
func (p *ports) ranges() []policy.Port {
	list := slices.SortedFunc(maps.Keys(p.used), func(a, b policy.Port) int {
		return cmp.Or(cmp.Compare(a.Protocol, b.Protocol), cmp.Compare(a.Port, b.Port))
	})
	var out []policy.Port
	for _, one := range list {
		if len(out) > 0 {
			last := &out[len(out)-1]
			if _, end, ok := last.Range(); ok && last.Protocol == one.Protocol && end+1 == one.Port {
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
	seen     span
}

// entries groups the peers of a direction by their ports, so that the entries together match exactly what
// was seen. Peers with names stand in entries of their own.
func entries(peers map[peer]*ports, o Options) []entry {
	byPorts := map[string]*entry{}
	for p, used := range peers {
		list := used.ranges()
		key := fmt.Sprint(p.name != "", list)
		e := byPorts[key]
		if e == nil {
			e = &entry{ports: list}
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
		return cmp.Or(cmp.Compare(len(b.names), len(a.names)), cmp.Compare(fmt.Sprint(a.prefixes, a.names), fmt.Sprint(b.prefixes, b.names)))
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

// namesAllowed says whether this version's policies can name peers.
func namesAllowed() bool {
	const probe = "  rules: [{egress: [{toFQDNs: [{matchName: example.com}]}]}]\n"
	_, err := policy.Parse("", []byte(document("x", "x", nil)+probe))
	return err == nil
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
