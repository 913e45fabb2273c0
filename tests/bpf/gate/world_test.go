// Package gate gives packets to the programs on the node's side of a pod's veth, one by one, by BPF_PROG_RUN, and looks
// at what they let pass, remember and report. The flows are written into the programs' maps by the test, as the socket
// side would have; the two sides together, with real traffic, are tested in tests/privileged/gate.
package gate

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"os"
	"structs"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/ringbuf"

	"github.com/sallyport/sallyport/probes"
	"github.com/sallyport/sallyport/probes/event"
	"github.com/sallyport/sallyport/tests/testutil"
)

// What BPF_PROG_RUN sees: the loopback, which is the interface of its packets, and any cookie.
const (
	ifindex = 1
	cookie  = 0x1234
)

// Return codes of the programs.
const (
	next = ^uint32(0) // TC_ACT_UNSPEC
	drop = uint32(2)  // TC_ACT_SHOT
)

// flowKey is struct flow_key.
type flowKey struct {
	_             structs.HostLayout
	NetNS         uint64
	Local, Remote [16]byte
	LocalPort     uint16
	RemotePort    uint16
	Protocol      uint8
	ICMPType      uint8
	ICMPAsked     uint8
	_             uint8
}

// flow is struct flow.
type flow struct {
	_         structs.HostLayout
	Decision  uint64
	Container uint64
	Session   uint64
	Rule      uint64
	Packets   [2]uint64
	Bytes     [2]uint64
	Direction uint32
	State     uint32
}

// gate is struct gate.
type gate struct {
	_     structs.HostLayout
	NetNS uint64
	Told  uint64
	Held  uint64
}

// gateSlot is struct gate_slot: the same where the gate looks first, for common packets.
type gateSlot struct {
	_       structs.HostLayout
	NetNS   uint64
	Ifindex uint32
	_       uint32
}

// tuple names a flow from the pod's side.
type tuple struct {
	protocol      uint8
	kind          uint8 // ICMP: of the request
	asked         uint8 // ICMP: 1 when the remote end asks
	local, remote netip.AddrPort
}

func (x tuple) key() flowKey {
	return flowKey{
		NetNS: cookie, Protocol: x.protocol, Local: x.local.Addr().As16(), Remote: x.remote.Addr().As16(),
		LocalPort: x.local.Port(), RemotePort: x.remote.Port(), ICMPType: x.kind, ICMPAsked: x.asked,
	}
}

// state is what is known of a flow.
type state int

const (
	allowed state = iota
	denied
	pending
	outdated   // denied by an older policy
	unresolved // denied while nothing was known of the container
)

// revision is that of the policy in force.
const revision = 7

// control is struct control.
type control struct {
	_           structs.HostLayout
	Revision    uint64
	ABI, Flags  uint32
	HostMountNS uint32
	NamesMost   uint32
	Seed        uint64
	LeastTTL    uint64
}

// world is the two programs with maps of their own.
type world struct {
	fromPod, toPod      *ebpf.Program
	flows, gates, slots *ebpf.Map
	passed, refusals    *ebpf.Map
	alerts              *ringbuf.Reader
}

func newWorld(t testing.TB) *world {
	t.Helper()
	testutil.RequireRoot(t)
	coll, err := ebpf.NewCollection(spec(t))
	if err != nil {
		t.Fatalf("loading the gate: %+v", err)
	}
	t.Cleanup(coll.Close)
	w := &world{
		fromPod: coll.Programs["gate_tc_from_pod"], toPod: coll.Programs["gate_tc_to_pod"],
		flows: coll.Maps["flow_by_tuple"], gates: coll.Maps["gate_by_ifindex"], slots: coll.Maps["gate_slots"],
		passed: coll.Maps["passed_by_flow"], refusals: coll.Maps["stream_refusals"],
	}
	if w.alerts, err = ringbuf.NewReader(coll.Maps["alerts"]); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.alerts.Close() }) // nobody waits in it
	if err := coll.Maps["controls"].Put(uint32(0), &control{Revision: revision}); err != nil {
		t.Fatal("putting a policy in force: ", err)
	}
	w.quiet(t)
	w.setSlot(t, &gateSlot{NetNS: cookie, Ifindex: ifindex})
	return w
}

