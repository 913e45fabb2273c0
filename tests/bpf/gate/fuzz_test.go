package gate

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/gopacket/gopacket/layers"
)

// seeds are frames that pass while the tables' flows are known. Their transport headers have no payload: short is how
// many bytes may be missing at the end before the ports, type or id are.
func seeds(t testing.TB) []struct {
	frame []byte
	short int
} {
	t.Helper()
	dst := transport(t, udp, podPort, peerPort)
	first, eight := chain(t, 8)
	const tcpRest, sctpRest = 12, 4
	type seed = struct {
		frame []byte
		short int
	}
	return []seed{
		{frame(t, out4(t, tcp)), tcpRest},
		{frame(t, out6(t, tcp)), tcpRest},
		{frame(t, out4(t, udp)), 0},
		{frame(t, out6(t, udp)), 0},
		{frame(t, out4(t, sctp)), sctpRest},
		{frame(t, v4(t, pod4, peer4, icmp4, echo(request4))), 0},
		{frame(t, v6(t, pod6, peer6, icmp6, echo(request6))), 0},
		{frame(t, v6(t, pod6, peer6, hopByHop, extension(hopByHop, udp, 1, dst))), 0},
		{frame(t, v6(t, pod6, peer6, authentic, extension(authentic, udp, 4, dst))), 0},
		{frame(t, v6(t, pod6, peer6, fragment, fragmentOf(udp, 5, 0, true, dst))), 0},
		{frame(t, v6(t, pod6, peer6, first, eight)), 0},
		{frame(t, v4(t, pod4, peer4, udp, dst, func(ip *layers.IPv4) { ip.Flags = layers.IPv4MoreFragments })), 0},
		{frame(t, v4(t, pod4, peer4, icmp4, message(unreachable4, 3, 0, back4(t, udp)))), 0},
		{frame(t, v6(t, pod6, peer6, icmp6, message(unreachable6, 4, 0, back6(t, udp)))), 0},
		{frame(t, v6(t, local6, netip.MustParseAddr("ff02::2"), icmp6, message(routerSolicitation, 0, 0, nil), hops6(255))), 0},
	}
}

func (w *world) knowSeeds(t testing.TB) map[tuple]bool {
	t.Helper()
	known := map[tuple]bool{}
	for _, p := range []uint8{tcp, udp, sctp, icmp4} {
		known[tuple4(p)] = true
	}
	for _, p := range []uint8{tcp, udp, icmp6} {
		known[tuple6(p)] = true
	}
	for x := range known {
		w.know(t, x, allowed)
	}
	return known
}

// TestTruncated cuts frames that pass at every length: neither program may pass one whose ports were cut off.
func TestTruncated(t *testing.T) {
	w := newWorld(t)
	w.knowSeeds(t)
	tried := 0
	for i, s := range seeds(t) {
		if got, ok := give(t, w.fromPod, s.frame); !ok || got != next {
			t.Errorf("seed %d: verdict %#x, want %#x", i, got, next)
		}
		for n := ethernetLen; n < len(s.frame)-s.short; n++ {
			got, ok := give(t, w.fromPod, s.frame[:n:n])
			if ok && got != drop {
				t.Errorf("seed %d, %d of %d bytes: verdict %#x, want %#x", i, n, len(s.frame), got, drop)
			}
			if ok {
				tried++
			}
			if got, ok := give(t, w.toPod, s.frame[:n:n]); ok && got != drop {
				t.Errorf("seed %d, %d of %d bytes, to the pod: verdict %#x, want %#x", i, n, len(s.frame), got, drop)
			}
		}
	}
	if tried < 100 {
		t.Errorf("only %d cut frames were taken by the kernel's test interface", tried)
	}
}

// judgement says from the reference's reading whether the gate may pass a frame, while it knows flows.
type judgement struct {
	flows map[tuple]bool
	parts map[part]bool // datagrams whose first fragment passed
}

// part names a fragmented datagram.
type part struct {
	src, dst netip.Addr
	protocol uint8 // 0 for IPv6
	id       uint32
}

func (j judgement) mayPass(b []byte) bool {
	kind, b := layers.EthernetType(binary.BigEndian.Uint16(b[12:])), b[ethernetLen:]
	if kind == layers.EthernetTypeARP {
		return true
	}
	r, ok := read(b)
	if !ok || kind != layers.EthernetTypeIPv4 && kind != layers.EthernetTypeIPv6 {
		return false
	}
	p := part{r.src, r.dst, r.protocol, r.id}
	if r.src.Is6() {
		p.protocol = 0
	}
	switch {
	case r.later:
		return j.parts[p]
	case r.protocol == igmp && r.src.Is4():
		return r.hops == 1 && r.dst.IsMulticast()
	case r.isError():
		about, ok := read(r.body)
		return ok && !about.later && !about.isError() && about.src == r.dst && about.dst == r.src && j.flows[about.inward()]
	case r.protocol == icmp6 && r.kind >= mldQuery && r.kind <= mldV2 && (r.kind < 138 || r.kind > 140):
		return r.staysOnLink()
	}
	if j.flows[r.outward()] && r.first {
		j.parts[p] = true
	}
	return j.flows[r.outward()]
}

