package label

import "testing"

// TestExecID: processes that run at the same time, begun in the same tick too, differ in what a socket keeps of them,
// from each other and from what the kernel has counted.
func TestExecID(t *testing.T) {
	seen := map[uint32]Inferred{}
	for _, p := range []Inferred{{PID: 1, StartTicks: 7}, {PID: 2, StartTicks: 7}, {PID: 4194304, StartTicks: 7}, {PID: 3, StartTicks: 1 << 40}} {
		id := p.execID()
		if id&inferredIDs == 0 {
			t.Errorf("the id %#x of %+v is one of the kernel's", id, p)
		}
		low := uint32(id)
		if low < 1<<31 {
			t.Errorf("the lower half of the id %#x of %+v is one that the kernel counts to", id, p)
		}
		if other, ok := seen[low]; ok {
			t.Errorf("a socket keeps the same of %+v and %+v", p, other)
		}
		seen[low] = p
	}
}
