package gate

import (
	"encoding/binary"
	"net/netip"
	"slices"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

// reading is what a packet is, read slowly and plainly, to compare the kernel's parser with.
type reading struct {
	src, dst         netip.Addr
	protocol         uint8
	srcPort, dstPort uint16
	hops             uint8
	kind             uint8  // type of an ICMP message
	body             []byte // of an ICMP message: behind its eight bytes
	later            bool   // a fragment that is not the first
	first            bool   // the first of several
	id               uint32
}

// outward is the flow that the packet belongs to if the pod sent it.
func (r reading) outward() tuple {
	x := tuple{protocol: r.protocol, local: netip.AddrPortFrom(r.src, r.srcPort), remote: netip.AddrPortFrom(r.dst, r.dstPort)}
	if r.protocol == icmp4 || r.protocol == icmp6 {
		x.kind = r.kind
		if request, ok := requests()[[2]uint8{r.protocol, r.kind}]; ok {
			x.kind, x.asked = request, 1
		}
	}
	return x
}

// requests are the types of ICMP messages that are answered, by protocol and type of the reply.
func requests() map[[2]uint8]uint8 {
	return map[[2]uint8]uint8{
		{icmp4, reply4}: request4, {icmp4, 14}: 13, {icmp4, 43}: 42, {icmp6, reply6}: request6, {icmp6, 161}: 160,
	}
}

// inward is the flow if the pod received it.
func (r reading) inward() tuple {
	x := r.outward()
	x.local, x.remote = x.remote, x.local
	if r.protocol == icmp4 || r.protocol == icmp6 {
		x.asked ^= 1
	}
	return x
}

// read reads an IP packet. Lengths in headers are not looked at: a receiver that finds them wrong drops the packet.
func read(b []byte) (reading, bool) {
	switch {
	case len(b) >= 20 && b[0]>>4 == 4:
		return read4(b)
	case len(b) >= 40 && b[0]>>4 == 6:
		return read6(b)
	}
	return reading{}, false
}

func read4(b []byte) (reading, bool) {
	head := int(b[0]&15) * 4
	if head < 20 {
		return reading{}, false
	}
	r := reading{
		src: netip.AddrFrom4([4]byte(b[12:16])), dst: netip.AddrFrom4([4]byte(b[16:20])), protocol: b[9], hops: b[8],
		id: uint32(binary.BigEndian.Uint16(b[4:])),
	}
	bits := binary.BigEndian.Uint16(b[6:])
	if r.later = bits&0x1fff != 0; r.later {
		return r, true
	}
	r.first = bits&0x2000 != 0
	return r.transport(b[min(head, len(b)):])
}

func read6(b []byte) (reading, bool) {
	r := reading{src: netip.AddrFrom16([16]byte(b[8:24])), dst: netip.AddrFrom16([16]byte(b[24:40])), hops: b[7]}
	if r.src.Is4In6() || r.dst.Is4In6() {
		return r, false
	}
	kind, rest := b[6], b[40:]
	for range 9 { // eight extensions and the end
		if !slices.Contains([]uint8{hopByHop, routing, fragment, authentic, destination, mobility}, kind) {
			r.protocol = kind
			return r.transport(rest)
		}
		if len(rest) < 8 {
			return r, false
		}
		size := (int(rest[1]) + 1) * 8
		switch kind {
		case authentic:
			size = (int(rest[1]) + 2) * 4
		case routing:
			if rest[3] != 0 {
				return r, false
			}
		case fragment:
			size = 8
			bits := binary.BigEndian.Uint16(rest[2:])
			r.protocol, r.id = rest[0], binary.BigEndian.Uint32(rest[4:])
			if r.later = bits>>3 != 0; r.later {
				return r, true
			}
			r.first = bits&1 != 0
		}
		kind, rest = rest[0], rest[min(size, len(rest)):]
	}
	return r, false
}

// transport reads the header behind those of IP.
func (r reading) transport(b []byte) (reading, bool) {
	switch r.protocol {
	case tcp, udp, sctp, uint8(layers.IPProtocolUDPLite):
		if len(b) < 8 {
			return r, false
		}
		r.srcPort, r.dstPort = binary.BigEndian.Uint16(b), binary.BigEndian.Uint16(b[2:])
	case icmp4, icmp6:
		if len(b) < 8 || (r.protocol == icmp4) != r.src.Is4() {
			return r, false
		}
		r.kind, r.body = b[0], b[8:]
		if r.is(request4, reply4, request6, reply6) {
			r.srcPort = binary.BigEndian.Uint16(b[4:])
			r.dstPort = r.srcPort
		}
	}
	return r, true
}

// is reports whether the packet is an ICMP message of one of two types, or an ICMPv6 message of the other two.
func (r reading) is(a4, b4, a6, b6 uint8) bool {
	return r.protocol == icmp4 && (r.kind == a4 || r.kind == b4) || r.protocol == icmp6 && (r.kind == a6 || r.kind == b6)
}

// isError reports whether the packet is an ICMP error.
func (r reading) isError() bool {
	return r.protocol == icmp4 && slices.Contains([]uint8{3, 4, 5, 11, 12}, r.kind) ||
		r.protocol == icmp6 && r.kind >= 1 && r.kind <= 4
}

// library reads the same with a library, where that can: ok is false for packets it finds wrong, which may be right to
// the gate (lengths, checksums and contents of options).
func library(b []byte) (r reading, ok bool) {
	first := layers.LayerTypeIPv4
	if b[0]>>4 == 6 {
		first = layers.LayerTypeIPv6
	}
	p := gopacket.NewPacket(b, first, gopacket.DecodeOptions{NoCopy: true})
	if p.ErrorLayer() != nil || p.Metadata().Truncated {
		return r, false
	}
	switch l := p.NetworkLayer().(type) {
	case *layers.IPv4:
		r.src, _ = netip.AddrFromSlice(l.SrcIP.To4())
		r.dst, _ = netip.AddrFromSlice(l.DstIP.To4())
		r.later = l.FragOffset != 0
	case *layers.IPv6:
		r.src, _ = netip.AddrFromSlice(l.SrcIP)
		r.dst, _ = netip.AddrFromSlice(l.DstIP)
	default:
		return r, false
	}
	switch l := p.TransportLayer().(type) {
	case *layers.TCP:
		r.protocol, r.srcPort, r.dstPort = tcp, uint16(l.SrcPort), uint16(l.DstPort)
	case *layers.UDP:
		r.protocol, r.srcPort, r.dstPort = udp, uint16(l.SrcPort), uint16(l.DstPort)
	case *layers.SCTP:
		r.protocol, r.srcPort, r.dstPort = sctp, uint16(l.SrcPort), uint16(l.DstPort)
	default:
		return r, false
	}
	return r, true
}