// setSlot says whether the interface has its slot, so that common packets take the short way, or another interface has.
func (w *world) setSlot(t testing.TB, s *gateSlot) {
	t.Helper()
	if err := w.slots.Put(uint32(ifindex), s); err != nil {
		t.Fatal("writing the interface's slot: ", err)
	}
}

// spec is the object of the programs, with maps that are not pinned and no bigger than the tests need.
func spec(t testing.TB) *ebpf.CollectionSpec {
	t.Helper()
	for _, o := range probes.Objects() {
		if o.Name != "gate_tc" {
			continue
		}
		s, err := o.Load()
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range s.Maps {
			m.Pinning = ebpf.PinNone
			if m.Type == ebpf.LRUHash {
				m.MaxEntries = 4096
			}
		}
		return s
	}
	t.Fatal("there is no object gate_tc")
	return nil
}

// quiet resets the gate, so that its next foreign packet is reported at once.
func (w *world) quiet(t testing.TB) {
	t.Helper()
	if err := w.gates.Put(uint32(ifindex), &gate{NetNS: cookie}); err != nil {
		t.Fatal("gating the interface: ", err)
	}
}

func (w *world) know(t testing.TB, x tuple, s state) {
	t.Helper()
	f := flow{Decision: revision<<8 | uint64(event.VerdictAllow)}
	switch s {
	case denied:
		f.Decision = revision<<8 | uint64(event.VerdictDeny)
	case outdated:
		f.Decision = (revision-1)<<8 | uint64(event.VerdictDeny)
	case unresolved:
		f.Decision = uint64(event.VerdictDeny)
	case pending:
		f = flow{State: 1, Direction: 1}
	case allowed:
	}
	if err := w.flows.Put(x.key(), &f); err != nil {
		t.Fatal("writing a flow: ", err)
	}
}

// look returns what is known of a flow.
func (w *world) look(t testing.TB, x tuple) (flow, bool) {
	t.Helper()
	var f flow
	err := w.flows.Lookup(x.key(), &f)
	if err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		t.Fatal("reading a flow: ", err)
	}
	return f, err == nil
}

// give runs a program on a frame. ok is false when the kernel's test interface takes no such frame: it wants an Ethernet
// header, and newer kernels an IP header behind its EtherType.
func give(t testing.TB, p *ebpf.Program, frame []byte) (verdict uint32, ok bool) {
	t.Helper()
	verdict, err := p.Run(&ebpf.RunOptions{Data: frame})
	if errors.Is(err, os.ErrInvalid) || err != nil && len(frame) < minFrame {
		return 0, false
	}
	if err != nil {
		t.Fatalf("running a program on %x: %v", frame, err)
	}
	return verdict, true
}

// minFrame is the longest frame that BPF_PROG_RUN of some kernel refuses, and one.
const minFrame = ethernetLen + 40

// foreign is what an alert of the gate says.
type foreign struct {
	packets               uint64
	reason                event.Reason
	local, remote         netip.Addr
	localPort, remotePort uint16
	protocol              uint8
}

// alert returns the next record of the ring, or false when there is none.
func (w *world) alert(t testing.TB) (foreign, bool) {
	t.Helper()
	w.alerts.SetDeadline(time.Now())
	rec, err := w.alerts.Read()
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return foreign{}, false
	}
	if err != nil {
		t.Fatal("reading the alerts: ", err)
	}
	// The end of struct ev_call, counted from its end: the subject before it is another test's.
	b := rec.RawSample
	end := b[len(b)-callTail:]
	if kind := binary.NativeEndian.Uint16(b[10:]); kind != uint16(event.KindForeign) {
		t.Fatalf("the gate told an event of kind %d", kind)
	}
	address := func(at int) netip.Addr { return netip.AddrFrom16([16]byte(end[at : at+16])).Unmap() }
	return foreign{
		packets: binary.NativeEndian.Uint64(end[24:]), local: address(40), remote: address(56),
		localPort: binary.NativeEndian.Uint16(end[72:]), remotePort: binary.NativeEndian.Uint16(end[74:]),
		protocol: end[80], reason: event.Reason(end[92]),
	}, true
}

// callTail is the length of struct ev_call from its field rule on.
const callTail = 96
