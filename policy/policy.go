// Package policy owns the policy language: its model, its strict parser and the words in which
// policies are asked a question.
//
// It is pure: it reads bytes that it is given, keeps no state, logs nothing, and imports nothing
// else of this module and nothing of a kernel or a cluster. compile turns what it parses into
// tables, match judges by it directly.
package policy

import (
	"net/netip"
	"slices"
)

// What a document must say to be a ProcessPolicy.
const (
	APIVersion          = "sallyport.dev/v1alpha1"
	KindProcessPolicy   = "ProcessPolicy"
	DefaultNamespace    = "default" // of a policy without metadata.namespace
	maxNameLength       = 253
	maxNamespaceLength  = 76 // containerd's limit; Kubernetes' is 63
	maxRuleNameLength   = 63
	maxLabelValueLength = 4096 // containerd's limit; Kubernetes' is 63
)

// Policy is one ProcessPolicy document. In every list of the model nil means that the field is
// missing and an empty list that it is there and empty: the two mean different things.
type Policy struct {
	APIVersion string   `json:"apiVersion"`
	Kind       string   `json:"kind"`
	Metadata   Metadata `json:"metadata"`
	Spec       Spec     `json:"spec"`
	File       string   `json:"-"` // as given to Parse
	Line       int      `json:"-"` // of the document's first field, from 1
}

// Name is how people write the policy: namespace/name.
func (p *Policy) Name() string { return p.Metadata.Namespace + "/" + p.Metadata.Name }

// RuleName is how people write one of the policy's rules: namespace/policy/rule.
func (p *Policy) RuleName(r *Rule) string { return p.Name() + "/" + r.Name }

// Selects says whether the policy is about a workload: same namespace, and the pod selector
// matches its labels. Whether a rule selects a process in it is another question.
func (p *Policy) Selects(w *Workload) bool {
	return p.Metadata.Namespace == w.Namespace && p.Spec.PodSelector.Matches(w.Labels)
}

// Metadata names a policy. Labels and annotations have no meaning of their own.
type Metadata struct {
	Name        string            `json:"name"`
	Namespace   string            `json:"namespace"`
	Labels      map[string]string `json:"labels,omitzero"`
	Annotations map[string]string `json:"annotations,omitzero"`
}

// Spec is what a policy demands of the workloads that PodSelector selects.
type Spec struct {
	PodSelector LabelSelector `json:"podSelector"` // required when written; {} selects every workload of the namespace
	Mode        Mode          `json:"mode"`
	OnViolation *OnViolation  `json:"onViolation,omitzero"` // default of the rules that say nothing
	Rules       []Rule        `json:"rules"`
}

// Mode says whether a policy acts or only tells.
type Mode string

// The modes. Without one a policy enforces.
const (
	ModeEnforce Mode = "Enforce"
	ModeAudit   Mode = "Audit" // report what Enforce would have done
)

// Action is what a rule does with a call that it matches.
type Action string

// The actions. Without one a rule allows.
const (
	ActionAllow Action = "Allow"
	ActionDeny  Action = "Deny"
)

// Rule says what the processes it selects may, or for Deny may not, reach. An Allow rule makes
// every direction it names default-deny for those processes. A Deny rule that names no direction
// denies both.
type Rule struct {
	Name        string            `json:"name"`
	Processes   []ProcessSelector `json:"processes,omitzero"` // OR-ed; nil: every process
	Action      Action            `json:"action"`
	Egress      []EgressRule      `json:"egress,omitzero"`  // OR-ed; empty: nothing leaves
	Ingress     []IngressRule     `json:"ingress,omitzero"` // OR-ed; empty: nothing enters
	OnViolation *OnViolation      `json:"onViolation,omitzero"`
	Line        int               `json:"-"`
}

// ProcessSelector selects processes: all fields that are there must match. A nil field matches
// every process.
type ProcessSelector struct {
	Origins        []Origin        `json:"origins,omitzero"`
	Containers     []Glob          `json:"containers,omitzero"` // on the container's name
	ContainerTypes []ContainerType `json:"containerTypes,omitzero"`
	Binaries       []Glob          `json:"binaries,omitzero"` // on the resolved executable, or the script it runs
}

// ContainerType is a container's place in its pod. The words are those of runtime/identity.
type ContainerType string

