package gate

import (
	"encoding/binary"
	"net/netip"
	"testing"
)

// TestErrorsFromPod gives the gate ICMP errors that the pod sends: about packets that came in.
func TestErrorsFromPod(t *testing.T) {
	w := newWorld(t)
	const port = 4 // code of unreachable6: the port
	in4, in6 := back4(t, udp), back6(t, udp)
	error4 := func(dst netip.Addr, about []byte) []byte {
		return frame(t, v4(t, pod4, dst, icmp4, message(unreachable4, 3, 0, about)))
	}
	error6 := func(dst netip.Addr, about []byte) []byte {
		return frame(t, v6(t, pod6, dst, icmp6, message(unreachable6, port, 0, about)))
	}
	extended := v6(t, peer6, pod6, destination, extension(destination, udp, 0, transport(t, udp, peerPort, podPort)))
	runCases(t, w, false, []packetCase{
		{"known", tuple4(udp), allowed, error4(peer4, in4), next},
		{"known6", tuple6(udp), allowed, error6(peer6, in6), next},
		{"known tcp of eight bytes", tuple4(tcp), allowed, error4(peer4, back4(t, tcp)[:28]), next},
		{"known behind an extension", tuple6(udp), allowed, error6(peer6, extended), next},
		{"closed port", tuple4(udp), pending, error4(peer4, in4), next},
		{"closed port6", tuple6(udp), pending, error6(peer6, in6), next},
		{"denied", tuple4(udp), denied, error4(peer4, in4), drop},
		{"unknown", tuple4(tcp), allowed, error4(peer4, in4), drop},
		{"about what the pod sent", tuple4(udp), allowed, error4(peer4, out4(t, udp)), drop},
		{"to another than the sender", tuple4(udp), allowed, error4(other4, in4), drop},
		{"to another than the sender6", tuple6(udp), allowed, error6(other6, in6), drop},
		{"from another", tuple4(udp), allowed, frame(t, v4(t, other4, peer4, icmp4, message(unreachable4, 3, 0, in4))), drop},
		{"about an error", tuple4(udp), allowed, error4(peer4, v4(t, peer4, pod4, icmp4, message(unreachable4, 3, 0, in4))), drop},
		{"about a later fragment", tuple6(udp), allowed, error6(peer6, v6(t, peer6, pod6, fragment, fragmentOf(udp, 1, 8, false, in6[40:]))), drop},
		{"inner packet cut in the ports", tuple4(udp), allowed, error4(peer4, in4[:23]), drop},
		{"inner packet cut in the header", tuple6(udp), allowed, error6(peer6, in6[:39]), drop},
		{"no inner packet", tuple4(udp), allowed, error4(peer4, nil), drop},
		{"IPv6 in an IPv4 error", tuple6(udp), allowed, error4(peer4, in6), drop},
	}, expectForeign(w, false))
}

// TestErrorsToPod gives the gate ICMP errors that routers and peers send: about packets of the pod.
func TestErrorsToPod(t *testing.T) {
	w := newWorld(t)
	router4, router6 := other4, other6
	error4 := func(kind uint8, about []byte) []byte {
		return frame(t, v4(t, router4, pod4, icmp4, message(kind, 4, 1400, about)))
	}
	error6 := func(kind uint8, about []byte) []byte {
		return frame(t, v6(t, router6, pod6, icmp6, message(kind, 0, 1400, about)))
	}
	ping := v4(t, pod4, peer4, icmp4, echo(request4))
	runCases(t, w, true, []packetCase{
		{"fragmentation needed", tuple4(tcp), allowed, error4(unreachable4, out4(t, tcp)[:28]), next},
		{"packet too big", tuple6(tcp), allowed, error6(tooBig6, out6(t, tcp)), next},
		{"time exceeded of an echo", tuple4(icmp4), allowed, error4(exceeded4, ping), next},
		{"unknown", tuple4(udp), allowed, error4(unreachable4, out4(t, tcp)), drop},
		{"unknown6", tuple6(udp), allowed, error6(unreachable6, out6(t, tcp)), drop},
		{"denied", tuple4(tcp), denied, error4(unreachable4, out4(t, tcp)), drop},
		{"about what came in", tuple4(tcp), allowed, error4(unreachable4, back4(t, tcp)), drop},
		{"to another than the sender", tuple4(udp), allowed, frame(t, v4(t, router4, other4, icmp4, message(unreachable4, 3, 0, out4(t, udp)))), drop},
		{"inner packet cut", tuple4(tcp), allowed, error4(unreachable4, out4(t, tcp)[:27]), drop},
		{"no inner packet", tuple6(tcp), allowed, error6(tooBig6, nil), drop},
	}, func(t *testing.T, _ packetCase) {
		t.Helper()
		if _, told := w.alert(t); told {
			t.Error("reported as foreign")
		}
	})
}

