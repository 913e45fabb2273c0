package gate

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/probes"
	"github.com/sallyport/sallyport/probes/internal/attach"
)

// listings is how often a list is asked for again that others were changing.
const listings = 5

// AllInterfaces in place of an index means every interface.
const AllInterfaces = 0

// Watch calls removed with the index of each interface of this network namespace that loses a queueing discipline or a
// filter, and with AllInterfaces when such news was lost, until ctx ends. Most of it is nobody's doing.
func Watch(ctx context.Context, removed func(ifindex uint32)) error {
	s, err := nl.Subscribe(unix.NETLINK_ROUTE, unix.RTNLGRP_TC)
	if err != nil {
		return fmt.Errorf("watching filters of interfaces: %w", err)
	}
	stop := context.AfterFunc(ctx, s.Close)
	defer func() {
		if stop() {
			s.Close()
		}
	}()
	for {
		messages, _, err := s.Receive()
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, unix.ENOBUFS):
			removed(AllInterfaces)
			continue
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return fmt.Errorf("watching filters of interfaces: %w", err)
		}
		for i := range messages {
			m := &messages[i]
			gone := m.Header.Type == unix.RTM_DELQDISC || m.Header.Type == unix.RTM_DELTFILTER
			if gone && len(m.Data) >= nl.SizeofTcMsg {
				removed(uint32(nl.DeserializeTcMsg(m.Data).Ifindex)) // positive
			}
		}
	}
}

// Check finds the filters that somebody has removed from a governed interface (AllInterfaces: from any), or replaced, and
// puts them back. Interfaces where the programs have links, which Kernel.Check looks after, and those that are gone, are
// passed over.
func (g *Gate) Check(ifindex uint32) []probes.Finding {
	g.mu.Lock()
	defer g.mu.Unlock()
	of := []uint32{ifindex}
	if ifindex == AllInterfaces {
		of = slices.Sorted(maps.Keys(g.clsact))
	}
	var found []probes.Finding
	for _, ifindex := range of {
		if !g.clsact[ifindex] {
			continue
		}
		for _, d := range directions {
			ok, err := runsFilter(ifindex, d, g.tc.Programs[d.program])
			if ok && err == nil {
				continue
			}
			if err == nil {
				err = attachClsact(int(ifindex), d, g.tc.Programs[d.program])
			}
			if errors.Is(err, unix.ENODEV) {
				break
			}
			found = append(found, probes.Finding{Thing: attach.ThingFilter, Name: pinName(d, ifindex), Err: err})
		}
	}
	return found
}

// runsFilter reports whether a program is our filter of an interface. One without the queueing discipline has no filters.
func runsFilter(ifindex uint32, d direction, prog *ebpf.Program) (bool, error) {
	info, err := prog.Info()
	if err != nil {
		return false, fmt.Errorf("reading program %s: %w", d.program, err)
	}
	id, _ := info.ID() // kernels with clsact have ids
	link := &netlink.GenericLink{LinkAttrs: netlink.LinkAttrs{Index: int(ifindex)}}
	filters, err := netlink.FilterList(link, d.parent)
	for i := 0; i < listings && errors.Is(err, netlink.ErrDumpInterrupted); i++ {
		filters, err = netlink.FilterList(link, d.parent)
	}
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("listing filters of interface %d: %w", ifindex, err)
	}
	return slices.ContainsFunc(filters, func(f netlink.Filter) bool {
		bpf, ok := f.(*netlink.BpfFilter)
		return ok && bpf.Handle == filterHandle && bpf.Priority == filterPriority && bpf.Id == int(id)
	}), nil
}
