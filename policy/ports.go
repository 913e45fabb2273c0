package policy

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
