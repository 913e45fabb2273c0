package oracle

import (
	"testing"

	"github.com/cilium/ebpf"

	"github.com/sallyport/sallyport/policy"
)

// Ids of the node are those of a container from mappedFrom on, and nothing else has a number there.
const (
	mappedFrom  = 100_000
	mappedCount = 65_536
)

// putIDs writes the ids of a process as its task has them: in every other container those of a user namespace.
func (o *Oracle) putIDs(t testing.TB, l *KernelLabel, p policy.Process) {
	t.Helper()
	l.Ids = [2][3]uint32{p.User, p.Group}
	if l.GroupCount = uint32(len(p.Groups)); copy(l.Groups[:], p.Groups) < len(p.Groups) {
		t.Fatalf("a label does not hold the groups of %+v", p)
	}
	if l.Container%2 == 0 {
		l.Flags |= uint32(KernelLabelFlagsLABEL_MAPPED)
		outside(l.Ids[0][:])
		outside(l.Ids[1][:])
		outside(l.Groups[:l.GroupCount])
		m := extent{First: 0, Lower: mappedFrom, Count: mappedCount}
		put(t, o.kernel.Maps().Map("ids_by_container"), l.Container, [10]extent{1: m, 5: m})
	}
}

// extent is struct id_extent.
type extent struct{ First, Lower, Count uint32 }

// outside turns ids of a container into the node's.
func outside(ids []uint32) {
	for i, id := range ids {
		if id == policy.NoID {
			ids[i] = mappedFrom - 1 // just below what is mapped
			continue
		}
		ids[i] = mappedFrom + id
	}
}

func put(t testing.TB, m *ebpf.Map, key, value any) {
	t.Helper()
	if err := m.Put(key, value); err != nil {
		t.Fatal(err)
	}
}
