package gate

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

const ethernetLen = 14

// The ends of every flow: documentation addresses.
var (
	pod4, peer4, other4 = netip.MustParseAddr("198.51.100.2"), netip.MustParseAddr("203.0.113.9"), netip.MustParseAddr("192.0.2.66")
	pod6, peer6, other6 = netip.MustParseAddr("2001:db8:1::2"), netip.MustParseAddr("2001:db8:2::9"), netip.MustParseAddr("2001:db8:66::66")
	gateway6            = netip.MustParseAddr("2001:db8:1::1")
	local6, link6       = netip.MustParseAddr("fe80::2"), netip.MustParseAddr("fe80::1")
)

const (
	podPort, peerPort = 40000, 443
	echoID            = 77
)

// Protocol numbers as the layers package writes them in other types.
const (
	tcp    = uint8(layers.IPProtocolTCP)
	udp    = uint8(layers.IPProtocolUDP)
	icmp4  = uint8(layers.IPProtocolICMPv4)
	icmp6  = uint8(layers.IPProtocolICMPv6)
	sctp   = uint8(layers.IPProtocolSCTP)
	igmp   = uint8(layers.IPProtocolIGMP)
	gre    = uint8(layers.IPProtocolGRE)
	noNext = uint8(layers.IPProtocolNoNextHeader)
)

// IPv6 extension headers.
const (
	hopByHop    = uint8(layers.IPProtocolIPv6HopByHop)
	routing     = uint8(layers.IPProtocolIPv6Routing)
	fragment    = uint8(layers.IPProtocolIPv6Fragment)
	authentic   = uint8(layers.IPProtocolAH)
	destination = uint8(layers.IPProtocolIPv6Destination)
	mobility    = 135
)

// tuple4 and tuple6 are the flow that the packets of the tables belong to.
func tuple4(protocol uint8) tuple { return tupleOf(protocol, pod4, peer4) }
func tuple6(protocol uint8) tuple { return tupleOf(protocol, pod6, peer6) }

func tupleOf(protocol uint8, local, remote netip.Addr) tuple {
	x := tuple{protocol: protocol, local: netip.AddrPortFrom(local, podPort), remote: netip.AddrPortFrom(remote, peerPort)}
	switch protocol {
	case tcp, udp, sctp:
	case icmp4, icmp6: // the pod asks for an echo
		x.local, x.remote = netip.AddrPortFrom(local, echoID), netip.AddrPortFrom(remote, echoID)
		x.kind = map[uint8]uint8{icmp4: request4, icmp6: request6}[protocol]
	default:
		x.local, x.remote = netip.AddrPortFrom(local, 0), netip.AddrPortFrom(remote, 0)
	}
	return x
}

// asked is the flow of an echo that the peer asks for.
func asked(x tuple) tuple {
	x.asked = 1
	return x
}

// serialize puts layers behind each other.
func serialize(t testing.TB, stack ...gopacket.SerializableLayer) []byte {
	t.Helper()
	b := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(b, gopacket.SerializeOptions{FixLengths: true}, stack...); err != nil {
		t.Fatal("making a packet: ", err)
	}
	return b.Bytes()
}

// frame puts an IP packet into an Ethernet frame by its version.
func frame(t testing.TB, packet []byte) []byte {
	t.Helper()
	kind := layers.EthernetTypeIPv4
	if packet[0]>>4 == 6 {
		kind = layers.EthernetTypeIPv6
	}
	return ethernet(t, kind, packet)
}

func ethernet(t testing.TB, kind layers.EthernetType, payload []byte) []byte {
	t.Helper()
	e := layers.Ethernet{SrcMAC: []byte{2, 0, 0, 0, 0, 1}, DstMAC: []byte{2, 0, 0, 0, 0, 2}, EthernetType: kind}
	header := serialize(t, &e)[:ethernetLen] // without the padding to 60 bytes
	return append(header, payload...)
}

// v4 makes an IPv4 packet.
func v4(t testing.TB, src, dst netip.Addr, protocol uint8, payload []byte, change ...func(*layers.IPv4)) []byte {
	t.Helper()
	ip := layers.IPv4{Version: 4, TTL: 64, Id: 99, Protocol: layers.IPProtocol(protocol), SrcIP: src.AsSlice(), DstIP: dst.AsSlice()}
	for _, f := range change {
		f(&ip)
	}
	return serialize(t, &ip, gopacket.Payload(payload))
}

