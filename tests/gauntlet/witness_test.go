package gauntlet

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/tests/testutil"
)

// witness sees every packet that comes to a network namespace by eth0, whoever it is for, if anybody.
type witness struct {
	fd int

	mu    sync.Mutex
	seen  []string        // packets that an attack has sent
	flows map[string]bool // TCP connections that something was seen of
	sent  map[string]bool // their segments
	marks int             // datagrams to markPort
}

// newWitness watches until the end of the test.
func newWitness(t *testing.T, in *testutil.NetNS) *witness {
	t.Helper()
	w := &witness{flows: map[string]bool{}, sent: map[string]bool{}}
	all := int(binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, unix.ETH_P_ALL)))
	in.Do(t, func() (err error) {
		w.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, all)
		return err
	})
	wake := unix.NsecToTimeval((50 * time.Millisecond).Nanoseconds())
	if err := unix.SetsockoptTimeval(w.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &wake); err != nil {
		t.Fatal(err)
	}
	stop, done := make(chan struct{}), make(chan error, 1)
	go func() { done <- w.run(stop) }()
	t.Cleanup(func() {
		close(stop)
		if err := errors.Join(<-done, unix.Close(w.fd)); err != nil {
			t.Error("watching the server's interface: ", err)
		}
	})
	return w
}

func (w *witness) run(stop <-chan struct{}) error {
	buffer := make([]byte, 1<<16)
	for {
		select {
		case <-stop:
			return nil
		default:
		}
		n, from, err := unix.Recvfrom(w.fd, buffer, 0)
		if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return err
		}
		if link, ok := from.(*unix.SockaddrLinklayer); ok && link.Pkttype != unix.PACKET_OUTGOING && link.Hatype != unix.ARPHRD_LOOPBACK {
			w.note(link.Protocol, buffer[:n])
		}
	}
}

// note takes down what a packet is. Of the link's own chatter, and of what the session may send, it takes no note.
func (w *witness) note(protocol uint16, b []byte) {
	first := layers.LayerTypeIPv4
	switch binary.BigEndian.Uint16(binary.NativeEndian.AppendUint16(nil, protocol)) {
	case unix.ETH_P_IP:
	case unix.ETH_P_IPV6:
		first = layers.LayerTypeIPv6
	default:
		return
	}
	p := gopacket.NewPacket(b, first, gopacket.Default)
	w.mu.Lock()
	defer w.mu.Unlock()
	port := 0
	switch l := p.TransportLayer().(type) {
	case *layers.TCP:
		port = int(l.DstPort)
	case *layers.UDP:
		port = int(l.DstPort)
	}
	switch {
	case port == markPort:
		w.marks++
	case port == decoyPort, isChatter(p), refusesDecoy(p), w.isAftermath(p):
	default:
		w.seen = append(w.seen, fmt.Sprint(p.NetworkLayer().NetworkFlow(), " port ", port))
	}
}

// isAftermath says whether a packet is of a connection that is known and carries nothing new: it acknowledges, ends it, or
// comes again. A busy machine sends such of an earlier attack's connection while the next one runs.
func (w *witness) isAftermath(p gopacket.Packet) bool {
	tcp, ok := p.TransportLayer().(*layers.TCP)
	if !ok {
		return false
	}
	flow := fmt.Sprint(p.NetworkLayer().NetworkFlow(), tcp.TransportFlow())
	segment := fmt.Sprint(flow, tcp.SYN, tcp.Seq, len(tcp.Payload))
	again := w.sent[segment] || w.flows[flow] && !tcp.SYN && len(tcp.Payload) == 0
	w.flows[flow], w.sent[segment] = true, true
	return again
}

// isChatter says whether a packet is neighbour discovery or group membership.
func isChatter(p gopacket.Packet) bool {
	if p.Layer(layers.LayerTypeIGMP) != nil {
		return true
	}
	icmp, ok := p.Layer(layers.LayerTypeICMPv6).(*layers.ICMPv6)
	if !ok {
		return false
	}
	t := icmp.TypeCode.Type()
	return t >= layers.ICMPv6TypeMLDv1MulticastListenerQueryMessage && t <= layers.ICMPv6TypeRedirect || t == layers.ICMPv6TypeMLDv2MulticastListenerReportMessageV2
}

// refusesDecoy says whether a packet is the pod's kernel's word that the decoy's answer found nobody any more.
func refusesDecoy(p gopacket.Packet) bool {
	icmp, ok := p.Layer(layers.LayerTypeICMPv4).(*layers.ICMPv4)
	if !ok || icmp.TypeCode.Type() != layers.ICMPv4TypeDestinationUnreachable {
		return false
	}
	answer, ok := gopacket.NewPacket(icmp.Payload, layers.LayerTypeIPv4, gopacket.Default).Layer(layers.LayerTypeUDP).(*layers.UDP)
	return ok && answer.SrcPort == decoyPort
}

// reset forgets what was seen.
func (w *witness) reset() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.seen = nil
}

// forgetMarks has the datagrams to markPort counted from here on.
func (w *witness) forgetMarks() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.marks = 0
}

// packets returns what was seen.
func (w *witness) packets() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]string(nil), w.seen...)
}

// marked waits for so many datagrams to markPort, which came after all that was sent before them.
func (w *witness) marked(t *testing.T, n int) {
	t.Helper()
	testutil.Eventually(t, "the datagrams that close an attack", func() error {
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.marks < n {
			return fmt.Errorf("of %d have come %d", n, w.marks)
		}
		return nil
	})
}
