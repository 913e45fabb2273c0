package gate

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// direction is one side of the node's end of a veth.
type direction struct {
	program string
	tcx     ebpf.AttachType
	parent  uint32 // clsact
}

// directions as the interface on the node sees them: what enters it leaves the pod.
var directions = [...]direction{ //nolint:gochecknoglobals // a constant table
	{program: "gate_tc_from_pod", tcx: ebpf.AttachTCXIngress, parent: netlink.HANDLE_MIN_INGRESS},
	{program: "gate_tc_to_pod", tcx: ebpf.AttachTCXEgress, parent: netlink.HANDLE_MIN_EGRESS},
}

// The place of our filter among others: first, with a handle of our own, so that replacing it is one
// step and another agent start finds it.
const (
	filterPriority = 1
	filterHandle   = 0x5a11
)

func filterOf(ifindex int, d direction) *netlink.BpfFilter {
	return &netlink.BpfFilter{
		FilterAttrs: netlink.FilterAttrs{
			LinkIndex: ifindex,
			Parent:    d.parent,
			Handle:    filterHandle,
			Protocol:  unix.ETH_P_ALL,
			Priority:  filterPriority,
		},
		Name:         d.program,
		DirectAction: true,
	}
}

// attachClsact attaches a program as a direct-action filter (Linux 4.5), for kernels without tcx
// (before 6.6). A filter of ours that is there is replaced in one step.
func attachClsact(ifindex int, d direction, prog *ebpf.Program) error {
	qdisc := &netlink.GenericQdisc{
		QdiscAttrs: netlink.QdiscAttrs{LinkIndex: ifindex, Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_CLSACT},
		QdiscType:  "clsact",
	}
	if err := netlink.QdiscAdd(qdisc); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("adding clsact: %w", lacking(err, "sch_ingress"))
	}
	filter := filterOf(ifindex, d)
	filter.Fd = prog.FD()
	if err := netlink.FilterReplace(filter); err != nil {
		return fmt.Errorf("adding filter %s: %w", d.program, lacking(err, "cls_bpf"))
	}
	return nil
}

// lacking says what an error means that a kernel without a module gives, which it would have loaded by itself.
func lacking(err error, module string) error {
	if errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("%w: the kernel has no tcx (6.6) and cannot load the module %s", err, module)
	}
	return err
}

// detachClsact removes our filter; none, or no interface, is no error.
func detachClsact(ifindex int, d direction) error {
	err := netlink.FilterDel(filterOf(ifindex, d))
	if err == nil || errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENODEV) {
		return nil
	}
	return fmt.Errorf("removing filter %s: %w", d.program, err)
}

// Cleanup removes the filters from every interface of the node. The programs attached by tcx go with
// their pins.
func Cleanup() error {
	links, err := netlink.LinkList()
	if err != nil {
		return fmt.Errorf("listing interfaces: %w", err)
	}
	var errs []error
	for _, l := range links {
		for _, d := range directions {
			errs = append(errs, detachClsact(l.Attrs().Index, d))
		}
	}
	return errors.Join(errs...)
}