// v6 makes an IPv6 packet.
func v6(t testing.TB, src, dst netip.Addr, next uint8, payload []byte, change ...func(*layers.IPv6)) []byte {
	t.Helper()
	ip := layers.IPv6{Version: 6, HopLimit: 64, NextHeader: layers.IPProtocol(next), SrcIP: src.AsSlice(), DstIP: dst.AsSlice()}
	for _, f := range change {
		f(&ip)
	}
	return serialize(t, &ip, gopacket.Payload(payload))
}

func ttl4(n uint8) func(*layers.IPv4)  { return func(ip *layers.IPv4) { ip.TTL = n } }
func hops6(n uint8) func(*layers.IPv6) { return func(ip *layers.IPv6) { ip.HopLimit = n } }

// transport makes the first header of a protocol, without payload.
func transport(t testing.TB, protocol uint8, src, dst uint16, change ...func(*layers.TCP)) []byte {
	t.Helper()
	switch protocol {
	case tcp:
		h := layers.TCP{SrcPort: layers.TCPPort(src), DstPort: layers.TCPPort(dst), ACK: true}
		for _, f := range change {
			f(&h)
		}
		return serialize(t, &h)
	case udp:
		return serialize(t, &layers.UDP{SrcPort: layers.UDPPort(src), DstPort: layers.UDPPort(dst)})
	case sctp:
		return serialize(t, &layers.SCTP{SrcPort: layers.SCTPPort(src), DstPort: layers.SCTPPort(dst)})[:12]
	default:
		t.Fatalf("protocol %d has no ports", protocol)
		return nil
	}
}

// out4 and out6 are packets of the pod on the tables' flow, back4 and back6 those of the peer.
func out4(t testing.TB, protocol uint8, change ...func(*layers.TCP)) []byte {
	t.Helper()
	return v4(t, pod4, peer4, protocol, transport(t, protocol, podPort, peerPort, change...))
}

func out6(t testing.TB, protocol uint8, change ...func(*layers.TCP)) []byte {
	t.Helper()
	return v6(t, pod6, peer6, protocol, transport(t, protocol, podPort, peerPort, change...))
}

func back4(t testing.TB, protocol uint8, change ...func(*layers.TCP)) []byte {
	t.Helper()
	return v4(t, peer4, pod4, protocol, transport(t, protocol, peerPort, podPort, change...))
}

func back6(t testing.TB, protocol uint8, change ...func(*layers.TCP)) []byte {
	t.Helper()
	return v6(t, peer6, pod6, protocol, transport(t, protocol, peerPort, podPort, change...))
}

func rst(h *layers.TCP)    { h.RST = true }
func syn(h *layers.TCP)    { h.SYN, h.ACK = true, false }
func synAck(h *layers.TCP) { h.SYN = true }

// message is an ICMP or ICMPv6 message: type, code and the second word, then what follows.
func message(kind, code uint8, word uint32, rest []byte) []byte {
	b := append([]byte{kind, code, 0, 0}, binary.BigEndian.AppendUint32(nil, word)...)
	return append(b, rest...)
}

func echo(kind uint8) []byte { return message(kind, 0, echoID<<16|1, nil) }

// ICMP types.
const (
	reply4, unreachable4, request4, exceeded4    = 0, 3, 8, 11
	unreachable6, tooBig6, request6, reply6      = 1, 2, 128, 129
	mldQuery, mldReport, mldDone                 = 130, 131, 132
	routerSolicitation, routerAdvertisement      = 133, 134
	solicitation, advertisement, redirect, mldV2 = 135, 136, 137, 143
)

// neighbour is a neighbour discovery message about a target.
func neighbour(kind uint8, target netip.Addr) []byte { return message(kind, 0, 0, target.AsSlice()) }

// extension is an IPv6 extension header of (units+1) * 8 bytes (for the authentication header (units+2) * 4).
func extension(kind, next, units uint8, rest []byte) []byte {
	size := (int(units) + 1) * 8
	switch kind {
	case authentic:
		size = (int(units) + 2) * 4
	case fragment:
		size = 8
	}
	b := make([]byte, size)
	b[0], b[1] = next, units
	return slices.Concat(b, rest)
}

// fragmentOf is a fragment header in front of rest; offset counts bytes.
func fragmentOf(next uint8, id uint32, offset uint16, more bool, rest []byte) []byte {
	b := extension(fragment, next, 0, rest)
	bits := offset &^ 7
	if more {
		bits |= 1
	}
	binary.BigEndian.PutUint16(b[2:], bits)
	binary.BigEndian.PutUint32(b[4:], id)
	return b
}

// chain is n destination options headers in front of a UDP header.
func chain(t testing.TB, n int) (first uint8, packet []byte) {
	t.Helper()
	first, packet = udp, transport(t, udp, podPort, peerPort)
	for range n {
		packet = extension(destination, first, 0, packet)
		first = destination
	}
	return first, packet
}
