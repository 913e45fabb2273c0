package policy

import (
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Documents of Kubernetes itself.
const (
	KindNetworkPolicy       = "NetworkPolicy"
	kindList                = "List"
	apiVersionNetworkPolicy = "networking.k8s.io/v1"
	apiVersionList          = "v1"
)

// documentRule is the name of the rule that a document of another's language becomes.
const documentRule = "spec"

// foreignMetadata decodes the metadata of a document that others define. What a server fills in, or what
// names it for people, is known and has no meaning for a policy.
func (d *decoder) foreignMetadata(v value, namespaced bool) Metadata {
	m := Metadata{}
	fields := []field{{name: "name", parse: func(v value) { m.Name = d.name(v, maxNameLength, "-.", false) }}}
	if namespaced {
		m.Namespace = DefaultNamespace
		fields = append(fields, field{name: "namespace", parse: func(v value) { m.Namespace = d.name(v, maxNamespaceLength, "-._", true) }})
	} else {
		fields = append(fields, refused("is not for a policy of the cluster", "namespace")...)
	}
	present, ok := d.object(v, append(fields, meaningless("labels", "annotations", "creationTimestamp", "deletionGracePeriodSeconds",
		"deletionTimestamp", "finalizers", "generateName", "generation", "managedFields", "ownerReferences", "resourceVersion", "selfLink", "uid")...))
	if ok {
		d.require(v, present, "name", "a policy needs a name, unique in its namespace")
	}
	return m
}

// meaningless lists fields that say nothing about what a policy does.
func meaningless(names ...string) []field {
	fields := make([]field, len(names))
	for i, name := range names {
		fields[i] = field{name: name, parse: func(value) {}}
	}
	return fields
}

// networkPolicy decodes the spec of a NetworkPolicy into one rule for every process of the pods.
func (d *decoder) networkPolicy(v value, p *Policy) {
	r := Rule{Name: documentRule, Action: ActionAllow, Line: v.node.Line}
	var types []Direction
	var egress []EgressRule
	var ingress []IngressRule
	present, ok := d.object(v, []field{
		{name: "podSelector", parse: func(v value) { p.Spec.PodSelector = d.labelSelector(v) }},
		{name: "policyTypes", parse: func(v value) {
			types = each(d, v, func(v value) Direction {
				if enum(d, v, []string{"Ingress", "Egress"}, nil) == "Ingress" {
					return Ingress
				}
				return Egress
			})
		}},
		{name: "egress", parse: func(v value) { egress = each(d, v, func(v value) EgressRule { return d.networkEgress(v, p) }) }},
		{name: "ingress", parse: func(v value) { ingress = each(d, v, func(v value) IngressRule { return d.networkIngress(v, p) }) }},
	})
	if !ok {
		return
	}
	d.require(v, present, "podSelector", "podSelector: {} selects every pod of the namespace")
	if len(types) == 0 {
		types = []Direction{Ingress}
		if len(egress) > 0 {
			types = append(types, Egress)
		}
	}
	// What is said about a direction that policyTypes does not name has no effect, as in Kubernetes.
	// The pod's own node may always talk to it, and be talked to: Kubernetes says so.
	if slices.Contains(types, Egress) {
		r.Egress = append(slices.Clone(egress), EgressRule{ToEntities: []Entity{EntityHost}})
	}
	if slices.Contains(types, Ingress) {
		r.Ingress = append(slices.Clone(ingress), IngressRule{FromEntities: []Entity{EntityHost}})
	}
	p.Spec.Rules = []Rule{r}
}

// networkEgress decodes one of egress.
func (d *decoder) networkEgress(v value, p *Policy) EgressRule {
	var e EgressRule
	var to Peers
	d.object(v, []field{
		{name: "to", parse: func(v value) { to = d.networkPeers(v, p) }},
		{name: "ports", parse: func(v value) { e.ToPorts = d.networkPorts(v) }},
	})
	e.ToCIDRSet, e.ToEndpoints = to.CIDRSets, to.Endpoints
	return e
}

// networkIngress decodes one of ingress.
func (d *decoder) networkIngress(v value, p *Policy) IngressRule {
	var e IngressRule
	var from Peers
	d.object(v, []field{
		{name: "from", parse: func(v value) { from = d.networkPeers(v, p) }},
		{name: "ports", parse: func(v value) { e.ToPorts = d.networkPorts(v) }},
	})
	e.FromCIDRSet, e.FromEndpoints = from.CIDRSets, from.Endpoints
	return e
}

// networkPeers decodes from or to. An empty list is every peer, as if there were none.
func (d *decoder) networkPeers(v value, p *Policy) (out Peers) {
	items, _ := d.items(v)
	for _, v := range items {
		var pods, namespaces *LabelSelector
		selector := func(into **LabelSelector) func(value) {
			return func(v value) {
				s := d.labelSelector(v)
				*into = &s
			}
		}
		present, ok := d.object(v, []field{
			{name: "ipBlock", parse: func(v value) { out.CIDRSets = append(out.CIDRSets, d.cidrSet(v)) }},
			{name: "podSelector", parse: selector(&pods)},
			{name: "namespaceSelector", parse: selector(&namespaces)},
		})
		if !ok {
			continue
		}
		_, block := present["ipBlock"]
		switch {
		case block && len(present) > 1:
			d.fail(v, "write two peers", "a peer has ipBlock or selectors, not both")
		case len(present) == 0:
			d.fail(v, "podSelector: {} is every pod of the namespace, namespaceSelector: {} every pod", "is empty")
		case !block:
			out.Endpoints = append(out.Endpoints, EndpointSelector{LabelSelector: both(pods, namespaces, p)})
		}
	}
	return out
}

// both makes one selector of a peer's two. Without one for namespaces the peer is of the policy's.
func both(pods, namespaces *LabelSelector, p *Policy) (out LabelSelector) {
	if pods != nil {
		out.MatchExpressions = append(out.MatchExpressions, pods.MatchExpressions...)
		out.MatchLabels = pods.MatchLabels
	}
	if namespaces == nil {
		out.MatchExpressions = append(out.MatchExpressions, LabelRequirement{LabelNamespace, LabelIn, []string{p.Metadata.Namespace}})
		return out
	}
	for _, key := range sortedKeys(namespaces.MatchLabels) {
		out.MatchExpressions = append(out.MatchExpressions, LabelRequirement{LabelOfNamespace + key, LabelIn, []string{namespaces.MatchLabels[key]}})
	}
	for _, r := range namespaces.MatchExpressions {
		r.Key = LabelOfNamespace + r.Key
		out.MatchExpressions = append(out.MatchExpressions, r)
	}
	// Whatever the namespace: that one is asked for keeps the policy's from being filled in.
	out.MatchExpressions = append(out.MatchExpressions, LabelRequirement{Key: LabelNamespace, Operator: LabelExists})
	return out
}

// networkPorts decodes ports. An empty list is every port, as if there were none.
func (d *decoder) networkPorts(v value) []PortRule {
	ports := each(d, v, func(v value) Port {
		p := Port{Protocol: ProtocolTCP}
		var endAt *value
		_, ok := d.object(v, []field{
			{name: "protocol", parse: func(v value) { p.Protocol = enum(d, v, []Protocol{ProtocolTCP, ProtocolUDP, ProtocolSCTP}, nil) }},
			{name: "port", parse: func(v value) { p.Port, p.Name = d.portNumber(v, true) }},
			{name: "endPort", parse: func(v value) { endAt = &v; p.EndPort, _ = d.portNumber(v, false) }},
		})
		switch {
		case !ok || endAt == nil:
		case p.Port == 0:
			d.fail(*endAt, "port is the first of the range, a number", "endPort without the number of a port")
		case p.EndPort != 0 && p.EndPort < p.Port:
			d.fail(*endAt, "", "endPort %d is below port %d", p.EndPort, p.Port)
		}
		return p
	})
	if len(ports) == 0 {
		return nil
	}
	return []PortRule{{Ports: ports}}
}

// listed decodes the documents of a list, as kubectl writes them.
func (d *decoder) listed(v value, of string) (out []*Policy) {
	d.object(v, append(meaningless("apiVersion", "kind", "metadata"), field{name: "items", parse: func(v value) {
		for _, it := range each(d, v, func(v value) value { return v }) {
			it = d.resolve(it)
			if k, ok := d.kindOf(it); ok && isList(k) {
				d.fail(it, "", "a list inside of a list")
				continue
			}
			got := d.document(it)
			for _, p := range got {
				if want := strings.TrimSuffix(of, kindList); want != "" && p.Kind != want {
					d.fail(it, "", "a %s in a %s", p.Kind, of)
				}
			}
			out = append(out, got...)
		}
	}}))
	return out
}

// isList says whether a kind is that of a list of documents.
func isList(kind string) bool { return strings.HasSuffix(kind, kindList) }

// kindOf returns the kind that a document says it has.
func (d *decoder) kindOf(v value) (string, bool) {
	if v.node.Kind != yaml.MappingNode {
		return "", false
	}
	for i := 0; i+1 < len(v.node.Content); i += 2 {
		if v.node.Content[i].Value == "kind" {
			return d.resolve(value{node: v.node.Content[i+1]}).node.Value, true
		}
	}
	return "", false
}
