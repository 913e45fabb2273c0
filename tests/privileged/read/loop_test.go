package read

import (
	"net/netip"
	"os"
	"structs"
	"testing"

	"github.com/sallyport/sallyport/probes/event"
	"github.com/sallyport/sallyport/runtime/netns"
)

// TestInsidePod: where no veth is on the way, a denied request is not answered, and reported with the socket whose
// connection is to be ended; then it ends for both.
func TestInsidePod(t *testing.T) {
	s := newScene(t, "Enforce")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	s.serveInside(t, self, loopPort)
	s.serveInside(t, self, inPort)
	for _, addr := range []netip.Addr{s.PodAddr, s.PodAddr6} {
		for _, at := range []struct {
			port uint16
			conversation
		}{
			{loopPort, conversation{Name: "denied to its client", Pieces: []string{"PUT /v1/exhaust-port HTTP/1.1\r\nHost: a\r\n\r\n"}, Ends: aborted}},
			{loopPort, conversation{Name: "WebSocket", Pieces: []string{"POST /v1/request-landing HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n"}, Ends: aborted}},
			{inPort, conversation{Name: "denied at its server", Pieces: []string{"GET /closed HTTP/1.1\r\nHost: a\r\n\r\n"}, Ends: reset}},
		} {
			c, to := at.conversation, netip.AddrPortFrom(addr, at.port)
			awaitServer(t, s.Pod, to)
			s.events.Reset()
			client := s.pod.Command(self, holdArg, to.String(), order(t, c))
			client.Start(t)
			e := s.await(t, func(e event.Event) bool { return e.Socket != 0 })
			if e.Verdict != event.VerdictDeny || e.Remote != to && e.Local != to {
				t.Errorf("%s: it is told as %+v", c.Name, e)
			}
			if err := netns.Abort(e.Subject.PID, e.NetNS, netns.Connection{Local: e.Local, Remote: e.Remote, Socket: e.Socket + 1}); err != nil {
				t.Errorf("%s: ending another's connection: %v", c.Name, err)
			}
			s.Pod.Do(t, func() error {
				open, err := openConnections()
				if err == nil && len(open) < 2 {
					t.Errorf("%s: of the connection there is only %q, though another's was to end", c.Name, open)
				}
				return err
			})
			if err := netns.Abort(e.Subject.PID, e.NetNS, netns.Connection{Local: e.Local, Remote: e.Remote, Socket: e.Socket}); err != nil {
				t.Errorf("%s: %v", c.Name, err)
			}
			if wrong := client.Result(); wrong != "" || !client.ProcessState.Success() {
				t.Errorf("at %s: %s%s", to, wrong, client.Complaint())
			}
			s.awaitEnds(t)
		}
	}
	for _, e := range s.events.Find(func(e event.Event) bool { return e.Kind == event.KindRequest && e.Verdict != event.VerdictDeny }) {
		if e.Socket != 0 {
			t.Errorf("the connection of an allowed request is to be ended: %+v", e)
		}
	}
}

// netNS is struct netns.
type netNS struct {
	_         structs.HostLayout
	Container uint64
	Ifindex   uint32
	Inside    uint32
}

// TestOtherDevice: where the pod is gated, and its other end of the veth is not known or not the one that packets leave by,
// what is allowed passes, and what is denied is not answered but reported to be ended.
func TestOtherDevice(t *testing.T) {
	s := newScene(t, "Enforce")
	m := s.kernel.Maps().Map("netns_by_cookie")
	cookie := s.Pod.Cookie(t)
	var n netNS
	if err := m.Lookup(cookie, &n); err != nil {
		t.Fatal(err)
	}
	if n.Inside == 0 || n.Ifindex == 0 {
		t.Fatalf("of the pod's namespace is known %+v", n)
	}
	for _, inside := range []uint32{0, n.Inside + 1} {
		n.Inside = inside
		if err := m.Put(cookie, &n); err != nil {
			t.Fatal(err)
		}
		if text, code := s.curl(t, "-XPOST", at(s.ServerAddr)+"/v1/request-landing"); code != 0 || text != "Ship landed" {
			t.Errorf("an allowed request: curl ended with %d and %q", code, text)
		}
		s.events.Reset()
		if text, code := s.curl(t, "--max-time", "1", "-XPUT", at(s.ServerAddr)+"/v1/exhaust-port"); code == 0 || text != "" {
			t.Errorf("a denied request: curl ended with %d and %q", code, text)
		}
		if e := s.await(t, func(e event.Event) bool { return e.Verdict == event.VerdictDeny }); e.Socket == 0 {
			t.Errorf("it is told as %+v", e)
		}
		if seen := s.requests(); seen != "POST /v1/request-landing" {
			t.Errorf("the server saw %q", seen)
		}
	}
}
