package policy

import (
	"errors"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// spec decodes spec.
func (d *decoder) spec(v value) Spec {
	s := Spec{Mode: ModeEnforce}
	fields := slices.Concat([]field{
		{name: "podSelector", parse: func(v value) { s.PodSelector = d.labelSelector(v) }},
		{name: "mode", parse: func(v value) { s.Mode = enum(d, v, []Mode{ModeEnforce, ModeAudit}, nil) }},
		{name: "onViolation", parse: func(v value) { s.OnViolation = d.onViolation(v) }},
		{name: "rules", parse: func(v value) { s.Rules = d.rules(v) }},
	},
		refused("stands inside a rule: spec.rules[].…", "egress", "ingress", "processes", "action"),
		refused("is named podSelector here", "endpointSelector", "selector"),
		refused("is an entry of rules with action: Deny here", "egressDeny", "ingressDeny"),
		refused("is not needed: a direction is governed where an Allow rule names it", "policyTypes"),
		later("namespaceSelector", "nodeSelector", "serviceAccounts", "enableDefaultDeny", "description"))
	present, ok := d.object(v, fields)
	if !ok {
		return s
	}
	d.require(v, present, "podSelector", "podSelector: {} selects every pod of the namespace")
	d.require(v, present, "rules", "a policy without rules says nothing")
	return s
}

// labelSelector decodes a Kubernetes label selector.
func (d *decoder) labelSelector(v value) LabelSelector {
	var s LabelSelector
	d.object(v, []field{
		{name: "matchLabels", parse: func(v value) { s.MatchLabels = d.labels(v) }},
		{name: "matchExpressions", parse: func(v value) { s.MatchExpressions = each(d, v, d.requirement) }},
	})
	return s
}

// requirement decodes one of matchExpressions.
func (d *decoder) requirement(v value) LabelRequirement {
	var r LabelRequirement
	present, ok := d.object(v, []field{
		{name: "key", parse: func(v value) {
			if key, ok := d.text(v); ok {
				d.labelKey(v, key)
				r.Key = key
			}
		}},
		{name: "operator", parse: func(v value) {
			r.Operator = enum(d, v, []LabelOperator{LabelIn, LabelNotIn, LabelExists, LabelDoesNotExist}, nil)
		}},
		{name: "values", parse: func(v value) {
			r.Values = each(d, v, func(v value) string { s, _ := d.text(v); return s })
		}},
	})
	if !ok {
		return r
	}
	d.require(v, present, "key", "the key of a label")
	d.require(v, present, "operator", "In, NotIn, Exists or DoesNotExist")
	at := value{d.resolve(v).node, join(v.path, "values")}
	switch r.Operator {
	case LabelIn, LabelNotIn:
		if _, there := present["values"]; !there || r.Values != nil && len(r.Values) == 0 {
			d.fail(at, "values: [x]", "operator %s needs values", r.Operator)
		}
	case LabelExists, LabelDoesNotExist:
		if len(r.Values) > 0 {
			d.fail(at, "leave them out", "operator %s takes no values", r.Operator)
		}
	}
	return r
}

// onViolation decodes onViolation.
func (d *decoder) onViolation(v value) *OnViolation {
	o := &OnViolation{}
	present, ok := d.object(v, []field{
		{name: "verdict", parse: func(v value) {
			o.Verdict = enum(d, v, []Verdict{VerdictDeny, VerdictDrop, VerdictReset, VerdictKill}, map[string]string{
				"Audit": "is a mode of the policy: spec.mode", "Allow": "would make the rule void",
			})
		}},
		{name: "alert", parse: func(v value) {
			o.Alert = enum(d, v, []Severity{SeverityInfo, SeverityWarning, SeverityCritical}, nil)
		}},
	})
	if ok && len(present) == 0 {
		d.fail(v, "verdict, alert or both", "is empty")
	}
	return o
}

// rules decodes the list of rules and names those without a name.
func (d *decoder) rules(v value) []Rule {
	rules := some(d, v, "a policy without rules says nothing", d.rule)
	named := map[string]int{}
	for i := range rules {
		r := &rules[i]
		if r.Name == "" {
			r.Name = "rule-" + strconv.Itoa(i)
		}
		if first, twice := named[r.Name]; twice {
			at := value{d.resolve(v).node.Content[i], v.path + "[" + strconv.Itoa(i) + "].name"}
			d.fail(at, "rule names are unique in a policy", "%s is also the name of rules[%d]", quote(r.Name), first)
			continue
		}
		named[r.Name] = i
	}
	return rules
}

// rule decodes one rule.
func (d *decoder) rule(v value) Rule {
	r := Rule{Action: ActionAllow, Line: v.node.Line}
	fields := slices.Concat([]field{
		{name: "name", parse: func(v value) { r.Name = d.name(v, maxRuleNameLength, "-", false) }},
		{name: "processes", parse: func(v value) {
			r.Processes = some(d, v, "it would select no process", d.processSelector)
		}},
		{name: "action", parse: func(v value) {
			r.Action = enum(d, v, []Action{ActionAllow, ActionDeny}, map[string]string{
				"Audit": "is not supported yet: spec.mode audits a whole policy",
				"Kill":  "is not supported yet: action: Deny with onViolation: {verdict: Kill} does it",
			})
		}},
		{name: "egress", parse: func(v value) { r.Egress = each(d, v, d.egress) }},
		{name: "ingress", parse: func(v value) { r.Ingress = each(d, v, d.ingress) }},
		{name: "onViolation", parse: func(v value) { r.OnViolation = d.onViolation(v) }},
	},
		refused("is an entry of rules with action: Deny here", "egressDeny", "ingressDeny"),
		later("enableDefaultDeny", "description"))
	present, ok := d.object(v, fields)
	if !ok {
		return r
	}
	_, egress := present["egress"]
	_, ingress := present["ingress"]
	switch r.Action {
	case ActionAllow:
		if !egress && !ingress {
			d.fail(v, "egress: [{}] allows all that leaves, egress: [] nothing; the same for ingress",
				"an Allow rule must name egress or ingress")
		}
	case ActionDeny:
		d.denied(v, &r)
	}
	return r
}

// denied refuses Deny rules that deny less than they seem to: an empty list selects nothing, and
// where it stands in a Deny rule a template most likely went wrong.
func (d *decoder) denied(v value, r *Rule) {
	const hint = "leave the field out to deny everything, or fill it"
	for _, dir := range []Direction{Egress, Ingress} {
		entries, named := r.Entries(dir)
		if named && len(entries) == 0 {
			d.fail(value{v.node, join(v.path, dir.String())}, hint, "is empty: a Deny rule would deny nothing")
		}
		for i, e := range entries {
			if !e.Peers.Any() && len(e.Peers.CIDRs)+len(e.Peers.CIDRSets)+len(e.Peers.Entities) == 0 {
				at := value{v.node, v.path + "." + dir.String() + "[" + strconv.Itoa(i) + "]"}
				d.fail(at, hint, "has an empty list of peers: a Deny rule would deny nothing")
			}
		}
	}
}

// processSelector decodes one of a rule's processes.
func (d *decoder) processSelector(v value) ProcessSelector {
	const none = "it would select no process"
	var s ProcessSelector
	fields := slices.Concat([]field{
		{name: "origins", parse: func(v value) {
			all := Origins()
			s.Origins = some(d, v, none, func(v value) Origin { return enum(d, v, all[:], nil) })
		}},
		{name: "containers", parse: func(v value) {
			s.Containers = some(d, v, none, func(v value) Glob { return d.glob(v, "") })
		}},
		{name: "containerTypes", parse: func(v value) {
			types := []ContainerType{ContainerApp, ContainerInit, ContainerSidecar, ContainerEphemeral}
			s.ContainerTypes = some(d, v, none, func(v value) ContainerType { return enum(d, v, types, nil) })
		}},
		{name: "binaries", parse: func(v value) {
			const hint = "the path of the executable inside the container: /usr/bin/curl, /usr/**, /**/curl; memfd:* for one without a file"
			s.Binaries = some(d, v, none, func(v value) Glob { return d.glob(v, hint) })
		}},
	}, later("scripts", "users", "groups", "arguments"))
	d.object(v, fields)
	return s
}

// glob decodes a pattern. If pathHint is not empty the pattern must be one for an executable.
func (d *decoder) glob(v value, pathHint string) Glob {
	s, ok := d.text(v)
	if !ok {
		return Glob{}
	}
	if pathHint != "" && !strings.HasPrefix(s, "/") && !strings.HasPrefix(s, "memfd:") {
		d.fail(v, pathHint, "%s begins neither with / nor with memfd:", quote(s))
		return Glob{}
	}
	g, err := ParseGlob(s)
	if err != nil {
		d.fail(v, "", "%s is no pattern: %v", quote(s), err)
	}
	return g
}

// egress decodes one entry of egress.
func (d *decoder) egress(v value) EgressRule {
	var e EgressRule
	d.object(v, append([]field{
		{name: "toCIDR", parse: func(v value) { e.ToCIDR = each(d, v, d.cidr) }},
		{name: "toCIDRSet", parse: func(v value) { e.ToCIDRSet = each(d, v, d.cidrSet) }},
		{name: "toEntities", parse: func(v value) { e.ToEntities = each(d, v, d.entity) }},
		{name: "toPorts", parse: func(v value) { e.ToPorts = d.portRules(v) }},
	}, later("toFQDNs", "toEndpoints", "toServices", "toGroups", "toNodes", "toRequires", "icmps", "authentication")...))
	return e
}

// ingress decodes one entry of ingress.
func (d *decoder) ingress(v value) IngressRule {
	var e IngressRule
	d.object(v, append([]field{
		{name: "fromCIDR", parse: func(v value) { e.FromCIDR = each(d, v, d.cidr) }},
		{name: "fromCIDRSet", parse: func(v value) { e.FromCIDRSet = each(d, v, d.cidrSet) }},
		{name: "fromEntities", parse: func(v value) { e.FromEntities = each(d, v, d.entity) }},
		{name: "toPorts", parse: func(v value) { e.ToPorts = d.portRules(v) }},
	}, later("fromEndpoints", "fromGroups", "fromNodes", "fromRequires", "icmps", "authentication")...))
	return e
}

// entity decodes the name of an entity.
func (d *decoder) entity(v value) Entity {
	not := map[string]string{}
	for _, name := range []string{
		"world-ipv4", "world-ipv6", "remote-node", "cluster", "kube-apiserver", "health", "none",
		"metadata", "init", "ingress", "unmanaged",
	} {
		not[name] = "is not supported yet"
	}
	return enum(d, v, []Entity{EntityWorld, EntityHost, EntityAll}, not)
}

// cidr decodes a CIDR or a single address. IPv4-mapped IPv6 becomes IPv4, as everywhere.
func (d *decoder) cidr(v value) netip.Prefix {
	s, ok := d.text(v)
	if !ok {
		return netip.Prefix{}
	}
	p, err := parseCIDR(s)
	if err != nil {
		d.fail(v, "", "%s is no CIDR: %v", quote(s), err)
	}
	return p
}

// parseCIDR parses a CIDR without host bits, or an address.
func parseCIDR(s string) (netip.Prefix, error) {
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

// portRules decodes toPorts.
func (d *decoder) portRules(v value) []PortRule {
	const all = "leave it out for every protocol and port"
	return some(d, v, all, func(v value) PortRule {
		var r PortRule
		present, ok := d.object(v, append([]field{
			{name: "ports", parse: func(v value) { r.Ports = some(d, v, all, d.port) }},
		}, later("rules", "serverNames", "terminatingTLS", "originatingTLS", "listener")...))
		if ok {
			d.require(v, present, "ports", `ports: [{port: "443", protocol: TCP}]`)
		}
		return r
	})
}

// port decodes one of ports.
func (d *decoder) port(v value) Port {
	var p Port
	var portAt, endAt *value
	present, ok := d.object(v, []field{
		{name: "port", parse: func(v value) { portAt = &v; p.Port = d.portNumber(v) }},
		{name: "endPort", parse: func(v value) { endAt = &v; p.EndPort = d.portNumber(v) }},
		{name: "protocol", parse: func(v value) {
			p.Protocol = enum(d, v, []Protocol{ProtocolTCP, ProtocolUDP, ProtocolSCTP, ProtocolICMP, ProtocolICMPv6, ProtocolAny}, nil)
		}},
	})
	switch {
	case !ok:
	case len(present) == 0:
		d.fail(v, `{port: "443", protocol: TCP}, or {protocol: TCP} for all its ports`, "names neither a port nor a protocol")
	case endAt != nil && portAt == nil:
		d.fail(*endAt, "port is the first of the range", "endPort without port")
	case p.EndPort != 0 && p.EndPort < p.Port:
		d.fail(*endAt, "", "endPort %d is below port %d", p.EndPort, p.Port)
	case portAt != nil && slices.Contains([]Protocol{ProtocolICMP, ProtocolICMPv6}, p.Protocol):
		d.fail(*portAt, "leave the port out", "%s has no ports", p.Protocol)
	}
	return p
}

// portNumber decodes a port, quoted or not.
func (d *decoder) portNumber(v value) uint16 {
	v = d.resolve(v)
	text, tag := v.node.Value, v.node.ShortTag()
	n, err := strconv.ParseUint(text, 10, 16)
	switch {
	case v.node.Kind != yaml.ScalarNode || tag != "!!str" && tag != "!!int":
		d.fail(v, "", "is %s, not a number from 1 to 65535", kind(v.node))
	case text == "0":
		d.fail(v, "leave port out to mean every port of the protocol", "0 is no port")
	case isPortName(text):
		d.fail(v, "write its number", "the named port %s is not supported yet", quote(text))
	case err != nil || n == 0 || text != strconv.FormatUint(n, 10):
		d.fail(v, "", "%s is no port: a number from 1 to 65535", quote(text))
	default:
		return uint16(n)
	}
	return 0
}

// isPortName says whether s could be the name of a port, as Kubernetes has them.
func isPortName(s string) bool {
	return len(s) <= 15 && strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789-") == "" &&
		strings.ContainsAny(s, "abcdefghijklmnopqrstuvwxyz") && tagOf(s) == "!!str"
}

// tagOf returns the YAML type of a plain scalar: 0x50 is a number that is written strangely, not a
// name.
func tagOf(s string) string {
	n := yaml.Node{Kind: yaml.ScalarNode, Value: s}
	return n.ShortTag()
}
