package gate

import (
	"testing"

	"github.com/gopacket/gopacket/layers"
)

func TestFlowsToPod(t *testing.T) {
	w := newWorld(t)
	none := tupleOf(udp, other4, other4)
	cases := []packetCase{
		{"known tcp", tuple4(tcp), allowed, frame(t, back4(t, tcp)), next},
		{"known udp6", tuple6(udp), allowed, frame(t, back6(t, udp)), next},
		{"denied tcp", tuple4(tcp), denied, frame(t, back4(t, tcp)), drop},
		{"denied udp6", tuple6(udp), denied, frame(t, back6(t, udp)), drop},
		{"outdated tcp", tuple4(tcp), outdated, frame(t, back4(t, tcp, syn)), next},
		{"outdated udp6", tuple6(udp), outdated, frame(t, back6(t, udp)), next},
		{"outdated rst", tuple4(tcp), outdated, frame(t, back4(t, tcp, rst)), next},
		{"unresolved tcp", tuple4(tcp), unresolved, frame(t, back4(t, tcp, syn)), next},
		{"new tcp", none, allowed, frame(t, back4(t, tcp, syn)), next},
		{"stray tcp", none, allowed, frame(t, back6(t, tcp)), next},
		{"stray rst", none, allowed, frame(t, back4(t, tcp, rst)), next},
		{"new udp", none, allowed, frame(t, back4(t, udp)), next},
		{"echo of a pod that nobody knows rules of", none, allowed, frame(t, v4(t, peer4, pod4, icmp4, echo(request4))), drop},
		{"echo6 of a pod that nobody knows rules of", none, allowed, frame(t, v6(t, peer6, pod6, icmp6, echo(request6))), drop},
		{"stray echo reply", none, allowed, frame(t, v4(t, peer4, pod4, icmp4, echo(reply4))), next},
		{"new sctp", none, allowed, frame(t, v4(t, peer4, pod4, sctp, transport(t, sctp, peerPort, podPort))), next},
		{"malformed", none, allowed, frame(t, back6(t, udp)[:44]), drop},
		{"arp", none, allowed, ethernet(t, layers.EthernetTypeARP, make([]byte, 28)), next},
	}
	remembered := map[string]tuple{ // what the pod's own kernel may have to refuse
		"new tcp": tuple4(tcp), "stray tcp": tuple6(tcp), "new udp": tuple4(udp),
		"outdated tcp": tuple4(tcp), "outdated udp6": tuple6(udp), "unresolved tcp": tuple4(tcp),
	}
	runCases(t, w, true, cases, func(t *testing.T, tc packetCase) {
		t.Helper()
		if _, told := w.alert(t); told {
			t.Error("reported as foreign")
		}
		if x, ok := remembered[tc.name]; ok {
			if f, known := w.look(t, x); !known || f.State != 1 {
				t.Errorf("the flow is known: %v, state %d; want it pending", known, f.State)
			}
			return
		}
		var key flowKey
		var f flow
		for it := w.flows.Iterate(); it.Next(&key, &f); {
			if key != tc.tuple.key() {
				t.Errorf("remembered %+v", key)
			}
		}
	})
}

// TestCounters checks what a flow counts, by direction.
func TestCounters(t *testing.T) {
	w := newWorld(t)
	w.know(t, tuple4(udp), allowed)
	out, in := frame(t, out4(t, udp)), frame(t, append(back4(t, udp), make([]byte, 100)...))
	for range 3 {
		give(t, w.fromPod, out)
	}
	for range 2 {
		give(t, w.toPod, in)
	}
	f, known := w.look(t, tuple4(udp))
	if !known || f.Packets != [2]uint64{3, 2} || f.Bytes != [2]uint64{3 * uint64(len(out)), 2 * uint64(len(in))} {
		t.Errorf("known %v, %v packets and %v bytes", known, f.Packets, f.Bytes)
	}
}

// TestPendingIsNoFlow checks that a packet from outside changes nothing of a flow that was judged.
func TestPendingIsNoFlow(t *testing.T) {
	w := newWorld(t)
	for _, s := range []state{allowed, denied} {
		w.know(t, tuple4(tcp), s)
		before, _ := w.look(t, tuple4(tcp))
		give(t, w.toPod, frame(t, back4(t, tcp, syn)))
		after, _ := w.look(t, tuple4(tcp))
		if after.State != before.State || after.Decision != before.Decision || after.Direction != before.Direction {
			t.Errorf("the flow was %+v and is %+v", before, after)
		}
	}
}

// TestUngated checks that an interface without a gate lets everything pass and is not told of.
func TestUngated(t *testing.T) {
	w := newWorld(t)
	if err := w.gates.Delete(uint32(ifindex)); err != nil {
		t.Fatal(err)
	}
	w.setSlot(t, &gateSlot{})
	for _, b := range [][]byte{frame(t, out4(t, tcp)), frame(t, out6(t, udp)[:44]), ethernet(t, layers.EthernetTypeDot1Q, out4(t, tcp))} {
		for _, p := range []struct {
			name string
			run  func() (uint32, bool)
		}{
			{"from pod", func() (uint32, bool) { return give(t, w.fromPod, b) }},
			{"to pod", func() (uint32, bool) { return give(t, w.toPod, b) }},
		} {
			if got, ok := p.run(); ok && got != next {
				t.Errorf("%s: verdict %#x of %x, want %#x", p.name, got, b, next)
			}
		}
	}
	if f, told := w.alert(t); told {
		t.Errorf("reported %+v", f)
	}
}
