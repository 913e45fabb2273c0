package gate

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"structs"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/sallyport/sallyport/tests/testutil"
	"github.com/sallyport/sallyport/tests/victim"
)

// TestPolicyChange: live connections that a new policy denies stop, the others go on, and come back with the old one.
func TestPolicyChange(t *testing.T) {
	s := newScene(t, 0)
	web := newInsider(t, s.web)
	server := at(s.ServerAddr, testutil.EchoPort)
	web.want(t, "ok", order{Do: "serve", Network: "tcp", Address: ":9000"})
	in, err := dialFrom(t, s.Server, "tcp", at(s.PodAddr6, podPort), patience)
	if err != nil {
		t.Fatal(err)
	}
	const tcp, udp = 1, 2
	web.want(t, "ok", order{Do: "dial", ID: tcp, Network: "tcp", Address: server})
	web.want(t, "ok", order{Do: "dial", ID: udp, Network: "udp", Address: server})
	others := func() {
		t.Helper()
		web.want(t, "ok", order{Do: "echo", ID: udp, Bytes: 100})
		if err := roundTrip(in, 100, patience); err != nil {
			t.Error("the connection that came in: ", err)
		}
	}
	web.want(t, "ok", order{Do: "echo", ID: tcp, Bytes: 100})
	others()
	s.swap(t, "") // without the rule tcp
	s.Echo.Reset()
	if got := web.do(t, order{Do: "echo", ID: tcp, Bytes: 100}); got == "ok" {
		t.Error("a connection that is now denied goes on")
	}
	s.Echo.ExpectNone(t)
	others()
	web.want(t, "EPERM", order{Do: "dial", Network: "tcp", Address: server})
	s.swap(t, tcpRule)
	web.want(t, "ok", order{Do: "dial", ID: tcp, Network: "tcp", Address: server})
	web.want(t, "ok", order{Do: "echo", ID: tcp, Bytes: 100})
	others()
	s.expectNoForeign(t)
}

// TestSameTuple: a peer that was denied comes in by the same addresses and ports once a policy allows it.
func TestSameTuple(t *testing.T) {
	s := newScene(t, 0)
	web := newInsider(t, s.web)
	const source = 40123
	for _, f := range s.families() {
		own := netip.AddrPortFrom(f.server, source)
		for network, from := range map[string]net.Addr{"tcp": net.TCPAddrFromAddrPort(own), "udp": net.UDPAddrFromAddrPort(own)} {
			t.Run(network+f.name, func(t *testing.T) {
				web.want(t, "ok", order{Do: "serve", Network: network + f.name, Address: at(f.pod, closedPort)})
				for range 3 {
					if err := s.comesIn(t, from, at(f.pod, closedPort)); err == nil {
						t.Fatal("what is denied came in")
					}
					s.swap(t, closedRule)
					if err := s.comesIn(t, from, at(f.pod, closedPort)); err != nil {
						t.Fatal("what is allowed now does not come in: ", err)
					}
					s.swap(t, "")
				}
			})
		}
	}
	s.expectNoForeign(t)
}

// comesIn exchanges bytes with a server in the pod, from an address that is free again afterwards.
func (s *scene) comesIn(t *testing.T, own net.Addr, server string) error {
	t.Helper()
	conn, err := dialAs(t, s.Server, own, own.Network(), server, impatience)
	if err != nil {
		return err
	}
	err = roundTrip(conn, 100, impatience)
	if c, ok := conn.(*net.TCPConn); ok {
		err = errors.Join(err, c.SetLinger(0)) // no TIME_WAIT
	}
	return errors.Join(err, conn.Close())
}

// TestPressure: a flow table far too small for what goes on opens nothing and breaks no connection.
func TestPressure(t *testing.T) {
	const flows, connections, rounds = 256, 8, 5
	burst := testutil.Flood(t, 4*flows*rounds, 4*flows*rounds) / rounds // flows that are nobody else's
	s := newScene(t, flows)
	web, locked, free := newInsider(t, s.web), newInsider(t, s.locked), newInsider(t, s.free)
	prog := victim.Build(t)
	web.want(t, "ok", order{Do: "serve", Network: "tcp", Address: ":9000"})
	var in []net.Conn
	for i := range connections {
		f := s.families()[i%2]
		web.want(t, "ok", order{Do: "dial", ID: i, Network: "tcp", Address: at(f.server, testutil.EchoPort)})
		conn, err := dialFrom(t, s.Server, "tcp", at(f.pod, podPort), patience)
		if err != nil {
			t.Fatal(err)
		}
		in = append(in, conn)
	}
	for range rounds {
		free.want(t, "ok", order{Do: "burst", Address: at(s.ServerAddr, testutil.EchoPort), Count: burst})
		for i := range connections {
			web.want(t, "ok", order{Do: "echo", ID: i, Bytes: 5000})
			if err := roundTrip(in[i], 5000, patience); err != nil {
				t.Errorf("connection %d that came in: %v", i, err)
			}
		}
		locked.want(t, "EPERM", order{Do: "dial", Network: "udp", Address: at(s.ServerAddr, testutil.EchoPort)})
	}
	s.Echo.Reset()
	if got := s.free.Command(prog, "--", "packet", "eth0", s.ServerAddr6.String(), "7777", s.PodAddr6.String(), s.gatewayMAC()).Run(t); got != "packet: ok" {
		t.Fatal(got)
	}
	for _, c := range s.Echo.Contacts() {
		if c.Local.Addr() == s.ServerAddr6 {
			t.Errorf("a foreign packet arrived: %s", c)
		}
	}
}

