// Package gate attaches the packet programs: cgroup_skb on the workloads' cgroup, where flows are
// judged, and tc on the node's side of each governed veth, where packets without a judged flow end.
// It imports probes and its internals only.
package gate

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"

	"github.com/sallyport/sallyport/probes"
	"github.com/sallyport/sallyport/probes/event"
	"github.com/sallyport/sallyport/probes/internal/bpfobj"
)

// Gate owns the GATE programs.
type Gate struct {
	kernel *probes.Kernel
	tc     *ebpf.Collection
	hooks  []probes.Hook
	owned  bool // some program ties sockets to their processes

	mu     sync.Mutex
	veths  map[uint32]Veth // by ifindex, what this agent governs
	clsact map[uint32]bool // those where the programs are filters of clsact, without links
}

// Veth is the node's end of a governed pod's veth.
type Veth struct {
	Ifindex   uint32 // on the node; 0: the namespace has no gate
	NetNS     uint64 // cookie of the pod's network namespace
	Container uint64 // cgroup id whose pod-level rules judge the node's processes in there
}

// Attach puts the cgroup_skb programs in place and loads the tc programs for Govern. It comes after
// judge has attached its steps.
func Attach(k *probes.Kernel) (*Gate, error) {
	spec, err := bpfobj.LoadGateSKB()
	if err != nil {
		return nil, fmt.Errorf("reading gate programs: %w", err)
	}
	skb, err := k.Maps().Load(spec)
	if err != nil {
		return nil, fmt.Errorf("gate: %w", err)
	}
	defer skb.Close()
	g := &Gate{kernel: k, veths: map[uint32]Veth{}, clsact: map[uint32]bool{}}
	if g.owned, err = socketsAreOwned(k); err != nil {
		return nil, err
	}
	hook := probes.Hook{Name: "packet", Step: event.StepGate, Adopted: true}
	for name, attach := range map[string]ebpf.AttachType{
		"gate_skb_egress":  ebpf.AttachCGroupInetEgress,
		"gate_skb_ingress": ebpf.AttachCGroupInetIngress,
	} {
		adopted, err := k.Pins().Attach(name, skb.Programs[name], func(p *ebpf.Program) (link.Link, error) {
			return link.AttachCgroup(link.CgroupOptions{Path: k.CgroupRoot(), Attach: attach, Program: p})
		})
		if err != nil {
			return nil, fmt.Errorf("gate: %w", err)
		}
		hook.Programs = append(hook.Programs, name)
		hook.Adopted = hook.Adopted && adopted
	}
	g.hooks = append(g.hooks, hook)
	if err := k.GateInPlace(); err != nil {
		return nil, fmt.Errorf("gate: %w", err)
	}
	spec, err = bpfobj.LoadGateTC()
	if err != nil {
		return nil, fmt.Errorf("reading gate programs: %w", err)
	}
	if g.tc, err = k.Maps().Load(spec); err != nil {
		return nil, fmt.Errorf("gate: %w", err)
	}
	return g, nil
}

// socketsAreOwned reports whether a step of judge is in place that ties sockets to their processes. The
// step that only reports does not, and without owners the gate would drop every packet as Foreign.
func socketsAreOwned(k *probes.Kernel) (bool, error) {
	names, err := k.Pins().Names()
	if err != nil {
		return false, fmt.Errorf("gate: %w", err)
	}
	return slices.ContainsFunc(names, func(name string) bool {
		return name == "judge_lsm_created" || name == "judge_fentry_created" || name == "judge_cgroup_create"
	}), nil
}

// Hooks says what is in place; the veths are counted under tc.
func (g *Gate) Hooks() []probes.Hook {
	g.mu.Lock()
	defer g.mu.Unlock()
	gated := 0
	for _, v := range g.veths {
		if v.Ifindex != 0 {
			gated++
		}
	}
	tc := probes.Hook{Name: "veth", Step: event.StepGate, Programs: []string{fmt.Sprintf("gate_tc on %d veths", gated)}}
	if !g.owned {
		tc.NotStopped = []string{"anything: sockets are only reported, so that no packet can be told from a foreign one"}
	}
	return append(append([]probes.Hook{}, g.hooks...), tc)
}

// Govern makes a pod's network namespace governed: processes of the node inside it are Host, and
// with an interface its packets must have a judged flow. It is idempotent. Where sockets are only
// reported it fails open: the interface is not gated, and Hooks says so.
func (g *Gate) Govern(v Veth) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.owned {
		v.Ifindex = 0
	}
	// Who is denied is answered at the interface, once that can be: until then it is not known from inside.
	value := bpfobj.ABINetns{Container: v.Container, Ifindex: v.Ifindex}
	govern := func() error {
		if err := g.kernel.Maps().Map("netns_by_cookie").Put(v.NetNS, &value); err != nil {
			return fmt.Errorf("governing network namespace %d: %w", v.NetNS, err)
		}
		return nil
	}
	if v.Ifindex != 0 && g.veths[v.Ifindex] == v {
		value.Inside = inside(v.Ifindex)
		return govern()
	}
	if err := govern(); err != nil || v.Ifindex == 0 {
		return err
	}
	if err := g.attach(v.Ifindex); err != nil {
		return err
	}
	// The entry late: a program without it lets packets pass, so none is dropped half configured.
	if err := g.kernel.Maps().Map("gate_by_ifindex").Put(v.Ifindex, &bpfobj.ABIGate{Netns: v.NetNS}); err != nil {
		return fmt.Errorf("gating interface %d: %w", v.Ifindex, err)
	}
	if err := g.setSlot(v.Ifindex, v.NetNS); err != nil {
		return err
	}
	value.Inside = inside(v.Ifindex)
	if err := govern(); err != nil {
		return err
	}
	g.veths[v.Ifindex] = v
	return nil
}

