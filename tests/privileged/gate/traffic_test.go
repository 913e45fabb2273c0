package gate

import (
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/probes/event"
	"github.com/sallyport/sallyport/tests/testutil"
	"github.com/sallyport/sallyport/tests/victim"
)

// TestAllowedOut: what the policy allows works, small and large, and the network's errors come back.
func TestAllowedOut(t *testing.T) {
	s := newScene(t, 0)
	web := newInsider(t, s.web)
	prog := victim.Build(t)
	s.Pod.Do(t, func() error {
		return os.WriteFile("/proc/sys/net/ipv4/ping_group_range", []byte("0 2147483647"), 0)
	})
	for i, f := range s.families() {
		t.Run(f.name, func(t *testing.T) {
			id := 10 * i
			web.want(t, "ok", order{Do: "dial", ID: id, Network: "tcp", Address: at(f.server, testutil.EchoPort)})
			web.want(t, "ok", order{Do: "echo", ID: id, Bytes: 1})
			web.want(t, "ok", order{Do: "echo", ID: id, Bytes: 1 << 20})
			web.want(t, "ok", order{Do: "close", ID: id})
			web.want(t, "ok", order{Do: "dial", ID: id + 1, Network: "udp", Address: at(f.server, testutil.EchoPort)})
			for _, size := range []int{1, 1400, 3000, 60000} { // the last two in fragments
				web.want(t, "ok", order{Do: "echo", ID: id + 1, Bytes: size})
			}
			// The server's kernel refuses: a reset, and an ICMP error about a datagram of ours.
			web.want(t, "ECONNREFUSED", order{Do: "dial", Network: "tcp", Address: at(f.server, testutil.EchoPort+1)})
			web.want(t, "ok", order{Do: "dial", ID: id + 2, Network: "udp", Address: at(f.server, testutil.EchoPort+1)})
			web.want(t, "ok", order{Do: "push", ID: id + 2, Bytes: 1})
			web.want(t, "ECONNREFUSED", order{Do: "await", ID: id + 2})
			if got := s.web.Command(prog, "--", "ping", f.server.String()).Run(t); got != "ping: ok" {
				t.Errorf("%s, want ping: ok", got)
			}
		})
	}
	s.expectNoForeign(t)
}

// TestAllowedIn: who may come in gets answers; a port that nobody serves refuses.
func TestAllowedIn(t *testing.T) {
	s := newScene(t, 0)
	web := newInsider(t, s.web)
	for _, f := range s.families() {
		t.Run(f.name, func(t *testing.T) {
			web.want(t, "ok", order{Do: "serve", Network: "tcp" + f.name, Address: at(f.pod, podPort)})
			web.want(t, "ok", order{Do: "serve", Network: "udp" + f.name, Address: at(f.pod, podPort)})
			for _, network := range []string{"tcp", "udp"} {
				conn, err := dialFrom(t, s.Server, network, at(f.pod, podPort), patience)
				if err != nil {
					t.Fatalf("%s: %v", network, err)
				}
				for _, size := range []int{1, 9000} {
					if err := roundTrip(conn, size, patience); err != nil {
						t.Errorf("%d bytes by %s: %v", size, network, err)
					}
				}
			}
			if _, err := dialFrom(t, s.Server, "tcp", at(f.pod, closedPort), patience); err == nil || errorName(err) != "ECONNREFUSED" {
				t.Errorf("tcp to a closed port: %v, want it refused", err)
			}
			conn, err := dialFrom(t, s.Server, "udp", at(f.pod, closedPort), patience)
			if err != nil {
				t.Fatal(err)
			}
			if err := roundTrip(conn, 1, patience); err == nil || errorName(err) != "ECONNREFUSED" {
				t.Errorf("udp to a closed port: %v, want it refused", err)
			}
			// The node is no peer that may come in.
			if conn, err := dialFrom(t, s.Node, "tcp", at(f.pod, podPort), impatience); err == nil {
				if err := roundTrip(conn, 1, impatience); err == nil {
					t.Error("the node came in, which no rule allows")
				}
			}
		})
	}
	s.expectNoForeign(t)
}

// TestAnswerAnywhere: a UDP server on the wildcard address answers whom it was asked by, and no one else.
func TestAnswerAnywhere(t *testing.T) {
	s := newScene(t, 0)
	web := newInsider(t, s.web)
	web.want(t, "ok", order{Do: "serve", Network: "udp", Address: ":9000"})
	for _, f := range s.families() {
		conn, err := dialFrom(t, s.Server, "udp", at(f.pod, podPort), patience)
		if err != nil {
			t.Fatal(err)
		}
		if err := roundTrip(conn, 100, patience); err != nil {
			t.Errorf("family %s: %v", f.name, err)
		}
	}
	s.expectNoForeign(t)
}

