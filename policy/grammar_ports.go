package policy

import (
	"fmt"
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
			{name: "serverNames", parse: func(v value) { r.ServerNames = some(d, v, "leave it out for every name", d.serverName) }},
		}, later("terminatingTLS", "originatingTLS", "listener")...))
		if ok {
			d.require(v, present, "ports", `ports: [{port: "443", protocol: TCP}]`)
		}
		if r.Rules != nil {
			d.l7Ports(rulesAt, &r, dir)
		}
		if at, names := present["serverNames"]; names {
			d.tcpPorts(at, r.Ports, "TLS")
			if r.Rules != nil {
				d.fail(at, "rules.http[].host", "serverNames cannot be combined with rules: what is judged by its requests is judged by their hosts")
			}
		}
		return r
	})
}

// port decodes one of ports.
func (d *decoder) port(v value) Port {
	var p Port
	var portAt, endAt *value
	present, ok := d.object(v, []field{
		{name: "port", parse: func(v value) { portAt = &v; p.Port, p.Name = d.portNumber(v, true) }},
		{name: "endPort", parse: func(v value) { endAt = &v; p.EndPort, _ = d.portNumber(v, false) }},
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
	case endAt != nil && p.Name != "":
		d.fail(*endAt, "write the numbers", "a port by its name begins no range")
	case p.EndPort != 0 && p.EndPort < p.Port:
		d.fail(*endAt, "", "endPort %d is below port %d", p.EndPort, p.Port)
	case portAt != nil && slices.Contains([]Protocol{ProtocolICMP, ProtocolICMPv6}, p.Protocol):
		d.fail(*portAt, "leave the port out", "%s has no ports", p.Protocol)
	}
	return p
}

// portNumber decodes a port, quoted or not, or where that is possible its name.
func (d *decoder) portNumber(v value, named bool) (number uint16, name string) {
	v = d.resolve(v)
	text, tag := v.node.Value, v.node.ShortTag()
	n, err := strconv.ParseUint(text, 10, 16)
	switch {
	case v.node.Kind != yaml.ScalarNode || tag != "!!str" && tag != "!!int":
		d.fail(v, "", "is %s, not a number from 1 to 65535", kind(v.node))
	case text == "0" && d.zeroPort:
	case text == "0":
		d.fail(v, "leave port out to mean every port of the protocol", "0 is no port")
	case isPortName(text) && named:
		return 0, text
	case err != nil || n == 0 || text != strconv.FormatUint(n, 10):
		d.fail(v, "", "%s is no port: a number from 1 to 65535", quote(text))
	default:
		return uint16(n), ""
	}
	return 0, ""
}

// icmps decodes icmps.
func (d *decoder) icmps(v value) []ICMPRule {
	const all = "leave it out for every protocol and port"
	return some(d, v, all, func(v value) ICMPRule {
		var r ICMPRule
		present, ok := d.object(v, []field{{name: "fields", parse: func(v value) { r.Fields = some(d, v, all, d.icmpField) }}})
		if ok {
			d.require(v, present, "fields", "fields: [{family: IPv4, type: 8}]")
		}
		return r
	})
}

// icmpField decodes a type of ICMP messages, by number or by the name that Cilium has for it.
func (d *decoder) icmpField(v value) ICMPField {
	var f ICMPField
	var typeAt *value
	present, ok := d.object(v, []field{
		{name: "family", parse: func(v value) { f.Family = enum(d, v, []Family{FamilyIPv4, FamilyIPv6}, nil) }},
		{name: "type", parse: func(v value) { typeAt = &v }},
	})
	if !ok {
		return f
	}
	d.require(v, present, "type", "type: 8 is an echo request")
	if typeAt == nil {
		return f
	}
	f.Type = d.icmpType(*typeAt, f.Protocol())
	return f
}

// icmpType decodes the type of a message of ICMP or ICMPv6.
func (d *decoder) icmpType(v value, protocol uint8) uint8 {
	at := d.resolve(v)
	if at.node.Kind != yaml.ScalarNode {
		d.fail(at, "", "is %s, not the type of a message", kind(at.node))
		return 0
	}
	n, err := ParseICMPType(protocol, at.node.Value)
	if err != nil {
		d.fail(at, "a number from 0 to 255", "%s", err.Error())
	}
	return n
}

// ParseICMPType reads the type of a message of ICMP or ICMPv6, by number or by the name that Cilium has for it.
func ParseICMPType(protocol uint8, text string) (uint8, error) {
	family := FamilyIPv4
	if protocol == ipProtoICMPv6 {
		family = FamilyIPv6
	}
	if n, named := icmpTypes(family)[text]; named {
		return n, nil
	}
	n, err := strconv.ParseUint(text, 10, 8)
	if err != nil {
		return 0, fmt.Errorf("%s is no type of ICMP messages", quote(text))
	}
	return uint8(n), nil
}

// icmpTypes are the names of ICMP messages.
func icmpTypes(f Family) map[string]uint8 {
	if f == FamilyIPv6 {
		return map[string]uint8{
			"DestinationUnreachable": 1, "PacketTooBig": 2, "TimeExceeded": 3, "ParameterProblem": 4, "EchoRequest": 128, "EchoReply": 129,
			"MulticastListenerQuery": 130, "MulticastListenerReport": 131, "MulticastListenerDone": 132, "RouterSolicitation": 133,
			"RouterAdvertisement": 134, "NeighborSolicitation": 135, "NeighborAdvertisement": 136, "RedirectMessage": 137,
		}
	}
	return map[string]uint8{
		"EchoReply": 0, "DestinationUnreachable": 3, "Redirect": 5, "Echo": 8, "EchoRequest": 8, "RouterAdvertisement": 9,
		"RouterSelection": 10, "TimeExceeded": 11, "ParameterProblem": 12, "Timestamp": 13, "TimestampReply": 14,
		"Photuris": 40, "ExtendedEchoRequest": 42, "ExtendedEchoReply": 43,
	}
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