// TestLinkFromPod gives the gate what a host says on its link, and what somebody makes of it to be routed on.
func TestLinkFromPod(t *testing.T) {
	w := newWorld(t)
	group := netip.MustParseAddr("ff02::1:ff00:1")
	routers, everywhere := netip.MustParseAddr("ff02::2"), netip.MustParseAddr("ff0e::1")
	nobody := netip.IPv6Unspecified()
	nd := func(src, dst netip.Addr, kind, hops uint8) []byte {
		return frame(t, v6(t, src, dst, icmp6, neighbour(kind, gateway6), hops6(hops)))
	}
	report := extension(hopByHop, icmp6, 0, message(mldV2, 0, 0, nil))
	all4, wide4 := netip.MustParseAddr("224.0.0.22"), netip.MustParseAddr("239.1.1.1")
	asked := tuple{protocol: icmp6, local: netip.AddrPortFrom(nobody, 0), remote: netip.AddrPortFrom(gateway6, 0)}
	none := tuple4(udp)
	runCases(t, w, false, []packetCase{
		{"solicitation", none, allowed, nd(pod6, group, solicitation, 255), next},
		{"duplicate address detection", none, allowed, nd(nobody, group, solicitation, 255), next},
		{"solicitation to a link-local neighbour", none, allowed, nd(pod6, link6, solicitation, 255), next},
		{"solicitation from a link-local address", none, allowed, nd(local6, gateway6, solicitation, 255), next},
		{"solicitation that could be routed", none, allowed, nd(pod6, peer6, solicitation, 255), drop},
		{"advertisement to all", none, allowed, nd(pod6, netip.MustParseAddr("ff02::1"), advertisement, 255), next},
		{"advertisement to who asked", asked, pending, nd(pod6, gateway6, advertisement, 255), next},
		{"advertisement to who did not ask", asked, pending, nd(pod6, peer6, advertisement, 255), drop},
		{"solicitation to who asked", asked, pending, nd(pod6, gateway6, solicitation, 255), drop},
		{"echo to who asked", asked, pending, frame(t, v6(t, pod6, gateway6, icmp6, message(request6, 0, 0, nil))), drop},
		{"router solicitation", none, allowed, nd(local6, routers, routerSolicitation, 255), next},
		{"router advertisement", none, allowed, nd(local6, group, routerAdvertisement, 255), drop},
		{"redirect", none, allowed, nd(local6, link6, redirect, 255), drop},
		{"group report", none, allowed, frame(t, v6(t, local6, netip.MustParseAddr("ff02::16"), hopByHop, report, hops6(1))), next},
		{"group report of old", none, allowed, frame(t, v6(t, nobody, everywhere, icmp6, message(mldReport, 0, 0, make([]byte, 16)), hops6(1))), next},
		{"group left", none, allowed, frame(t, v6(t, local6, routers, icmp6, message(mldDone, 0, 0, make([]byte, 16)), hops6(1))), next},
		{"group query", none, allowed, frame(t, v6(t, local6, group, icmp6, message(mldQuery, 0, 0, make([]byte, 16)), hops6(1))), drop},
		{"group report that could be routed", none, allowed, frame(t, v6(t, pod6, everywhere, hopByHop, report, hops6(64))), drop},
		{"group report to one", none, allowed, frame(t, v6(t, pod6, peer6, hopByHop, report, hops6(1))), drop},
		{"node information", none, allowed, nd(local6, group, 139, 255), drop},
		{"IGMP report", none, allowed, frame(t, v4(t, pod4, all4, igmp, make([]byte, 8), ttl4(1))), next},
		{"IGMP that could be routed", none, allowed, frame(t, v4(t, pod4, wide4, igmp, make([]byte, 8), ttl4(2))), drop},
		{"IGMP to one", none, allowed, frame(t, v4(t, pod4, peer4, igmp, make([]byte, 8), ttl4(1))), drop},
	}, expectForeign(w, false))
}