// The container types that a policy can name.
const (
	ContainerApp       ContainerType = "App"
	ContainerInit      ContainerType = "Init"
	ContainerSidecar   ContainerType = "Sidecar"
	ContainerEphemeral ContainerType = "Ephemeral"
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

// PortRule is one entry of toPorts. Ports is never empty.
type PortRule struct {
	Ports []Port   `json:"ports"`
	Rules *L7Rules `json:"rules,omitzero"` // what may be said on these ports; nil: everything
}

// L7Rules says what may be said on ports that a rule allows.
type L7Rules struct {
	DNS []FQDNSelector `json:"dns,omitzero"` // names that may be asked for
}

// Port is a protocol and one port, a range of ports, or all ports.
type Port struct {
	Port     uint16   `json:"port,omitzero,string"` // 0: every port
	EndPort  uint16   `json:"endPort,omitzero"`     // last port of a range; 0: Port alone
	Protocol Protocol `json:"protocol,omitzero"`    // "" is ANY
}

// Range returns the first and the last port; ok is false where the protocol's every port is meant
// (and its calls without a port).
func (p Port) Range() (first, last uint16, ok bool) {
	if p.Port == 0 {
		return 0, 0, false
	}
	return p.Port, max(p.Port, p.EndPort), true
}

// Protocol is a transport protocol by its name.
type Protocol string

// The protocols.
const (
	ProtocolAny    Protocol = "ANY" // with a port: TCP, UDP and SCTP; without: everything
	ProtocolTCP    Protocol = "TCP"
	ProtocolUDP    Protocol = "UDP"
	ProtocolSCTP   Protocol = "SCTP"
	ProtocolICMP   Protocol = "ICMP"
	ProtocolICMPv6 Protocol = "ICMPv6"
)

// IP protocol numbers, as IANA assigns them.
const (
	ipProtoICMP   = 1
	ipProtoTCP    = 6
	ipProtoUDP    = 17
	ipProtoICMPv6 = 58
	ipProtoSCTP   = 132
)

// Numbers returns the IP protocol numbers that a Port's protocol stands for. ANY stands for those
// that have ports; without a port it means every protocol, which no list can say.
func (p Protocol) Numbers() []uint8 {
	switch p {
	case ProtocolTCP:
		return []uint8{ipProtoTCP}
	case ProtocolUDP:
		return []uint8{ipProtoUDP}
	case ProtocolSCTP:
		return []uint8{ipProtoSCTP}
	case ProtocolICMP:
		return []uint8{ipProtoICMP}
	case ProtocolICMPv6:
		return []uint8{ipProtoICMPv6}
	case ProtocolAny, "":
		return []uint8{ipProtoTCP, ipProtoUDP, ipProtoSCTP}
	}
	return nil
}

// AnyPort says whether a port stands for every protocol and port.
func (p Port) AnyPort() bool {
	return p.Port == 0 && (p.Protocol == ProtocolAny || p.Protocol == "")
}

// OnViolation says what a call gets that a Deny rule matches or that an Allow rule's default-deny
// stops. An empty field is the spec's, and else the default: Deny, warning.
type OnViolation struct {
	Verdict Verdict  `json:"verdict,omitzero"`
	Alert   Severity `json:"alert,omitzero"`
}

// Violation returns what a violation of a rule gets, defaults filled in.
func (s *Spec) Violation(r *Rule) OnViolation {
	v := OnViolation{Verdict: VerdictDeny, Alert: SeverityWarning}
	for _, o := range []*OnViolation{s.OnViolation, r.OnViolation} {
		if o == nil {
			continue
		}
		if o.Verdict != "" {
			v.Verdict = o.Verdict
		}
		if o.Alert != "" {
			v.Alert = o.Alert
		}
	}
	return v
}

// Entries returns a rule's entries in one direction, and how many the list of the direction has:
// an item of the list that says something about what is inside is several entries with one Index.
// named is false where the rule says nothing about the direction. A rule that names it with an empty
// list has no entry: as an Allow rule it allows nothing there.
func (r *Rule) Entries(d Direction) (entries []Entry, count int, named bool) {
	if r.Egress == nil && r.Ingress == nil && r.Action == ActionDeny {
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

// Selectors returns a rule's process selectors; a rule without any has one that selects every
// process.
func (r *Rule) Selectors() []ProcessSelector {
	if r.Processes == nil {
		return []ProcessSelector{{}}
	}
	return r.Processes
}
