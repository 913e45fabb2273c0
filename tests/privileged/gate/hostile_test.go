package gate

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/probes/event"
	"github.com/sallyport/sallyport/tests/testutil"
	"github.com/sallyport/sallyport/tests/victim"
)

// expectForeign waits until the gate has reported or counted want foreign packets in all, and reported one to remote, and
// fails if there are more. The zero address stands for packets that have none, because they could not be read.
func (s *scene) expectForeign(t *testing.T, remote netip.Addr, want uint64) {
	t.Helper()
	testutil.Eventually(t, fmt.Sprintf("counting foreign packets to %s", remote), func() error {
		counted := s.held(t)
		for _, e := range s.seen(event.KindForeign) {
			if e.NetNS != s.veth.NetNS || e.Ifindex != s.veth.Ifindex || e.Verdict != event.VerdictDrop || e.Call != event.CallPacketOut {
				t.Fatalf("the report is of another gate: %+v", e)
			}
			counted += e.Packets
		}
		if counted > want {
			t.Fatalf("%d foreign packets were counted, %d sent", counted, want)
		}
		if counted < want {
			return fmt.Errorf("%d of %d", counted, want)
		}
		for _, e := range s.seen(event.KindForeign) {
			if e.Remote.Addr() == remote {
				return nil
			}
		}
		return errors.New("it was not reported")
	})
}

// reportPause is longer than the gate is silent after a report (FOREIGN_PAUSE_NS in gate_tc.bpf.c).
const reportPause = 50 * time.Millisecond

// gatewayMAC is the hardware address that frames to the node carry.
func (s *scene) gatewayMAC() string { return s.Gate.Attrs().HardwareAddr.String() }

// TestOwnFrames: root in the pod makes frames itself, around every socket hook: none leaves.
func TestOwnFrames(t *testing.T) {
	prog := victim.Build(t)
	for _, tc := range []struct {
		name   string
		source func(family) string
	}{
		{"own address", func(f family) string { return f.pod.String() }},
		{"address of the server", func(f family) string { return f.server.String() }},
		{"address of the node", func(f family) string { return f.node.String() }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := newScene(t, 0)
			sent := uint64(0)
			for _, f := range s.families() {
				p := s.free.Command(prog, "--", "packet", "eth0", f.server.String(), "7777", tc.source(f), s.gatewayMAC())
				if got := p.Run(t); got != "packet: ok" {
					t.Fatalf("%s (%s), want packet: ok", got, p.Complaint())
				}
				sent++
				s.expectForeign(t, f.server, sent)
				time.Sleep(reportPause)
			}
			s.Echo.ExpectNone(t)
		})
	}
}

// TestFrameFlood: of many foreign packets few are reported and all are counted.
func TestFrameFlood(t *testing.T) {
	s := newScene(t, 0)
	free := newInsider(t, s.free)
	const flood = 2000
	free.want(t, "ok", order{Do: "dial", ID: 1, Network: "udp4", Address: at(s.ServerAddr, testutil.EchoPort)})
	free.want(t, "ok", order{Do: "frames", ID: 1, Address: s.gatewayMAC(), Port: testutil.EchoPort, Count: flood})
	s.expectForeign(t, s.ServerAddr, flood)
	if n := len(s.seen(event.KindForeign)); n > flood/10 {
		t.Errorf("%d reports of %d packets", n, flood)
	}
	s.Echo.ExpectNone(t)
}

// TestRawSockets: a governed process gets no raw socket that writes its own header.
func TestRawSockets(t *testing.T) {
	s := newScene(t, 0)
	prog := victim.Build(t)
	web := newInsider(t, s.web)
	for _, f := range s.families() {
		for _, source := range []netip.Addr{f.pod, f.node} {
			if got := s.web.Command(prog, "--", "raw-udp", f.server.String(), "7777", source.String()).Run(t); got != "raw-udp: EPERM" {
				t.Errorf("from %s: %s, want EPERM", source, got)
			}
		}
	}
	s.Echo.ExpectNone(t)
	web.want(t, "ok", order{Do: "dial", Network: "tcp", Address: at(s.ServerAddr, testutil.EchoPort)})
}

// TestNewAddress: another address on the pod's interface opens nothing that its processes may not do.
func TestNewAddress(t *testing.T) {
	s := newScene(t, 0)
	prog := victim.Build(t)
	locked, free := newInsider(t, s.locked), newInsider(t, s.free)
	const own4, own6 = "203.0.113.77", "2001:db8:7777::77"
	free.want(t, "ok", order{Do: "address", Address: own4 + "/32"})
	free.want(t, "ok", order{Do: "address", Address: own6 + "/128"})
	sent := uint64(0)
	for i, f := range s.families() {
		locked.want(t, "EPERM", order{Do: "dial", Network: "udp", Address: at(f.server, testutil.EchoPort)})
		source := []string{own4, own6}[i]
		if got := s.free.Command(prog, "--", "packet", "eth0", f.server.String(), "7777", source, s.gatewayMAC()).Run(t); got != "packet: ok" {
			t.Fatal(got)
		}
		sent++
		s.expectForeign(t, f.server, sent)
		time.Sleep(reportPause)
	}
	s.Echo.ExpectNone(t)
}