// TestLinkToPod checks that only what no router has passed on may enter as link chatter, and that who asks for the pod's
// link address gets the answer.
func TestLinkToPod(t *testing.T) {
	w := newWorld(t)
	ask := func(hops uint8) []byte {
		return frame(t, v6(t, gateway6, pod6, icmp6, neighbour(solicitation, pod6), hops6(hops)))
	}
	answer := frame(t, v6(t, pod6, gateway6, icmp6, neighbour(advertisement, pod6), hops6(255)))
	verdict := func(toPod bool, b []byte) uint32 {
		program := w.fromPod
		if toPod {
			program = w.toPod
		}
		v, ok := give(t, program, b)
		if !ok {
			t.Fatal("the kernel's test interface takes no such frame")
		}
		return v
	}
	if got := verdict(false, answer); got != drop {
		t.Errorf("an advertisement that nobody asked for: %#x, want %#x", got, drop)
	}
	if got := verdict(true, ask(254)); got != drop {
		t.Errorf("a solicitation through a router: %#x, want %#x", got, drop)
	}
	if got := verdict(false, answer); got != drop {
		t.Errorf("an advertisement to who asked through a router: %#x, want %#x", got, drop)
	}
	if got := verdict(true, ask(255)); got != next {
		t.Errorf("a solicitation: %#x, want %#x", got, next)
	}
	if got := verdict(false, answer); got != next {
		t.Errorf("the advertisement asked for: %#x, want %#x", got, next)
	}
	advertised := frame(t, v6(t, link6, netip.MustParseAddr("ff02::1"), icmp6, neighbour(routerAdvertisement, link6), hops6(255)))
	if got := verdict(true, advertised); got != next {
		t.Errorf("a router's advertisement: %#x, want %#x", got, next)
	}
}

// TestForeignCount checks that of a flood every packet is counted, though few are reported.
func TestForeignCount(t *testing.T) {
	w := newWorld(t)
	const flood = 1000
	b := frame(t, v4(t, pod4, other4, udp, transport(t, udp, 5, 6)))
	binary.BigEndian.PutUint16(b[ethernetLen+4:], 1)
	for range flood {
		if got, _ := give(t, w.fromPod, b); got != drop {
			t.Fatalf("verdict %#x, want %#x", got, drop)
		}
	}
	var counted, reports uint64
	for {
		f, ok := w.alert(t)
		if !ok {
			break
		}
		want := foreign{packets: f.packets, reason: f.reason, local: pod4, remote: other4, localPort: 5, remotePort: 6, protocol: udp}
		if f != want {
			t.Fatalf("reported %+v, want %+v", f, want)
		}
		counted += f.packets
		reports++
	}
	var g gate
	if err := w.gates.Lookup(uint32(ifindex), &g); err != nil {
		t.Fatal(err)
	}
	if counted+g.Held != flood {
		t.Errorf("%d packets reported and %d held, of %d", counted, g.Held, flood)
	}
	if reports == 0 || reports > flood/10 {
		t.Errorf("%d reports of %d packets", reports, flood)
	}
}
