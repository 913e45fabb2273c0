package policy

import (
	"slices"
	"strconv"
)

// Documents of Cilium.
const (
	KindCiliumNetworkPolicy            = "CiliumNetworkPolicy"
	KindCiliumClusterwideNetworkPolicy = "CiliumClusterwideNetworkPolicy"
	apiVersionCilium                   = "cilium.io/v2"
)

// ciliumRule decodes spec, or one of specs: what is allowed becomes one rule, what is denied another,
// both for every process of the endpoints.
func (d *decoder) ciliumRule(v value) []Rule {
	const name = documentRule
	d.zeroPort = true
	defer func() { d.zeroPort = false }()
	var (
		subject              EndpointSelector
		defaults             *DefaultDeny
		egress, egressDeny   []EgressRule
		ingress, ingressDeny []IngressRule
	)
	present, ok := d.object(v, slices.Concat([]field{
		{name: "endpointSelector", parse: func(v value) { subject = d.endpointSelector(v) }},
		{name: "enableDefaultDeny", parse: func(v value) { defaults = d.defaultDeny(v) }},
		{name: "egress", parse: func(v value) { egress = each(d, v, func(v value) EgressRule { return d.ciliumEgress(v, false) }) }},
		{name: "egressDeny", parse: func(v value) { egressDeny = each(d, v, func(v value) EgressRule { return d.ciliumEgress(v, true) }) }},
		{name: "ingress", parse: func(v value) { ingress = each(d, v, func(v value) IngressRule { return d.ciliumIngress(v, false) }) }},
		{name: "ingressDeny", parse: func(v value) { ingressDeny = each(d, v, func(v value) IngressRule { return d.ciliumIngress(v, true) }) }},
	}, meaningless("description", "labels"), later("nodeSelector", "log")))
	if !ok {
		return nil
	}
	if _, nodes := present["nodeSelector"]; !nodes { // reported already
		d.require(v, present, "endpointSelector", "endpointSelector: {} selects every pod")
	}
	if len(egress)+len(egressDeny)+len(ingress)+len(ingressDeny) == 0 {
		d.fail(v, "egress: [{}] denies what no rule allows", "has no rule in egress, egressDeny, ingress or ingressDeny")
	}
	allow := Rule{Name: name, Action: ActionAllow, Line: v.node.Line, Subject: &subject}
	denies := Rule{Name: name + "-deny", Action: ActionDeny, Line: v.node.Line, Subject: &subject}
	if said(defaults, Egress, len(egress)+len(egressDeny) > 0) {
		allow.Egress = append([]EgressRule{}, egress...)
	} else if len(egress) > 0 {
		allow.Egress, allow.Optional[Egress] = egress, true
	}
	if said(defaults, Ingress, len(ingress)+len(ingressDeny) > 0) {
		// The endpoint's node may always talk to it, as Cilium has it where nobody says otherwise.
		allow.Ingress = append(slices.Clone(ingress), IngressRule{FromEntities: []Entity{EntityHost}})
	} else if len(ingress) > 0 {
		allow.Ingress, allow.Optional[Ingress] = ingress, true
	}
	if len(egressDeny) > 0 {
		denies.Egress = egressDeny
	}
	if len(ingressDeny) > 0 {
		denies.Ingress = ingressDeny
	}
	return slices.DeleteFunc([]Rule{allow, denies}, func(r Rule) bool { return r.Egress == nil && r.Ingress == nil })
}

// said returns what enableDefaultDeny says about a direction, or else what is so without it.
func said(d *DefaultDeny, dir Direction, otherwise bool) bool {
	if d == nil {
		return otherwise
	}
	if b := [...]*bool{d.Egress, d.Ingress}[dir]; b != nil {
		return *b
	}
	return otherwise
}

// ciliumEgress decodes one of egress or egressDeny. Other than ours, an entry that says nothing is about
// nothing, and CIDRs are about what is outside of the cluster.
func (d *decoder) ciliumEgress(v value, deny bool) EgressRule {
	e := d.egress(v)
	e.External = true
	d.ciliumEntry(v, map[string]int{
		"toCIDR": len(e.ToCIDR), "toCIDRSet": len(e.ToCIDRSet), "toEntities": len(e.ToEntities), "toFQDNs": len(e.ToFQDNs),
		"toEndpoints": len(e.ToEndpoints), "toServices": len(e.ToServices),
	})
	e.ToPorts = d.ciliumPorts(v, e.ToPorts, deny)
	if p := (Peers{e.ToCIDR, e.ToCIDRSet, e.ToEntities, e.ToFQDNs, e.ToEndpoints, e.ToServices, false}); p.Any() && !slices.Contains(e.ToEntities, EntityAll) && e.ToPorts == nil && e.ICMPs == nil {
		e.ToEntities = []Entity{EntityNone}
	}
	if deny && e.ToFQDNs != nil {
		d.fail(value{v.node, join(v.path, "toFQDNs")}, "", "is not possible where something is denied")
	}
	return e
}

// ciliumIngress decodes one of ingress or ingressDeny.
func (d *decoder) ciliumIngress(v value, deny bool) IngressRule {
	e := d.ingress(v)
	e.External = true
	d.ciliumEntry(v, map[string]int{
		"fromCIDR": len(e.FromCIDR), "fromCIDRSet": len(e.FromCIDRSet), "fromEntities": len(e.FromEntities), "fromEndpoints": len(e.FromEndpoints),
	})
	e.ToPorts = d.ciliumPorts(v, e.ToPorts, deny)
	if p := (Peers{CIDRs: e.FromCIDR, CIDRSets: e.FromCIDRSet, Entities: e.FromEntities, Endpoints: e.FromEndpoints}); p.Any() && !slices.Contains(e.FromEntities, EntityAll) && e.ToPorts == nil && e.ICMPs == nil {
		e.FromEntities = []Entity{EntityNone}
	}
	return e
}

// ciliumEntry refuses an entry with two kinds of peers, as Cilium does.
func (d *decoder) ciliumEntry(v value, peers map[string]int) {
	var used []string
	for _, name := range sortedKeys(peers) {
		if peers[name] > 0 {
			used = append(used, name)
		}
	}
	if len(used) > 1 {
		d.fail(v, "write two entries", "has %s and %s, which cannot be combined", used[0], used[1])
	}
}

// ciliumPorts gives ports the meaning that they have in Cilium: port 0 is every port of a protocol, and
// of TCP, UDP and SCTP where none is named.
func (d *decoder) ciliumPorts(v value, rules []PortRule, deny bool) []PortRule {
	for i := range rules {
		r := &rules[i]
		if at := v.path + ".toPorts[" + strconv.Itoa(i) + "]"; deny && (r.Rules != nil || r.ServerNames != nil) {
			d.fail(value{v.node, at + ".rules"}, "", "is not possible where something is denied")
		}
		var ports []Port
		for _, p := range r.Ports {
			if !p.AnyPort() {
				ports = append(ports, p)
				continue
			}
			for _, protocol := range []Protocol{ProtocolTCP, ProtocolUDP, ProtocolSCTP} {
				ports = append(ports, Port{Protocol: protocol})
			}
		}
		r.Ports = ports
	}
	return rules
}