// TestVLAN: with a VLAN tag not even a packet of an allowed flow leaves; without, it is that flow's.
func TestVLAN(t *testing.T) {
	s := newScene(t, 0)
	free := newInsider(t, s.free)
	free.want(t, "ok", order{Do: "dial", ID: 1, Network: "udp4", Address: at(s.ServerAddr, testutil.EchoPort)})
	free.want(t, "ok", order{Do: "echo", ID: 1, Bytes: 10})
	s.Echo.Reset()
	free.want(t, "ok", order{Do: "frames", ID: 1, Address: s.gatewayMAC(), Port: testutil.EchoPort, Value: 5, Count: 1})
	s.expectForeign(t, netip.Addr{}, 1)
	s.Echo.ExpectNone(t)
	free.want(t, "ok", order{Do: "frames", ID: 1, Address: s.gatewayMAC(), Port: testutil.EchoPort, Count: 1})
	testutil.Eventually(t, "a frame with the tuple of an allowed flow", func() error {
		if len(s.Echo.Contacts()) == 0 {
			return errors.New("the server has seen nothing")
		}
		return nil
	})
}

// TestRewritten: root in the pod rewrites packets behind the sockets, on the pod's own side of the veth. Allowed packets
// turned into others end at the gate.
func TestRewritten(t *testing.T) {
	s := newScene(t, 0)
	web := newInsider(t, s.web)
	web.want(t, "ok", order{Do: "dial", ID: 1, Network: "udp", Address: at(s.ServerAddr, testutil.EchoPort+1)})
	s.rewrite(t, testutil.EchoPort)
	web.want(t, "ok", order{Do: "push", ID: 1, Bytes: 10}) // to a port that nobody serves, rewritten to the server's
	s.expectForeign(t, s.ServerAddr, 1)
	s.Echo.ExpectNone(t)
}

// rewrite puts a program on the pod's eth0 that sends every UDP datagram over IPv4 to another port.
func (s *scene) rewrite(t *testing.T, port int) {
	t.Helper()
	const ethernet, ip, protocolAt, portAt = 14, 20, 9, 2
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.SchedCLS, License: "GPL",
		Instructions: asm.Instructions{
			asm.Mov.Reg(asm.R6, asm.R1),
			asm.LoadAbs(ethernet+protocolAt, asm.Byte),
			asm.JNE.Imm(asm.R0, unix.IPPROTO_UDP, "done"),
			asm.StoreImm(asm.RFP, -2, int64(uint16(port>>8|port<<8)), asm.Half),
			asm.Mov.Reg(asm.R1, asm.R6),
			asm.Mov.Imm(asm.R2, ethernet+ip+portAt),
			asm.Mov.Reg(asm.R3, asm.RFP),
			asm.Add.Imm(asm.R3, -2),
			asm.Mov.Imm(asm.R4, 2),
			asm.Mov.Imm(asm.R5, 0),
			asm.FnSkbStoreBytes.Call(),
			asm.Mov.Imm(asm.R0, -1).WithSymbol("done"),
			asm.Return(),
		},
	})
	if err != nil {
		t.Fatalf("loading the pod's own program: %+v", err)
	}
	t.Cleanup(func() { _ = prog.Close() }) // the filter holds it
	s.Pod.Do(t, func() error {
		eth0, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		index := eth0.Attrs().Index
		qdisc := &netlink.GenericQdisc{
			QdiscAttrs: netlink.QdiscAttrs{LinkIndex: index, Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_CLSACT},
			QdiscType:  "clsact",
		}
		filter := &netlink.BpfFilter{
			FilterAttrs: netlink.FilterAttrs{LinkIndex: index, Parent: netlink.HANDLE_MIN_EGRESS, Handle: 1, Protocol: unix.ETH_P_IP, Priority: 1},
			Fd:          prog.FD(), Name: "rewrite", DirectAction: true,
		}
		return errors.Join(netlink.QdiscAdd(qdisc), netlink.FilterAdd(filter))
	})
}

// TestRerouted: root in the pod may change its own routes and neighbours as it likes: the gate is on the other side.
func TestRerouted(t *testing.T) {
	s := newScene(t, 0)
	web, locked := newInsider(t, s.web), newInsider(t, s.locked)
	server := at(s.ServerAddr, testutil.EchoPort)
	web.want(t, "ok", order{Do: "dial", ID: 1, Network: "tcp", Address: server})
	s.Pod.Do(t, func() error { // straight to the server, as if it were on the link
		eth0, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		index, ip := eth0.Attrs().Index, net.IP(s.ServerAddr.AsSlice())
		return errors.Join(
			netlink.NeighSet(&netlink.Neigh{LinkIndex: index, State: netlink.NUD_PERMANENT, IP: ip, HardwareAddr: s.Gate.Attrs().HardwareAddr}),
			netlink.RouteReplace(&netlink.Route{LinkIndex: index, Dst: &net.IPNet{IP: ip, Mask: net.CIDRMask(32, 32)}, Scope: netlink.SCOPE_LINK}),
		)
	})
	web.want(t, "ok", order{Do: "echo", ID: 1, Bytes: 100})
	s.Echo.Reset()
	locked.want(t, "EPERM", order{Do: "dial", Network: "tcp", Address: server})
	locked.want(t, "EPERM", order{Do: "dial", Network: "udp", Address: server})
	s.Echo.ExpectNone(t)
	s.expectNoForeign(t)
}
