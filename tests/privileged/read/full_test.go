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
	land := at(s.ServerAddr) + "/v1/request-landing"
	free := attached.Busy(t, rooms, busyAt)
	if text, code := s.curl(t, "-XPOST", land); code == 0 {
		t.Errorf("an allowed request that nobody could read: curl got %q", text)
	}
	if seen := s.requests(); seen != "" {
		t.Errorf("the server saw %q", seen)
	}
	s.events.Counted(t, "read_busy")
	free()
	if text, code := s.curl(t, "-XPOST", land); code != 0 || text != "Ship landed" {
		t.Errorf("an allowed request: curl ended with %d and %q", code, text)
	}
}
