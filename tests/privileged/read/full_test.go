package read

import (
	"testing"

	"github.com/sallyport/sallyport/tests/testutil/attached"
)

// busyAt is the offset of struct request_room's busy.
const busyAt = 12

// TestNoRoomForRequests: where requests are being read on every place of every CPU, none passes; what is free again lets
// pass what comes again.
func TestNoRoomForRequests(t *testing.T) {
	s := newScene(t, "Enforce")
	rooms := attached.Own(t, s.node, "gate_skb_egress", "request_rooms")
	s.noneWhile(t, "read_busy", func() (free func()) { return attached.Busy(t, rooms, busyAt) })
}

// TestNoMemoryForRequests: where it cannot be kept with a socket how far its requests are read, none passes.
func TestNoMemoryForRequests(t *testing.T) {
	const owner = 1152 // bytes: enough for who made the socket
	s := newScene(t, "Enforce")
	s.noneWhile(t, "socket_storage", func() (free func()) { return s.Pod.LimitOptions(t, owner) })
}

// noneWhile checks that no request passes while something lacks, which is counted at a site.
func (s *scene) noneWhile(t *testing.T, site string, lack func() (free func())) {
	t.Helper()
	land := at(s.ServerAddr) + "/v1/request-landing"
	free := lack()
	if text, code := s.curl(t, "-XPOST", land); code == 0 {
		t.Errorf("an allowed request that nobody could read: curl got %q", text)
	}
	if seen := s.requests(); seen != "" {
		t.Errorf("the server saw %q", seen)
	}
	s.events.Counted(t, site)
	free()
	if text, code := s.curl(t, "-XPOST", land); code != 0 || text != "Ship landed" {
		t.Errorf("an allowed request: curl ended with %d and %q", code, text)
	}
}
