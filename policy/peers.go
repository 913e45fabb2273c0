package policy

import (
	"net/netip"
	"slices"
)

// EgressRule is one entry of a rule's egress list: peers AND ports.
type EgressRule struct {
	ToCIDR     []netip.Prefix `json:"toCIDR,omitzero"`
	ToCIDRSet  []CIDRSet      `json:"toCIDRSet,omitzero"`
	ToEntities []Entity       `json:"toEntities,omitzero"`
	ToFQDNs    []FQDNSelector `json:"toFQDNs,omitzero"`
	ToPorts    []PortRule     `json:"toPorts,omitzero"`
}

// IngressRule is one entry of a rule's ingress list: peers AND ports. The ports are the workload's.
type IngressRule struct {
	FromCIDR     []netip.Prefix `json:"fromCIDR,omitzero"`
	FromCIDRSet  []CIDRSet      `json:"fromCIDRSet,omitzero"`
	FromEntities []Entity       `json:"fromEntities,omitzero"`
	ToPorts      []PortRule     `json:"toPorts,omitzero"`
}

// Entry is a part of an EgressRule or an IngressRule without its direction: its peers, with those
// of its ports that have nothing said about what is inside, or with one of its PortRules that has.
type Entry struct {
	Index int // of the rule in its list
	Peers Peers
	Ports []Port         // OR-ed; nil: every protocol and port
	DNS   []FQDNSelector // names that may be asked for; nil: nothing is said about queries
}

// Peers says which other ends an entry is about. The fields are OR-ed; all nil means every peer,
// also where a call has no address. A field that is empty adds no peer.
type Peers struct {
	CIDRs    []netip.Prefix
	CIDRSets []CIDRSet
	Entities []Entity
	FQDNs    []FQDNSelector // peers whose address DNS has told the workload for a name of these
}

// Any says whether the peers are every peer: none is named, or the entity all is.
func (p *Peers) Any() bool {
	if p.CIDRs == nil && p.CIDRSets == nil && p.Entities == nil && p.FQDNs == nil {
		return true
	}
	return slices.Contains(p.Entities, EntityAll)
}

// None says whether the peers are no peer: a list is there, and all that are there are empty.
func (p *Peers) None() bool {
	return !p.Any() && len(p.CIDRs)+len(p.CIDRSets)+len(p.Entities)+len(p.FQDNs) == 0
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
	EntityAll   Entity = "all"   // every peer, as if none were named
	EntityHost  Entity = "host"  // the node's own addresses, loopback excepted
	EntityWorld Entity = "world" // every address that is neither the node's nor loopback
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
			entries = split(entries, Entry{Index: i, Peers: Peers{e.ToCIDR, e.ToCIDRSet, e.ToEntities, e.ToFQDNs}}, e.ToPorts)
		}
		return entries, len(r.Egress), r.Egress != nil
	}
	for i := range r.Ingress {
		e := &r.Ingress[i]
		entries = split(entries, Entry{Index: i, Peers: Peers{e.FromCIDR, e.FromCIDRSet, e.FromEntities, nil}}, e.ToPorts)
	}
	return entries, len(r.Ingress), r.Ingress != nil
}

// split appends an entry for all ports without L7 rules, then one for each PortRule with them.
func split(out []Entry, e Entry, rules []PortRule) []Entry {
	if rules == nil {
		return append(out, e)
	}
	plain := e
	var inside []Entry
	for _, r := range rules {
		if r.Rules == nil {
			plain.Ports = append(plain.Ports, r.Ports...)
			continue
		}
		part := e
		part.Ports, part.DNS = append([]Port{}, r.Ports...), r.Rules.DNS
		inside = append(inside, part)
	}
	if plain.Ports != nil {
		out = append(out, plain)
	}
	return append(out, inside...)
}
