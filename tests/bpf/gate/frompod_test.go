package gate

import (
	"testing"

	"github.com/gopacket/gopacket/layers"
)

// packetCase is one frame, and what becomes of it in a world where only tuple is known, in state.
type packetCase struct {
	name  string
	tuple tuple
	state state
	frame []byte
	want  uint32
}

// run gives every frame to a program, in a world of its own; after is called behind each.
func runCases(t *testing.T, w *world, toPod bool, cases []packetCase, after func(*testing.T, packetCase)) {
	t.Helper()
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			w.know(t, tc.tuple, tc.state)
			defer w.forget(t)
			program := w.fromPod
			if toPod {
				program = w.toPod
			}
			got, ok := give(t, program, tc.frame)
			if !ok {
				t.Skip("the kernel's test interface takes no such frame")
			}
			if got != tc.want {
				t.Errorf("the verdict is %#x, want %#x (%#x passes, %#x drops)", got, tc.want, next, drop)
			}
			after(t, tc)
		})
	}
}

// forget removes every flow and resets the gate.
func (w *world) forget(t testing.TB) {
	t.Helper()
	var keys []flowKey
	var key flowKey
	var f flow
	for it := w.flows.Iterate(); it.Next(&key, &f); {
		keys = append(keys, key)
	}
	for _, k := range keys {
		if err := w.flows.Delete(k); err != nil {
			t.Fatal("forgetting a flow: ", err)
		}
	}
	for ok := true; ok; {
		_, ok = w.alert(t)
	}
	w.quiet(t)
}

// expectForeign checks that a dropped packet was reported once, and a passed one was not. silent says that packets of a
// denied flow are not: the flow was reported when it was judged.
func expectForeign(w *world, silent bool) func(*testing.T, packetCase) {
	return func(t *testing.T, tc packetCase) {
		t.Helper()
		f, told := w.alert(t)
		if want := tc.want == drop && (!silent || tc.state != denied); told != want {
			t.Errorf("reported as foreign: %v, want %v", told, want)
		}
		if told && f.packets != 1 {
			t.Errorf("the report counts %d packets", f.packets)
		}
	}
}

