package policy

import (
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// portRules decodes toPorts.
func (d *decoder) portRules(v value, dir Direction) []PortRule {
	const all = "leave it out for every protocol and port"
	return some(d, v, all, func(v value) PortRule {
		var r PortRule
		var rulesAt value
		present, ok := d.object(v, append([]field{
			{name: "ports", parse: func(v value) { r.Ports = some(d, v, all, d.port) }},
			{name: "rules", parse: func(v value) { rulesAt = v; r.Rules = d.l7Rules(v) }},
		}, later("serverNames", "terminatingTLS", "originatingTLS", "listener")...))
		if ok {
			d.require(v, present, "ports", `ports: [{port: "443", protocol: TCP}]`)
		}
		if r.Rules != nil {
			d.l7Ports(rulesAt, &r, dir)
		}
		return r
	})
}

// l7Rules decodes rules: what is said inside the connections.
func (d *decoder) l7Rules(v value) *L7Rules {
	r := &L7Rules{}
	present, ok := d.object(v, append([]field{
		{name: "dns", parse: func(v value) {
			r.DNS = some(d, v, "leave it out to allow every query; - matchPattern: \"*\" does too, and fills the names of toFQDNs", d.fqdn)
		}},
	}, later("http", "kafka", "l7", "l7proto")...))
	if ok && len(present) == 0 {
		d.fail(v, "rules: {dns: [{matchPattern: \"*.example.com\"}]}", "is empty")
	}
	return r
}

// l7Ports refuses rules on ports that cannot carry what they are about.
func (d *decoder) l7Ports(v value, r *PortRule, dir Direction) {
	if r.Rules.DNS == nil {
		return
	}
	at := value{v.node, join(v.path, "dns")}
	if dir == Ingress {
		d.fail(at, "queries are judged where they leave the workload: egress", "is not possible for ingress")
	}
	for _, p := range r.Ports {
		if p.Port == 0 && p.Protocol == "" {
			continue // reported already
		}
		if p.Port == 0 {
			d.fail(at, "name the resolver's port: {port: \"53\", protocol: ANY}", "needs a port, %s has none", p.Protocol)
		} else if p.Protocol == ProtocolSCTP {
			d.fail(at, "UDP, TCP or ANY", "DNS does not run over %s", p.Protocol)
		}
	}
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