// TestRouterErrors: time exceeded, and a smaller path on the way, reach the pod.
func TestRouterErrors(t *testing.T) {
	s := newScene(t, 0)
	web := newInsider(t, s.web)
	const mtu = 1300
	h := s.Node.Handle(t)
	for i, f := range s.families() {
		t.Run(f.name, func(t *testing.T) {
			level, hops, receive, path, unreachable := unix.IPPROTO_IP, unix.IP_TTL, unix.IP_RECVERR, unix.IP_MTU, "EHOSTUNREACH"
			if f.name == "6" {
				level, hops, receive, path = unix.IPPROTO_IPV6, unix.IPV6_UNICAST_HOPS, unix.IPV6_RECVERR, unix.IPV6_MTU
			}
			id := 10 * i
			web.want(t, "ok", order{Do: "dial", ID: id, Network: "udp", Address: at(f.server, testutil.EchoPort)})
			web.want(t, "ok", order{Do: "option", ID: id, Level: level, Option: receive, Value: 1})
			web.want(t, "ok", order{Do: "option", ID: id, Level: level, Option: hops, Value: 1})
			web.want(t, "ok", order{Do: "push", ID: id, Bytes: 1})
			web.want(t, unreachable, order{Do: "await", ID: id})

			routes, err := h.RouteGet(f.server.AsSlice())
			if err != nil || len(routes) == 0 {
				t.Fatalf("looking up the route to %s: %v", f.server, err)
			}
			bits := f.server.BitLen()
			narrow := &netlink.Route{
				LinkIndex: routes[0].LinkIndex, Dst: &net.IPNet{IP: f.server.AsSlice(), Mask: net.CIDRMask(bits, bits)},
				MTU: mtu, MTULock: true, Scope: netlink.SCOPE_LINK,
			}
			if err := h.RouteReplace(narrow); err != nil {
				t.Fatal("narrowing the path: ", err)
			}
			web.want(t, "ok", order{Do: "dial", ID: id + 1, Network: "tcp", Address: at(f.server, testutil.EchoPort)})
			web.want(t, "ok", order{Do: "echo", ID: id + 1, Bytes: 1 << 18})
			web.want(t, "1300", order{Do: "value", ID: id + 1, Level: level, Option: path})
		})
	}
	s.expectNoForeign(t)
}

// TestDenied: what the policy denies fails, and nothing of it reaches the server or the gate.
func TestDenied(t *testing.T) {
	s := newScene(t, 0)
	web, locked := newInsider(t, s.web), newInsider(t, s.locked)
	prog := victim.Build(t)
	for _, f := range s.families() {
		t.Run(f.name, func(t *testing.T) {
			web.want(t, "EPERM", order{Do: "dial", Network: "tcp", Address: at(f.server, 22)})
			web.want(t, "EPERM", order{Do: "dial", Network: "udp", Address: at(f.node, testutil.EchoPort)})
			for _, network := range []string{"tcp", "udp"} {
				locked.want(t, "EPERM", order{Do: "dial", Network: network, Address: at(f.server, testutil.EchoPort)})
			}
			for _, attempt := range [][]string{
				{"sendto-udp", f.server.String(), "7777", "200"},
				{"ping", f.server.String()},
				{"ping-raw", f.server.String()},
				{"raw-udp", f.server.String(), "7777", f.pod.String()},
				{"fastopen", f.server.String(), "7777", "200"},
			} {
				if got := s.locked.Command(append([]string{prog, "--"}, attempt...)...).Run(t); got == attempt[0]+": ok" {
					t.Errorf("%v: %s", attempt, got)
				}
			}
		})
	}
	s.Echo.ExpectNone(t)
	s.expectNoForeign(t)
}

// TestUnasked: a datagram that may not come in is dropped, and does not close the way out to where it came from.
func TestUnasked(t *testing.T) {
	s := newScene(t, 0)
	web := newInsider(t, s.web)
	const port, peer = 9100, testutil.EchoPort + 1
	var server *net.UDPConn
	s.Server.Do(t, func() (err error) {
		server, err = net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(s.ServerAddr, peer)))
		return err
	})
	t.Cleanup(func() { _ = server.Close() }) // read only
	web.want(t, "ok", order{Do: "open", ID: 1, Port: port})
	if _, err := server.WriteToUDPAddrPort([]byte("unasked"), netip.AddrPortFrom(s.PodAddr, port)); err != nil {
		t.Fatal(err)
	}
	testutil.Eventually(t, "the verdict on a datagram that came in", func() error {
		for _, e := range s.seen(event.KindFlow) {
			if e.Call == event.CallPacketIn && e.Verdict == event.VerdictDeny {
				return nil
			}
		}
		return os.ErrNotExist
	})
	web.want(t, "ok", order{Do: "send", ID: 1, Address: at(s.ServerAddr, peer), Bytes: 100})
	if err := server.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if n, err := server.Read(make([]byte, 200)); err != nil || n != 100 {
		t.Errorf("the server got %d bytes: %v", n, err)
	}
	s.expectNoForeign(t)
}

// TestHost: a process of the node inside the pod's network namespace is judged as Host.
func TestHost(t *testing.T) {
	s := newScene(t, 0)
	s.swap(t, tcpRule+`
  - name: node
    processes: [{origins: [Host]}]
    action: Deny
`)
	web := newInsider(t, s.web)
	host := s.hostCommand(t, victim.Build(t), "--", "connect-tcp", s.ServerAddr.String(), "7777", "500")
	if got := host.Result(); got != "connect-tcp: EPERM" {
		t.Errorf("a process of the node: %s, want EPERM", got)
	}
	s.Echo.ExpectNone(t)
	web.want(t, "ok", order{Do: "dial", Network: "tcp", Address: at(s.ServerAddr, testutil.EchoPort)})
	testutil.Eventually(t, "being told of it", func() error {
		for _, e := range s.seen(event.KindConnect) {
			if e.Subject.Origin == event.OriginHost && e.Verdict == event.VerdictDeny {
				return nil
			}
		}
		return os.ErrNotExist
	})
}
