package gate

import (
	"testing"

	"github.com/gopacket/gopacket/layers"
)

// part4 is a fragment of a datagram of the pod: the first carries the UDP header.
func part4(t *testing.T, id, offset uint16, more bool) []byte {
	t.Helper()
	payload := append(transport(t, udp, podPort, peerPort), make([]byte, 56)...)
	return frame(t, v4(t, pod4, peer4, udp, payload[offset:], func(ip *layers.IPv4) {
		ip.Id, ip.FragOffset = id, offset/8
		if more {
			ip.Flags = layers.IPv4MoreFragments
		}
	}))
}

// part6 is the same in IPv6; next is what the fragment header names, as the first one's next header or another.
func part6(t *testing.T, id uint32, offset uint16, more bool, next uint8) []byte {
	t.Helper()
	payload := append(transport(t, udp, podPort, peerPort), make([]byte, 56)...)
	if next == destination {
		payload = extension(destination, udp, 0, payload)
	}
	return frame(t, v6(t, pod6, peer6, fragment, fragmentOf(next, id, offset, more, payload[offset:])))
}

// TestFragmentsFromPod sends sequences of fragments: each later one shares the fate of its first.
func TestFragmentsFromPod(t *testing.T) {
	tiny := frame(t, v4(t, pod4, peer4, udp, make([]byte, 4), func(ip *layers.IPv4) { ip.Flags = layers.IPv4MoreFragments }))
	type step struct {
		frame []byte
		want  uint32
	}
	for _, tc := range []struct {
		name  string
		tuple tuple
		state state
		steps []step
	}{
		{"known", tuple4(udp), allowed, []step{{part4(t, 1, 0, true), next}, {part4(t, 1, 24, true), next}, {part4(t, 1, 48, false), next}}},
		{"known6", tuple6(udp), allowed, []step{{part6(t, 1, 0, true, udp), next}, {part6(t, 1, 24, true, udp), next}, {part6(t, 1, 48, false, udp), next}}},
		{"extension behind the fragment header", tuple6(udp), allowed, []step{{part6(t, 1, 0, true, destination), next}, {part6(t, 1, 24, false, destination), next}}},
		{"later one names another header", tuple6(udp), allowed, []step{{part6(t, 1, 0, true, udp), next}, {part6(t, 1, 24, false, tcp), next}}},
		{"later without first", tuple4(udp), allowed, []step{{part4(t, 1, 24, false), drop}, {part4(t, 1, 0, true), next}, {part4(t, 1, 24, false), next}}},
		{"later without first6", tuple6(udp), allowed, []step{{part6(t, 1, 24, false, udp), drop}}},
		{"later of another datagram", tuple4(udp), allowed, []step{{part4(t, 1, 0, true), next}, {part4(t, 2, 24, false), drop}}},
		{"first unknown", tuple4(tcp), allowed, []step{{part4(t, 1, 0, true), drop}, {part4(t, 1, 24, false), drop}}},
		{"first unknown6", tuple6(tcp), allowed, []step{{part6(t, 1, 0, true, udp), drop}, {part6(t, 1, 24, false, udp), drop}}},
		{"first denied", tuple4(udp), denied, []step{{part4(t, 1, 0, true), drop}, {part4(t, 1, 24, false), drop}}},
		{"first without ports", tuple4(udp), allowed, []step{{tiny, drop}, {part4(t, 99, 24, false), drop}}},
		{"whole datagram is no first", tuple4(udp), allowed, []step{{part4(t, 1, 0, false), next}, {part4(t, 1, 24, false), drop}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := newWorld(t)
			w.know(t, tc.tuple, tc.state)
			for i, s := range tc.steps {
				if got, ok := give(t, w.fromPod, s.frame); !ok || got != s.want {
					t.Errorf("fragment %d: verdict %#x, want %#x", i, got, s.want)
				}
			}
		})
	}
}

// TestFragmentsLoseTheirFlow checks that later fragments stop when their flow is denied meanwhile.
func TestFragmentsLoseTheirFlow(t *testing.T) {
	w := newWorld(t)
	w.know(t, tuple4(udp), allowed)
	if got, _ := give(t, w.fromPod, part4(t, 1, 0, true)); got != next {
		t.Fatalf("the first: %#x, want %#x", got, next)
	}
	w.know(t, tuple4(udp), denied)
	if got, _ := give(t, w.fromPod, part4(t, 1, 24, false)); got != drop {
		t.Errorf("a later one: %#x, want %#x", got, drop)
	}
}
