package policy

import (
	"net/netip"
	"slices"
)

// EgressRule is one entry of a rule's egress list: peers AND ports.
type EgressRule struct {
	ToCIDR      []netip.Prefix     `json:"toCIDR,omitzero"`
	ToCIDRSet   []CIDRSet          `json:"toCIDRSet,omitzero"`
	ToEntities  []Entity           `json:"toEntities,omitzero"`
	ToFQDNs     []FQDNSelector     `json:"toFQDNs,omitzero"`
	ToEndpoints []EndpointSelector `json:"toEndpoints,omitzero"`
	ToServices  []ServiceSelector  `json:"toServices,omitzero"`
	ToPorts     []PortRule         `json:"toPorts,omitzero"`
	ICMPs       []ICMPRule         `json:"icmps,omitzero"`
	External    bool               `json:"-"` // see Peers
}

// IngressRule is one entry of a rule's ingress list: peers AND ports. The ports are the workload's.
type IngressRule struct {
	FromCIDR      []netip.Prefix     `json:"fromCIDR,omitzero"`
	FromCIDRSet   []CIDRSet          `json:"fromCIDRSet,omitzero"`
	FromEntities  []Entity           `json:"fromEntities,omitzero"`
	FromEndpoints []EndpointSelector `json:"fromEndpoints,omitzero"`
	ToPorts       []PortRule         `json:"toPorts,omitzero"`
	ICMPs         []ICMPRule         `json:"icmps,omitzero"`
	External      bool               `json:"-"` // see Peers
}

// Entry is a part of an EgressRule or an IngressRule without its direction: its peers, with those
// of its ports that have nothing said about what is inside, or with one of its PortRules that has.
type Entry struct {
	Index int // of the rule in its list
	Peers Peers
	Ports []Port         // OR-ed; nil: every protocol and port
	ICMPs []ICMPField    // OR-ed; not nil: only these messages, and Ports is nil
	DNS   []FQDNSelector // names that may be asked for; nil: nothing is said about queries
	HTTP  []HTTPRule     // requests that may be made; nil: nothing is said about requests
	// ServerNames are those that a TLS client may ask for; nil: nothing is said about them.
	ServerNames []NamePattern
}

// Peers says which other ends an entry is about. The fields are OR-ed; all nil means every peer,
// also where a call has no address. A field that is empty adds no peer.
type Peers struct {
	CIDRs     []netip.Prefix
	CIDRSets  []CIDRSet
	Entities  []Entity
	FQDNs     []FQDNSelector // peers whose address DNS has told the workload for a name of these
	Endpoints []EndpointSelector
	Services  []ServiceSelector // their addresses and backends
	External  bool              // CIDRs and CIDRSets are about what is outside of the cluster only, as in Cilium
}

// Any says whether the peers are every peer: none is named, or the entity all is.
func (p *Peers) Any() bool {
	if p.CIDRs == nil && p.CIDRSets == nil && p.Entities == nil && p.FQDNs == nil && p.Endpoints == nil && p.Services == nil {
		return true
	}
	return slices.Contains(p.Entities, EntityAll)
}

// None says whether the peers are no peer: a list is there, and all that are there are empty.
func (p *Peers) None() bool {
	return !p.Any() && len(p.CIDRs)+len(p.CIDRSets)+len(p.Entities)+len(p.FQDNs)+len(p.Endpoints)+len(p.Services) == 0
}

// CIDRSet is a CIDR without some of its parts.
type CIDRSet struct {
	CIDR   netip.Prefix   `json:"cidr"`
	Except []netip.Prefix `json:"except,omitzero"` // each inside CIDR
}

// Entity is a class of peers with a name.
type Entity string

// The entities.
const (
	EntityAll           Entity = "all"        // every peer, as if none were named
	EntityHost          Entity = "host"       // the node's own addresses, loopback excepted
	EntityWorld         Entity = "world"      // every address but loopback that is not inside the cluster: see Input.Inside
	EntityWorldIPv4     Entity = "world-ipv4" // those that are IPv4
	EntityWorldIPv6     Entity = "world-ipv6"
	EntityRemoteNode    Entity = "remote-node"
	EntityCluster       Entity = "cluster" // host, remote-node, health, the endpoints and the pods' prefixes
	EntityKubeAPIServer Entity = "kube-apiserver"
	EntityHealth        Entity = "health"
	EntityMetadata      Entity = "metadata" // the services by which clouds give credentials: MetadataAddresses
	EntityNone          Entity = "none"     // no peer
)

