package inventory

import (
	"errors"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"

	"github.com/sallyport/sallyport/tests/testutil"
)

// interfaces lists the programs at the interfaces of a network namespace: those of tcx, where the kernel has it (6.6), and
// filters.
func (i Inventory) interfaces(t testing.TB, at *testutil.NetNS) {
	t.Helper()
	h := at.Handle(t)
	links, err := h.LinkList()
	if err != nil {
		t.Fatal("listing interfaces: ", err)
	}
	for _, l := range links {
		at.Do(t, func() error {
			return errors.Join(i.tcx(l, ebpf.AttachTCXIngress), i.tcx(l, ebpf.AttachTCXEgress))
		})
		for _, parent := range []uint32{netlink.HANDLE_MIN_INGRESS, netlink.HANDLE_MIN_EGRESS} {
			filters, err := h.FilterList(l, parent)
			if err != nil {
				t.Fatalf("listing filters of %s: %v", l.Attrs().Name, err)
			}
			for _, f := range filters {
				i.add("filter", l.Attrs().Name, f.Type())
			}
		}
	}
}

func (i Inventory) tcx(l netlink.Link, at ebpf.AttachType) error {
	found, err := link.QueryPrograms(link.QueryOptions{Target: l.Attrs().Index, Attach: at})
	if errors.Is(err, ebpf.ErrNotSupported) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, p := range found.Programs {
		i.add("attached", p.ID, at.String()+"-of-"+l.Attrs().Name)
	}
	return nil
}