// leftovers lists what the gate still has in the kernel: pinned links, filters, entries of maps.
func (s *scene) leftovers(t *testing.T) (left []string) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(s.node.BPFFS, "sallyport", "links"))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), "gate_tc") {
			left = append(left, "link "+e.Name())
		}
	}
	var index uint32
	var g gateEntry
	for it := s.pinned(t, "gate_by_ifindex").Iterate(); it.Next(&index, &g); {
		left = append(left, "entry of gate_by_ifindex")
	}
	var slot struct {
		_          structs.HostLayout
		NetNS      uint64
		Ifindex, _ uint32
	}
	if err := s.pinned(t, "gate_slots").Lookup(s.veth.Ifindex, &slot); err != nil {
		t.Fatal(err)
	}
	if slot.Ifindex != 0 {
		left = append(left, "slot of the interface")
	}
	var cookie uint64
	var netns [16]byte
	for it := s.pinned(t, "netns_by_cookie").Iterate(); it.Next(&cookie, &netns); {
		left = append(left, "entry of netns_by_cookie")
	}
	s.Node.Do(t, func() error {
		for _, parent := range []uint32{netlink.HANDLE_MIN_INGRESS, netlink.HANDLE_MIN_EGRESS} {
			filters, err := netlink.FilterList(s.Gate, parent)
			var missing netlink.LinkNotFoundError
			if err != nil && !errors.As(err, &missing) {
				continue // no clsact, or no interface: no filters
			}
			for _, f := range filters {
				left = append(left, "filter "+f.Attrs().String())
			}
		}
		return nil
	})
	return left
}

// TestRelease: a released pod's packets pass again, and nothing is left of the gate.
func TestRelease(t *testing.T) {
	s := newScene(t, 0)
	prog := victim.Build(t)
	send := func() {
		t.Helper()
		if got := s.free.Command(prog, "--", "packet", "eth0", s.ServerAddr.String(), "7777", s.PodAddr.String(), s.gatewayMAC()).Run(t); got != "packet: ok" {
			t.Fatal(got)
		}
	}
	send()
	s.expectForeign(t, s.ServerAddr, 1)
	s.Echo.ExpectNone(t)
	if n := len(s.leftovers(t)); n < 5 { // two programs, three entries
		t.Errorf("the gate in force shows %v", s.leftovers(t))
	}
	s.Node.Do(t, func() error { return s.gate.Release(s.veth) })
	if left := s.leftovers(t); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	send()
	testutil.Eventually(t, "a packet through no gate", func() error {
		if len(s.Echo.Contacts()) == 0 {
			return errors.New("the server has seen nothing")
		}
		return nil
	})
	s.Node.Do(t, func() error { return s.gate.Release(s.veth) }) // again: no error
	s.govern(t)
	if n := len(s.leftovers(t)); n < 5 {
		t.Errorf("the gate in force again shows %v", s.leftovers(t))
	}
}

// TestSweep: what a pod's interface leaves behind when it goes without the agent is removed, and no other gate.
func TestSweep(t *testing.T) {
	s := newScene(t, 0)
	s.Node.Do(t, s.gate.Sweep)
	if n := len(s.leftovers(t)); n < 5 {
		t.Fatalf("swept a gate in force: %v", s.leftovers(t))
	}
	if err := s.Node.Handle(t).LinkDel(s.Gate); err != nil {
		t.Fatal(err)
	}
	s.Node.Do(t, s.gate.Sweep)
	if left := s.leftovers(t); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// TestGovernTwice: governing again, as another start of the agent does, is one gate.
func TestGovernTwice(t *testing.T) {
	s := newScene(t, 0)
	before := len(s.leftovers(t))
	s.govern(t)
	if after := len(s.leftovers(t)); after != before {
		t.Errorf("%d parts of a gate, and %d after governing again", before, after)
	}
	web := newInsider(t, s.web)
	web.want(t, "ok", order{Do: "dial", ID: 1, Network: "tcp", Address: at(s.ServerAddr, testutil.EchoPort)})
	web.want(t, "ok", order{Do: "echo", ID: 1, Bytes: 100})
}