func TestFlowsFromPod(t *testing.T) {
	w := newWorld(t)
	elsewhere := tupleOf(udp, other4, other4)
	cases := []packetCase{
		{"tcp", tuple4(tcp), allowed, frame(t, out4(t, tcp)), next},
		{"tcp6", tuple6(tcp), allowed, frame(t, out6(t, tcp)), next},
		{"udp", tuple4(udp), allowed, frame(t, out4(t, udp)), next},
		{"udp6", tuple6(udp), allowed, frame(t, out6(t, udp)), next},
		{"sctp", tuple4(sctp), allowed, frame(t, out4(t, sctp)), next},
		{"sctp6", tuple6(sctp), allowed, frame(t, out6(t, sctp)), next},
		{"echo", tuple4(icmp4), allowed, frame(t, v4(t, pod4, peer4, icmp4, echo(request4))), next},
		{"echo6", tuple6(icmp6), allowed, frame(t, v6(t, pod6, peer6, icmp6, echo(request6))), next},
		{"gre", tuple4(gre), allowed, frame(t, v4(t, pod4, peer4, gre, make([]byte, 8))), next},
		{"unknown tcp", elsewhere, allowed, frame(t, out4(t, tcp)), drop},
		{"unknown udp6", elsewhere, allowed, frame(t, out6(t, udp)), drop},
		{"unknown echo", elsewhere, allowed, frame(t, v4(t, pod4, peer4, icmp4, echo(request4))), drop},
		{"unknown protocol", tuple4(udp), allowed, frame(t, v4(t, pod4, peer4, gre, transport(t, udp, podPort, peerPort))), drop},
		{"the other direction's tuple", tuple4(udp), allowed, frame(t, back4(t, udp)), drop},
		{"spoofed source", tuple4(udp), allowed, frame(t, v4(t, other4, peer4, udp, transport(t, udp, podPort, peerPort))), drop},
		{"another source port", tuple4(udp), allowed, frame(t, v4(t, pod4, peer4, udp, transport(t, udp, 1, peerPort))), drop},
		{"another peer", tuple6(udp), allowed, frame(t, v6(t, pod6, other6, udp, transport(t, udp, podPort, peerPort))), drop},
		{"another protocol's ports", tuple4(udp), allowed, frame(t, out4(t, tcp)), drop},
		{"another echo", tuple4(icmp4), allowed, frame(t, v4(t, pod4, peer4, icmp4, message(request4, 0, 78<<16, nil))), drop},
		{"timestamp request", tuple4(icmp4), allowed, frame(t, v4(t, pod4, peer4, icmp4, message(13, 0, echoID<<16, make([]byte, 12)))), drop},
		{"icmpv6 in ipv4", tuple4(icmp6), allowed, frame(t, v4(t, pod4, peer4, icmp6, echo(request6))), drop},
		{"icmp in ipv6", tuple6(icmp4), allowed, frame(t, v6(t, pod6, peer6, icmp4, echo(request4))), drop},
		{"denied tcp", tuple4(tcp), denied, frame(t, out4(t, tcp)), drop},
		{"denied rst", tuple4(tcp), denied, frame(t, out4(t, tcp, rst)), drop},
		{"denied udp6", tuple6(udp), denied, frame(t, out6(t, udp)), drop},
		{"refused tcp", tuple4(tcp), pending, frame(t, out4(t, tcp, rst)), next},
		{"refused tcp6", tuple6(tcp), pending, frame(t, out6(t, tcp, rst)), next},
		{"syn-ack of nobody", tuple4(tcp), pending, frame(t, out4(t, tcp, synAck)), drop},
		{"data of nobody", tuple6(tcp), pending, frame(t, out6(t, tcp)), drop},
		{"datagram of nobody", tuple4(udp), pending, frame(t, out4(t, udp)), drop},
		{"echo reply", asked(tuple4(icmp4)), allowed, frame(t, v4(t, pod4, peer4, icmp4, echo(reply4))), next},
		{"echo reply6", asked(tuple6(icmp6)), allowed, frame(t, v6(t, pod6, peer6, icmp6, echo(reply6))), next},
		{"echo reply to what was denied", asked(tuple4(icmp4)), denied, frame(t, v4(t, pod4, peer4, icmp4, echo(reply4))), drop},
		{"echo reply to nobody", tuple4(icmp4), allowed, frame(t, v4(t, pod4, peer4, icmp4, echo(reply4))), drop},
		{"echo request by a flow that came in", asked(tuple6(icmp6)), allowed, frame(t, v6(t, pod6, peer6, icmp6, echo(request6))), drop},
	}
	runCases(t, w, false, cases, expectForeign(w, true))
}

