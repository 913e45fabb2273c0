package label

import (
	"testing"

	"github.com/sallyport/sallyport/probes/internal/bpfobj"
)

// TestIDsInside: ids have the numbers of the container's map, users and groups by themselves, and none outside of it.
func TestIDsInside(t *testing.T) {
	var ids bpfobj.ABIIdMap
	set := func(i int, first, lower, count uint32) {
		ids.Extent[i].First, ids.Extent[i].Lower, ids.Extent[i].Count = first, lower, count
	}
	set(0, 0, 100000, 10)
	set(1, 10, 0xfffffff0, 5)
	set(int(bpfobj.ABIIdLimitsID_EXTENTS), 0, 200000, 1)
	l := &Label{ids: &ids}
	for _, tt := range []struct {
		read  func(uint32) (uint32, bool)
		id    uint32
		want  uint32
		known bool
	}{
		{l.User, 100000, 0, true},
		{l.User, 100009, 9, true},
		{l.User, 100010, 0, false},
		{l.User, 0xfffffff4, 14, true},
		{l.User, 0, 0, false},
		{l.User, 200000, 0, false},
		{l.Group, 200000, 0, true},
		{l.Group, 200001, 0, false},
		{(&Label{}).User, 7, 7, true},
	} {
		if got, known := tt.read(tt.id); got != tt.want || known != tt.known {
			t.Errorf("%d is %d, %t, want %d, %t", tt.id, got, known, tt.want, tt.known)
		}
	}
}