// staysOnLink: nobody has asked the pod for an address here.
func (r reading) staysOnLink() bool {
	if r.hops == 1 && r.dst.IsMulticast() {
		return r.kind != mldQuery
	}
	switch r.kind {
	case mldReport, mldDone, mldV2, routerSolicitation, solicitation, advertisement:
	default:
		return false
	}
	return r.dst.IsLinkLocalMulticast() || r.dst.IsInterfaceLocalMulticast() || r.dst.IsLinkLocalUnicast() || r.src.IsLinkLocalUnicast()
}

// mutate returns a frame near a seed: bytes changed, cut, or put in.
func mutate(r *rand.Rand, frame []byte) []byte {
	b := bytes.Clone(frame)
	for range 1 + r.IntN(3) {
		switch r.IntN(6) {
		case 0:
			b = b[:ethernetLen+r.IntN(len(b)-ethernetLen+1)]
		case 1:
			b = append(b, make([]byte, r.IntN(64))...)
		case 2:
			at := ethernetLen + r.IntN(len(b)-ethernetLen+1)
			b = append(b[:at:at], append(make([]byte, 8), b[at:]...)...)
		default:
			at := 12 + r.IntN(len(b)-12)
			b[at] ^= 1 << r.IntN(8)
			if r.IntN(2) == 0 {
				b[at] = uint8(r.UintN(256))
			}
		}
	}
	return b
}

// TestHostileFrames gives the gate frames near those that pass: it must pass exactly those that the reference says are
// of a known flow, and the reference must read ports as a library does.
func TestHostileFrames(t *testing.T) {
	for _, way := range []struct {
		name string
		slot gateSlot
	}{
		{"short way", gateSlot{NetNS: cookie, Ifindex: ifindex}},
		{"slot of another interface", gateSlot{NetNS: cookie + 1, Ifindex: ifindex + 4096}},
	} {
		t.Run(way.name, func(t *testing.T) {
			w := newWorld(t)
			w.setSlot(t, &way.slot)
			hostileFrames(t, w)
		})
	}
}

func hostileFrames(t *testing.T, w *world) {
	t.Helper()
	j := judgement{flows: w.knowSeeds(t), parts: map[part]bool{}}
	random := rand.New(rand.NewPCG(1, 2))
	all := seeds(t)
	passed, dropped, compared := 0, 0, 0
	for range 20000 {
		b := mutate(random, all[random.IntN(len(all))].frame)
		got, ok := give(t, w.fromPod, b)
		if !ok {
			continue
		}
		if want := j.mayPass(b); want != (got == next) {
			t.Fatalf("verdict %#x of %x, want it to pass: %v", got, b, want)
		}
		if got == next {
			passed++
		} else {
			dropped++
		}
		compared += compareReadings(t, b[ethernetLen:])
	}
	t.Logf("%d passed, %d dropped, %d read by the library too", passed, dropped, compared)
	if passed < 1000 || dropped < 1000 || compared < 1000 {
		t.Error("the frames are too much alike")
	}
}

// compareReadings compares the reference with the library, where both read ports, and returns how many packets it compared.
func compareReadings(t *testing.T, packet []byte) int {
	t.Helper()
	if len(packet) == 0 {
		return 0
	}
	want, ok := library(packet)
	got, read := read(packet)
	if !ok || !read || got.later {
		return 0
	}
	if got.outward() != want.outward() {
		t.Errorf("the reference reads %x as %+v, the library as %+v", packet, got.outward(), want.outward())
	}
	return 1
}

// TestRandomFrames gives both programs frames that are no packets: none may pass from the pod.
func TestRandomFrames(t *testing.T) {
	w := newWorld(t)
	j := judgement{flows: w.knowSeeds(t), parts: map[part]bool{}}
	random := rand.New(rand.NewPCG(3, 4))
	kinds := []uint16{0x0800, 0x86dd, 0x8100, 0x88a8, 0x8847}
	for range 5000 {
		b := make([]byte, ethernetLen+random.IntN(120))
		for i := range b {
			b[i] = uint8(random.UintN(256))
		}
		binary.BigEndian.PutUint16(b[12:], kinds[random.IntN(len(kinds))])
		got, ok := give(t, w.fromPod, b)
		if ok && got == next && !j.mayPass(b) {
			t.Fatalf("%x passed", b)
		}
		give(t, w.toPod, b)
	}
}