func TestHeadersFromPod(t *testing.T) {
	w := newWorld(t)
	options := func(ip *layers.IPv4) {
		for range 40 {
			ip.Options = append(ip.Options, layers.IPv4Option{OptionType: 1})
		}
	}
	dst := transport(t, udp, podPort, peerPort)
	behind := func(kind, units uint8) []byte {
		return frame(t, v6(t, pod6, peer6, kind, extension(kind, udp, units, dst)))
	}
	onward := extension(routing, udp, 0, dst)
	onward[3] = 1 // segments left
	f8, eight := chain(t, 8)
	f9, nine := chain(t, 9)
	wrong := func(b []byte, nibble byte) []byte { b[ethernetLen] = nibble<<4 | b[ethernetLen]&15; return b }
	tagged := append([]byte{0, 5, 0x08, 0}, out4(t, udp)...)
	mapped := v6(t, pod6, peer6, udp, dst)
	p4, q4 := pod4.As16(), peer4.As16()
	copy(mapped[8:], p4[:])
	copy(mapped[24:], q4[:])
	cases := []packetCase{
		{"ipv4 options", tuple4(udp), allowed, frame(t, v4(t, pod4, peer4, udp, dst, options)), next},
		{"ipv4 header too short", tuple4(udp), allowed, wrong4(frame(t, out4(t, udp)), 0x44), drop},
		{"ipv4 header longer than the packet", tuple4(udp), allowed, wrong4(frame(t, out4(t, udp)), 0x4f), drop},
		{"hop by hop", tuple6(udp), allowed, behind(hopByHop, 0), next},
		{"routing, at its end", tuple6(udp), allowed, behind(routing, 2), next},
		{"routing onward", tuple6(udp), allowed, frame(t, v6(t, pod6, peer6, routing, onward)), drop},
		{"destination options", tuple6(udp), allowed, behind(destination, 1), next},
		{"mobility", tuple6(udp), allowed, behind(mobility, 0), next},
		{"authentication", tuple6(udp), allowed, behind(authentic, 4), next},
		{"atomic fragment", tuple6(udp), allowed, frame(t, v6(t, pod6, peer6, fragment, fragmentOf(udp, 5, 0, false, dst))), next},
		{"unknown behind an extension", tuple6(tcp), allowed, behind(destination, 0), drop},
		{"encrypted", tuple6(udp), allowed, frame(t, v6(t, pod6, peer6, 50, dst)), drop},
		{"no next header", tuple6(udp), allowed, frame(t, v6(t, pod6, peer6, noNext, dst)), drop},
		{"eight extensions", tuple6(udp), allowed, frame(t, v6(t, pod6, peer6, f8, eight)), next},
		{"nine extensions", tuple6(udp), allowed, frame(t, v6(t, pod6, peer6, f9, nine)), drop},
		{"extension beyond the packet", tuple6(udp), allowed, frame(t, v6(t, pod6, peer6, destination, extension(destination, udp, 255, nil)[:40])), drop},
		{"mapped addresses in ipv6", tuple4(udp), allowed, ethernet(t, layers.EthernetTypeIPv6, mapped), drop},
		{"802.1Q", tuple4(udp), allowed, ethernet(t, layers.EthernetTypeDot1Q, tagged), drop},
		{"QinQ", tuple4(udp), allowed, ethernet(t, layers.EthernetTypeQinQ, append([]byte{0, 6, 0x81, 0}, tagged...)), drop},
		{"MPLS", tuple4(udp), allowed, ethernet(t, layers.EthernetTypeMPLSUnicast, append([]byte{0, 1, 1, 64}, out4(t, udp)...)), drop},
		{"version 6 as ipv4", tuple6(udp), allowed, ethernet(t, layers.EthernetTypeIPv4, out4Padded(t, 6)), drop},
		{"version 4 as ipv6", tuple4(udp), allowed, wrong(frame(t, out6(t, udp)), 4), drop},
		{"version 0", tuple4(udp), allowed, wrong(frame(t, out4(t, udp)), 0), drop},
		{"version 5", tuple6(udp), allowed, wrong(frame(t, out6(t, udp)), 5), drop},
		{"arp", tuple4(udp), allowed, ethernet(t, layers.EthernetTypeARP, make([]byte, 28)), next},
		{"LLDP", tuple4(udp), allowed, ethernet(t, layers.EthernetTypeLinkLayerDiscovery, make([]byte, 46)), drop},
	}
	runCases(t, w, false, cases, expectForeign(w, true))
}

// wrong4 sets the first byte of the IP header.
func wrong4(b []byte, first byte) []byte {
	b[ethernetLen] = first
	return b
}

// out4Padded is an IPv4 packet that claims another version, long enough for its header.
func out4Padded(t *testing.T, version byte) []byte {
	t.Helper()
	b := append(out4(t, udp), make([]byte, 40)...)
	b[0] = version<<4 | b[0]&15
	return b
}