// Entries returns a rule's entries in one direction, and how many the list of the direction has:
// an item of the list that says something about what is inside is several entries with one Index.
// named is false where the rule says nothing about the direction. A rule that names it with an empty
// list has no entry: as an Allow rule it allows nothing there.
func (r *Rule) Entries(d Direction) (entries []Entry, count int, named bool) {
	if r.Egress == nil && r.Ingress == nil && r.Denies() {
		return []Entry{{}}, 1, true
	}
	if d == Egress {
		for i := range r.Egress {
			e := &r.Egress[i]
			entries = split(entries, Entry{Index: i, Peers: Peers{
				e.ToCIDR, e.ToCIDRSet, e.ToEntities, e.ToFQDNs, e.ToEndpoints, e.ToServices, e.External,
			}, ICMPs: fields(e.ICMPs)}, e.ToPorts)
		}
		return entries, len(r.Egress), r.Egress != nil
	}
	for i := range r.Ingress {
		e := &r.Ingress[i]
		entries = split(entries, Entry{Index: i, Peers: Peers{
			CIDRs: e.FromCIDR, CIDRSets: e.FromCIDRSet, Entities: e.FromEntities, Endpoints: e.FromEndpoints, External: e.External,
		}, ICMPs: fields(e.ICMPs)}, e.ToPorts)
	}
	return entries, len(r.Ingress), r.Ingress != nil
}

// fields returns the messages of all rules; nil where there is no rule.
func fields(rules []ICMPRule) (out []ICMPField) {
	for _, r := range rules {
		out = append(out, r.Fields...)
	}
	return out
}

// split appends an entry for all ports without L7 rules, then one for each PortRule with them.
func split(out []Entry, e Entry, rules []PortRule) []Entry {
	if rules == nil {
		return append(out, e)
	}
	plain := e
	var inside []Entry
	for _, r := range rules {
		if r.Rules == nil && r.ServerNames == nil {
			plain.Ports = append(plain.Ports, r.Ports...)
			continue
		}
		part := e
		part.Ports, part.ServerNames = append([]Port{}, r.Ports...), r.ServerNames
		if r.Rules != nil {
			part.DNS, part.HTTP = r.Rules.DNS, r.Rules.Requests()
		}
		inside = append(inside, part)
	}
	if plain.Ports != nil {
		out = append(out, plain)
	}
	return append(out, inside...)
}

// Inside says whether an address belongs to the cluster: to a node, an endpoint, a service or the
// pods' prefixes. It asks one by one.
func (in *Input) Inside(a netip.Addr) bool {
	a, w := a.Unmap().WithZone(""), &in.World
	return slices.Contains(in.Node.HostAddresses(), a) || has(w.RemoteNodes, a) || has(w.Health, a) ||
		slices.ContainsFunc(w.Endpoints, func(e Endpoint) bool { return has(e.Addresses, a) }) ||
		slices.ContainsFunc(w.Services, func(s Service) bool { return has(s.Addresses, a) }) ||
		slices.ContainsFunc(w.Cluster, func(p netip.Prefix) bool { return p.Contains(a) })
}

// EndpointsAt returns the endpoints that have an address. Addresses of nodes are no endpoint's: a pod
// in the network of its node cannot be told from it.
func (in *Input) EndpointsAt(a netip.Addr) (out []*Endpoint) {
	if slices.Contains(in.Node.HostAddresses(), a) || has(in.World.RemoteNodes, a) {
		return nil
	}
	for i := range in.World.Endpoints {
		if e := &in.World.Endpoints[i]; has(e.Addresses, a) {
			out = append(out, e)
		}
	}
	return out
}

// Backends returns what is behind the port of a service at an address, of all services there.
func (in *Input) Backends(a netip.Addr, protocol uint8, port uint16) (out []netip.AddrPort) {
	for i := range in.World.Services {
		s := &in.World.Services[i]
		if !has(s.Addresses, a) {
			continue
		}
		for _, p := range s.Ports {
			if n := p.Protocol.Numbers(); len(n) == 1 && n[0] == protocol && p.Port == port {
				out = append(out, p.Backends...)
			}
		}
	}
	return out
}

// has says whether an address in the form of Real is in a list.
func has(list []netip.Addr, a netip.Addr) bool {
	return slices.ContainsFunc(list, func(b netip.Addr) bool {
		b, ok := Real(b)
		return ok && a == b
	})
}
