package policy

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// ParseCall reads a call to a peer as people and events write it: ADDRESS:PORT/PROTOCOL. The protocol
// is a name or a number, and TCP where it is left out. An IPv6 address with a port stands in brackets.
// The direction is Egress.
func ParseCall(text string) (Call, error) {
	const form = "write it as 192.0.2.1:443/TCP, [2001:db8::1]:53/UDP or 192.0.2.1/ICMP"
	where, name, given := strings.Cut(text, "/")
	if !given {
		name = string(ProtocolTCP)
	}
	protocol, err := parseProtocol(name)
	if err != nil {
		return Call{}, fmt.Errorf("reading %s: %w: %s", quote(text), err, form)
	}
	c := Call{Protocol: protocol}
	if at, err := netip.ParseAddrPort(where); err == nil {
		c.Peer, c.Port = at.Addr(), at.Port()
		return c, nil
	}
	addr, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(where, "["), "]"))
	if err != nil {
		return Call{}, fmt.Errorf("reading %s: %s is no address with a port: %s", quote(text), quote(where), form)
	}
	if slices.Contains(ProtocolAny.Numbers(), c.Protocol) {
		return Call{}, fmt.Errorf("reading %s: %s needs a port: %s", quote(text), name, form)
	}
	c.Peer = addr
	return c, nil
}

// ParseListen reads a port of the workload that is listened on: PORT/PROTOCOL.
func ParseListen(text string) (Call, error) {
	const form = "write it as 8080/TCP"
	number, name, given := strings.Cut(text, "/")
	if !given {
		name = string(ProtocolTCP)
	}
	protocol, err := parseProtocol(name)
	if err != nil {
		return Call{}, fmt.Errorf("reading %s: %w: %s", quote(text), err, form)
	}
	port, err := strconv.ParseUint(number, 10, 16)
	if err != nil {
		return Call{}, fmt.Errorf("reading %s: %s is no port: %s", quote(text), quote(number), form)
	}
	return Call{Direction: Ingress, Protocol: protocol, Port: uint16(port), Listen: true}, nil
}

// parseProtocol reads the name or the number of one IP protocol.
func parseProtocol(name string) (uint8, error) {
	if numbers := Protocol(name).Numbers(); len(numbers) == 1 {
		return numbers[0], nil
	}
	n, err := strconv.ParseUint(name, 10, 8)
	if err != nil {
		return 0, fmt.Errorf("%s is no protocol", quote(name))
	}
	return uint8(n), nil
}

// ProtocolName returns the name that policies have for an IP protocol, else its number.
func ProtocolName(number uint8) string {
	for _, p := range []Protocol{ProtocolTCP, ProtocolUDP, ProtocolSCTP, ProtocolICMP, ProtocolICMPv6} {
		if p.Numbers()[0] == number {
			return string(p)
		}
	}
	return strconv.Itoa(int(number))
}

// String returns the call as ParseCall and ParseListen read it; "no address" where it has none. Its
// direction and names are not in it.
func (c Call) String() string {
	name := ProtocolName(c.Protocol)
	switch {
	case c.Listen:
		return fmt.Sprintf("%d/%s", c.Port, name)
	case !c.Peer.IsValid():
		return "no address"
	case slices.Contains(ProtocolAny.Numbers(), c.Protocol) || c.Port != 0:
		return netip.AddrPortFrom(c.Peer, c.Port).String() + "/" + name
	case c.Peer.Is6():
		return "[" + c.Peer.String() + "]/" + name
	}
	return c.Peer.String() + "/" + name
}