// inside is the index that the other end of an interface has in the pod. 0, where that cannot be told, means that what is
// denied there is dropped and not answered.
func inside(ifindex uint32) uint32 {
	l, err := netlink.LinkByIndex(int(ifindex))
	if err != nil || l.Type() != "veth" || l.Attrs().ParentIndex < 0 {
		return 0
	}
	return uint32(l.Attrs().ParentIndex)
}

// setSlot takes the slot of an interface where the gate looks first, or frees it with netns 0. A slot
// that another interface has taken stays that one's: the gate finds this one in gate_by_ifindex.
func (g *Gate) setSlot(ifindex uint32, netns uint64) error {
	m := g.kernel.Maps().Map("gate_slots")
	slot := ifindex % uint32(bpfobj.ABILimitsGATE_SLOTS)
	var held bpfobj.ABIGateSlot
	if err := m.Lookup(slot, &held); err != nil {
		return fmt.Errorf("reading gate slot %d: %w", slot, err)
	}
	if held.Ifindex != 0 && held.Ifindex != ifindex {
		return nil
	}
	held = bpfobj.ABIGateSlot{}
	if netns != 0 {
		held = bpfobj.ABIGateSlot{Netns: netns, Ifindex: ifindex}
	}
	if err := m.Put(slot, &held); err != nil {
		return fmt.Errorf("writing gate slot %d: %w", slot, err)
	}
	return nil
}

// attach puts both programs on an interface: tcx, or clsact where the kernel has no tcx.
func (g *Gate) attach(ifindex uint32) error {
	for _, d := range directions {
		_, err := g.kernel.Pins().Attach(pinName(d, ifindex), g.tc.Programs[d.program], func(p *ebpf.Program) (link.Link, error) {
			return link.AttachTCX(link.TCXOptions{Interface: int(ifindex), Program: p, Attach: d.tcx})
		})
		if errors.Is(err, ebpf.ErrNotSupported) {
			err = attachClsact(int(ifindex), d, g.tc.Programs[d.program])
			g.clsact[ifindex] = err == nil
		}
		if err != nil {
			return fmt.Errorf("gating interface %d: %w", ifindex, err)
		}
	}
	return nil
}

// Release takes a pod's namespace and interface out of government.
func (g *Gate) Release(v Veth) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	errs := []error{ignoreMissing(g.kernel.Maps().Map("netns_by_cookie").Delete(v.NetNS))}
	if v.Ifindex != 0 {
		errs = append(errs, g.setSlot(v.Ifindex, 0), ignoreMissing(g.kernel.Maps().Map("gate_by_ifindex").Delete(v.Ifindex)))
		for _, d := range directions {
			errs = append(errs, g.kernel.Pins().Detach(pinName(d, v.Ifindex)), detachClsact(int(v.Ifindex), d))
		}
		g.drop(v.Ifindex)
	}
	return errors.Join(errs...)
}

// drop forgets an interface.
func (g *Gate) drop(ifindex uint32) {
	delete(g.veths, ifindex)
	delete(g.clsact, ifindex)
}

func ignoreMissing(err error) error {
	if errors.Is(err, ebpf.ErrKeyNotExist) {
		return nil
	}
	return err
}

// Sweep removes what interfaces that no longer exist have left behind: their pods went while no agent
// ran. Their filters went with them; their links and entries did not.
func (g *Gate) Sweep() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	gone, err := g.gone()
	if err != nil {
		return fmt.Errorf("sweeping gates: %w", err)
	}
	var errs []error
	for ifindex, netns := range gone {
		for _, d := range directions {
			errs = append(errs, g.kernel.Pins().Detach(pinName(d, ifindex)))
		}
		errs = append(errs, g.setSlot(ifindex, 0),
			ignoreMissing(g.kernel.Maps().Map("netns_by_cookie").Delete(netns)),
			ignoreMissing(g.kernel.Maps().Map("gate_by_ifindex").Delete(ifindex)))
		g.drop(ifindex)
	}
	return errors.Join(errs...)
}

// gone returns the interfaces that have an entry or a link and do not exist, with the cookie of the
// network namespace that they were the gate of; 0 when only the link is left.
func (g *Gate) gone() (map[uint32]uint64, error) {
	gone := map[uint32]uint64{}
	names, err := g.kernel.Pins().Names()
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		for _, d := range directions {
			text, ok := strings.CutPrefix(name, d.program+"_")
			if !ok {
				continue
			}
			if ifindex, err := strconv.ParseUint(text, 10, 32); err == nil {
				gone[uint32(ifindex)] = 0
			}
		}
	}
	var (
		ifindex uint32
		entry   bpfobj.ABIGate
	)
	it := g.kernel.Maps().Map("gate_by_ifindex").Iterate()
	for it.Next(&ifindex, &entry) {
		gone[ifindex] = entry.Netns
	}
	if err := it.Err(); err != nil {
		return nil, fmt.Errorf("listing gates: %w", err)
	}
	links, err := netlink.LinkList()
	if err != nil {
		return nil, fmt.Errorf("listing interfaces: %w", err)
	}
	for _, l := range links {
		delete(gone, uint32(l.Attrs().Index)) // positive by definition
	}
	return gone, nil
}

// Close releases the handles; what is attached stays.
func (g *Gate) Close() error {
	g.tc.Close()
	return nil
}

func pinName(d direction, ifindex uint32) string {
	return d.program + "_" + strconv.FormatUint(uint64(ifindex), 10)
}
