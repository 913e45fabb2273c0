package policy

import (
	"errors"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// egress decodes one entry of egress.
func (d *decoder) egress(v value) EgressRule {
	var e EgressRule
	present, ok := d.object(v, append([]field{
		{name: "toCIDR", parse: func(v value) { e.ToCIDR = each(d, v, d.cidr) }},
		{name: "toCIDRSet", parse: func(v value) { e.ToCIDRSet = each(d, v, d.cidrSet) }},
		{name: "toEntities", parse: func(v value) { e.ToEntities = each(d, v, d.entity) }},
		{name: "toFQDNs", parse: func(v value) { e.ToFQDNs = each(d, v, d.fqdn) }},
		{name: "toEndpoints", parse: func(v value) { e.ToEndpoints = each(d, v, d.endpointSelector) }},
		{name: "toServices", parse: func(v value) { e.ToServices = each(d, v, d.serviceSelector) }},
		{name: "toPorts", parse: func(v value) { e.ToPorts = d.portRules(v, Egress) }},
		{name: "icmps", parse: func(v value) { e.ICMPs = d.icmps(v) }},
	}, later("toGroups", "toNodes", "toRequires", "authentication")...))
	if ok {
		d.portsOrICMP(present)
		d.namedByName(present, &e)
	}
	return e
}

// ingress decodes one entry of ingress.
func (d *decoder) ingress(v value) IngressRule {
	var e IngressRule
	present, ok := d.object(v, append([]field{
		{name: "fromCIDR", parse: func(v value) { e.FromCIDR = each(d, v, d.cidr) }},
		{name: "fromCIDRSet", parse: func(v value) { e.FromCIDRSet = each(d, v, d.cidrSet) }},
		{name: "fromEntities", parse: func(v value) { e.FromEntities = each(d, v, d.entity) }},
		{name: "fromEndpoints", parse: func(v value) { e.FromEndpoints = each(d, v, d.endpointSelector) }},
		{name: "toPorts", parse: func(v value) { e.ToPorts = d.portRules(v, Ingress) }},
		{name: "icmps", parse: func(v value) { e.ICMPs = d.icmps(v) }},
	}, later("fromGroups", "fromNodes", "fromRequires", "authentication")...))
	if ok {
		d.portsOrICMP(present)
	}
	return e
}

// portsOrICMP refuses an entry that has both: whether they are ANDed or ORed would be a guess.
func (d *decoder) portsOrICMP(present map[string]value) {
	at, icmps := present["icmps"]
	if _, ports := present["toPorts"]; ports && icmps {
		d.fail(at, "write two entries", "an entry has toPorts or icmps, not both")
	}
}

// namedByName refuses ports by name together with peers by name: the name of a port is a matter of a
// pod, and which pod a DNS name stands for is not known.
func (d *decoder) namedByName(present map[string]value, e *EgressRule) {
	named := slices.ContainsFunc(e.ToPorts, func(r PortRule) bool {
		return slices.ContainsFunc(r.Ports, func(p Port) bool { return p.Name != "" })
	})
	if named && e.ToFQDNs != nil {
		d.fail(present["toPorts"], "write the number", "a port by its name is that of a pod, and toFQDNs selects none")
	}
}

// endpointSelector decodes a selector of endpoints with Cilium's keys.
func (d *decoder) endpointSelector(v value) EndpointSelector {
	d.sources = true
	defer func() { d.sources = false }()
	return EndpointSelector{LabelSelector: d.labelSelector(v)}
}

// sourceKey takes the source off the key of a label in a selector of endpoints, and checks the rest.
func (d *decoder) sourceKey(v value, key string) string {
	source, rest, colon := strings.Cut(key, ":")
	if colon {
		key = rest
		if source != "k8s" && source != "any" {
			d.fail(v, "k8s:app, any:app or app; for reserved: there are entities", "labels of the source %s are not known here", quote(source))
			return key
		}
	}
	switch key {
	case "io.cilium.k8s.policy.cluster":
		d.fail(v, "", "other clusters are not known here")
	case LabelNamespace, LabelServiceAccount:
	default:
		d.labelKey(v, strings.TrimPrefix(key, LabelOfNamespace))
	}
	return key
}

// serviceSelector decodes one of toServices.
func (d *decoder) serviceSelector(v value) ServiceSelector {
	var s ServiceSelector
	namespace := func(into *string) func(value) {
		return func(v value) { *into = d.name(v, maxNamespaceLength, "-._", true) }
	}
	present, ok := d.object(v, []field{
		{name: "k8sService", parse: func(v value) {
			s.K8sService = &ServiceName{}
			present, ok := d.object(v, []field{
				{name: "serviceName", parse: func(v value) { s.K8sService.ServiceName = d.name(v, maxNameLength, "-.", false) }},
				{name: "namespace", parse: namespace(&s.K8sService.Namespace)},
			})
			if ok {
				d.require(v, present, "serviceName", "serviceName: web")
			}
		}},
		{name: "k8sServiceSelector", parse: func(v value) {
			s.K8sServiceSelector = &ServiceLabels{}
			present, ok := d.object(v, []field{
				{name: "selector", parse: func(v value) { s.K8sServiceSelector.Selector = d.endpointSelector(v).LabelSelector }},
				{name: "namespace", parse: namespace(&s.K8sServiceSelector.Namespace)},
			})
			if ok {
				d.require(v, present, "selector", "selector: {matchLabels: {app: web}}")
			}
		}},
	})
	if ok && len(present) != 1 {
		d.fail(v, "k8sService: {serviceName: web, namespace: shop}", "has not exactly one of k8sService and k8sServiceSelector")
	}
	return s
}

// inNamespace fills in the namespace of a policy where its peers do not say theirs. Policies of the
// cluster have none: there it is every namespace.
func (p *Policy) inNamespace() {
	for i := range p.Spec.Rules {
		r := &p.Spec.Rules[i]
		for j := range r.Egress {
			inNamespace(p.Metadata.Namespace, r.Egress[j].ToEndpoints)
			for k := range r.Egress[j].ToServices {
				s := &r.Egress[j].ToServices[k]
				if s.K8sService != nil && s.K8sService.Namespace == "" {
					s.K8sService.Namespace = p.Metadata.Namespace
				}
				if s.K8sServiceSelector != nil && s.K8sServiceSelector.Namespace == "" {
					s.K8sServiceSelector.Namespace = p.Metadata.Namespace
				}
			}
		}
		for j := range r.Ingress {
			inNamespace(p.Metadata.Namespace, r.Ingress[j].FromEndpoints)
		}
	}
}

func inNamespace(namespace string, selectors []EndpointSelector) {
	for i := range selectors {
		selectors[i].Namespace = namespace
	}
}

// entity decodes the name of an entity.
func (d *decoder) entity(v value) Entity {
	not := map[string]string{}
	for _, name := range []string{"init", "ingress", "unmanaged"} {
		not[name] = "is not supported yet"
	}
	return enum(d, v, []Entity{
		EntityAll, EntityWorld, EntityWorldIPv4, EntityWorldIPv6, EntityHost, EntityRemoteNode, EntityCluster,
		EntityKubeAPIServer, EntityHealth, EntityMetadata, EntityNone,
	}, not)
}

// cidr decodes a CIDR or a single address. IPv4-mapped IPv6 becomes IPv4, as everywhere.
func (d *decoder) cidr(v value) netip.Prefix {
	s, ok := d.text(v)
	if !ok {
		return netip.Prefix{}
	}
	p, err := parseCIDR(s, d.foreign)
	if err != nil {
		d.fail(v, "", "%s is no CIDR: %v", quote(s), err)
	}
	return p
}

// parseCIDR parses a CIDR, or an address. Bits behind the prefix are taken off where others define that
// they do not matter, and else refused.
func parseCIDR(s string, lax bool) (netip.Prefix, error) {
	host, bits, slash := strings.Cut(s, "/")
	a, err := netip.ParseAddr(host)
	switch {
	case err != nil:
		return netip.Prefix{}, errors.New("an address and how many of its leading bits count: 10.0.0.0/8, 2001:db8::/32")
	case a.Zone() != "":
		return netip.Prefix{}, errors.New("a zone (%) cannot be matched: leave it out")
	case !slash:
		a = a.Unmap()
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	n, err := strconv.ParseUint(bits, 10, 8)
	if err != nil || int(n) > a.BitLen() || bits != strconv.FormatUint(n, 10) {
		return netip.Prefix{}, errors.New("behind the / stands a number from 0 to " + strconv.Itoa(a.BitLen()))
	}
	p := netip.PrefixFrom(a, int(n))
	if a.Is4In6() && n >= 96 {
		p = netip.PrefixFrom(a.Unmap(), int(n)-96)
	}
	if lax {
		p = p.Masked()
	}
	if p != p.Masked() {
		return netip.Prefix{}, errors.New("bits behind the prefix are set: write " + p.Masked().String() +
			" or " + netip.PrefixFrom(p.Addr(), p.Addr().BitLen()).String())
	}
	return p, nil
}

// cidrSet decodes a CIDR with exceptions.
func (d *decoder) cidrSet(v value) CIDRSet {
	var s CIDRSet
	present, ok := d.object(v, append([]field{
		{name: "cidr", parse: func(v value) { s.CIDR = d.cidr(v) }},
		{name: "except", parse: func(v value) { s.Except = each(d, v, d.cidr) }},
	}, later("cidrGroupRef", "cidrGroupSelector")...))
	if !ok {
		return s
	}
	d.require(v, present, "cidr", "cidr: 10.0.0.0/8")
	for i, e := range s.Except {
		if !s.CIDR.IsValid() || !e.IsValid() {
			continue // reported already
		}
		if e.Bits() < s.CIDR.Bits() || !s.CIDR.Contains(e.Addr()) {
			at := value{d.resolve(v).node, v.path + ".except[" + strconv.Itoa(i) + "]"}
			d.fail(at, "an exception is a part of the CIDR", "%s is not inside %s", e, s.CIDR)
		} else if e == s.CIDR {
			at := value{d.resolve(v).node, v.path + ".except[" + strconv.Itoa(i) + "]"}
			d.fail(at, "an exception is a part of the CIDR", "%s excepts all of the CIDR", e)
		}
	}
	return s
}

// fqdn decodes one of toFQDNs, or one of rules.dns.
func (d *decoder) fqdn(v value) FQDNSelector {
	var s FQDNSelector
	pattern := func(into *NamePattern, parse func(string) (NamePattern, error)) func(value) {
		return func(v value) {
			text, ok := d.text(v)
			if !ok {
				return
			}
			p, err := parse(text)
			if err != nil {
				d.fail(v, "", "%s is no name: %v", quote(text), err)
			}
			*into = p
		}
	}
	present, ok := d.object(v, []field{
		{name: "matchName", parse: pattern(&s.MatchName, ParseName)},
		{name: "matchPattern", parse: pattern(&s.MatchPattern, ParseNamePattern)},
	})
	if ok && len(present) != 1 {
		d.fail(v, "matchName: www.example.com, or matchPattern: \"*.example.com\"", "has not exactly one of matchName and matchPattern")
	}
	return s
}
