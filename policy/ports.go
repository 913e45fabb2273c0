package policy

import (
	"encoding/json"
	"fmt"
	"strconv"
)

// PortRule is one entry of toPorts. Ports is never empty.
type PortRule struct {
	Ports       []Port        `json:"ports"`
	ServerNames []NamePattern `json:"serverNames,omitzero"` // that a TLS client may ask for; nil: every one
	Rules       *L7Rules      `json:"rules,omitzero"`       // what may be said on these ports; nil: everything
}

// L7Rules says what may be said on ports that a rule allows. One of its fields is there.
type L7Rules struct {
	DNS  []FQDNSelector `json:"dns,omitzero"`  // names that may be asked for
	HTTP []HTTPRule     `json:"http,omitzero"` // requests that may be made; OR-ed
	GRPC []GRPCRule     `json:"grpc,omitzero"` // calls that may be made; OR-ed
}

// GRPCRule selects calls of gRPC by their exact names.
type GRPCRule struct {
	Service string `json:"service"`         // with its package: "grpc.health.v1.Health"
	Method  string `json:"method,omitzero"` // "" selects each method of the service
}

// HTTPRule selects HTTP requests: all fields that are there must match. An empty one selects all.
type HTTPRule struct {
	Method        Regex         `json:"method,omitzero"`
	Path          Regex         `json:"path,omitzero"` // without the query
	Host          Regex         `json:"host,omitzero"`
	Headers       []string      `json:"headers,omitzero"` // "name", which must be there, or "name: value"
	HeaderMatches []HeaderMatch `json:"headerMatches,omitzero"`
}

// HeaderMatch demands a header with a value.
type HeaderMatch struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// Port is a protocol and one port, a range of ports, a port by its name, or all ports.
type Port struct {
	Port     uint16   // 0: every port
	EndPort  uint16   // last port of a range; 0: Port alone
	Name     string   // not empty: the port to which the called pod gives this name, and the above are 0
	Protocol Protocol // "" is ANY
}

// MarshalJSON writes a port as policies have it.
func (p Port) MarshalJSON() ([]byte, error) {
	out := struct {
		Port     string   `json:"port,omitzero"`
		EndPort  uint16   `json:"endPort,omitzero"`
		Protocol Protocol `json:"protocol,omitzero"`
	}{p.Name, p.EndPort, p.Protocol}
	if p.Port != 0 {
		out.Port = strconv.Itoa(int(p.Port))
	}
	text, err := json.Marshal(out)
	if err != nil {
		return nil, fmt.Errorf("writing a port: %w", err)
	}
	return text, nil
}

// ICMPRule is one entry of icmps.
type ICMPRule struct {
	Fields []ICMPField `json:"fields"`
}

// ICMPField is a type of ICMP messages.
type ICMPField struct {
	Family Family `json:"family,omitzero"` // "" is IPv4
	Type   uint8  `json:"type"`
}

// Family is IPv4 or IPv6.
type Family string

// The families.
const (
	FamilyIPv4 Family = "IPv4"
	FamilyIPv6 Family = "IPv6"
)

// Protocol returns the IP protocol number of the messages.
func (f ICMPField) Protocol() uint8 {
	if f.Family == FamilyIPv6 {
		return ipProtoICMPv6
	}
	return ipProtoICMP
}

// Range returns the first and the last port; ok is false where the protocol's every port is meant
// (and its calls without a port). A port with a name has none: see Named.
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
	return p.Port == 0 && p.Name == "" && (p.Protocol == ProtocolAny || p.Protocol == "")
}
