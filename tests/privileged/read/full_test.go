package read

import (
	"net/netip"
	"os"
	"testing"

	"github.com/sallyport/sallyport/probes/event"
	"github.com/sallyport/sallyport/tests/testutil/attached"
)

// busyAt is the offset of struct request_room's busy.
const busyAt = 12

// What the kernel may keep with a socket, in bytes.
const (
	ownerOnly   = 1152  // who made it
	requestsToo = 4096  // and how far its requests are read
	http2Too    = 7552  // and the state of HTTP/2
	beforeToo   = 10240 // and that of before, but not the text of its table
)

// TestNoRoomForRequests: where requests are being read on every place of every CPU, none passes; what is free again lets
// pass what comes again.
func TestNoRoomForRequests(t *testing.T) {
	s := newScene(t, "Enforce")
	rooms := attached.Own(t, s.node, "gate_skb_egress", "request_rooms")
	s.noneWhile(t, "read_busy", func() (free func()) { return attached.Busy(t, rooms, busyAt) })
	s.noneWhile(t, "read_busy", func() (free func()) { return attached.Busy(t, rooms, busyAt) }, "--http2-prior-knowledge")
}

// TestNoMemoryForRequests: where it cannot be kept with a socket how far its requests are read, none passes.
func TestNoMemoryForRequests(t *testing.T) {
	s := newScene(t, "Enforce")
	s.noneWhile(t, "socket_storage", func() (free func()) { return s.Pod.LimitOptions(t, ownerOnly) })
}

// TestNoMemoryForHTTP2: nor where the state of HTTP/2 cannot.
func TestNoMemoryForHTTP2(t *testing.T) {
	s := newScene(t, "Enforce")
	s.noneWhile(t, "socket_storage", func() (free func()) { return s.Pod.LimitOptions(t, requestsToo) }, "--http2-prior-knowledge")
}

// TestNoMemoryForHTTP2AtItsServer: nor, coming in, where that cannot be kept from which it is to be read again.
func TestNoMemoryForHTTP2AtItsServer(t *testing.T) {
	s := newScene(t, "Enforce")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	s.serveInside(t, self, inPort)
	to := netip.AddrPortFrom(s.PodAddr, inPort)
	awaitServer(t, s.Server, to)
	h := newH2(true)
	first, second := h.take(firstStream, "GET", "/open"), h.take(secondStream, "GET", "/open")
	both := conversation{Pieces: []string{first, second}, Wait: true, Back: first + second}
	refused := both
	refused.Back, refused.Ends = first, reset
	for _, c := range []struct {
		conversation
		room int
	}{
		{conversation{Pieces: []string{first}, Ends: reset}, requestsToo},
		{refused, http2Too},
		{both, beforeToo},
	} {
		free := s.Pod.LimitOptions(t, c.room)
		s.Server.Do(t, func() error {
			if wrong := c.hold(to.String()); wrong != "" {
				t.Errorf("with %d bytes: %s", c.room, wrong)
			}
			return nil
		})
		free()
		s.awaitEnds(t)
	}
	s.events.Counted(t, "socket_storage")
	s.await(t, func(e event.Event) bool { return e.Flaw == event.FlawUnread && e.Verdict == event.VerdictDeny })
}

// TestNoMemoryForText: what TCP did not take is not read again where the text of HPACK's table is not to be had that was there before.
func TestNoMemoryForText(t *testing.T) {
	s := newScene(t, "Enforce")
	free := s.Pod.LimitOptions(t, beforeToo)
	a := fullTable()
	a.more, a.back, a.ends = "", "", reset
	s.sayAgain(t, a)
	free()
	s.events.Counted(t, "socket_storage")
	s.await(t, func(e event.Event) bool { return e.Flaw == event.FlawUnread && e.Verdict == event.VerdictDeny })
	s.awaitEnds(t)
	s.sayAgain(t, fullTable())
	s.awaitEnds(t)
}

// noneWhile checks that no request passes while something lacks, which is counted at a site. more are arguments of curl.
func (s *scene) noneWhile(t *testing.T, site string, lack func() (free func()), more ...string) {
	t.Helper()
	land := at(s.ServerAddr) + "/v1/request-landing"
	args := append([]string{"-XPOST", land}, more...)
	s.requests() // of the time before
	free := lack()
	if text, code := s.curl(t, args...); code == 0 {
		t.Errorf("an allowed request that nobody could read: curl got %q", text)
	}
	if seen := s.requests(); seen != "" {
		t.Errorf("the server saw %q", seen)
	}
	s.events.Counted(t, site)
	free()
	if text, code := s.curl(t, args...); code != 0 || text != "Ship landed" {
		t.Errorf("an allowed request: curl ended with %d and %q", code, text)
	}
}
