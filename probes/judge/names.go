package judge

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/probes"
	"github.com/sallyport/sallyport/probes/internal/bpfobj"
)

// Names is what DNS has told containers. The kernel puts it in by itself; Names takes out what is of no
// use any more, and reads.
type Names struct {
	sweep          *ebpf.Program
	byAddr, byHash *ebpf.Map // the kernel side's own, not closed here
	counts         *ebpf.Map // the same: of what each container has
}

// OpenNames loads the program that sweeps.
func OpenNames(k *probes.Kernel) (*Names, error) {
	spec, err := bpfobj.LoadNamesSweep()
	if err != nil {
		return nil, fmt.Errorf("reading the program that sweeps names: %w", err)
	}
	coll, err := k.Maps().Load(spec)
	if err != nil {
		return nil, fmt.Errorf("sweeping names: %w", err)
	}
	defer coll.Close()
	sweep, err := coll.Programs["names_sweep"].Clone()
	if err != nil {
		return nil, fmt.Errorf("keeping the program that sweeps names: %w", err)
	}
	return &Names{sweep, k.Maps().Map("names_by_addr"), k.Maps().Map("name_by_hash"), k.Maps().Map("names_of_cgrp")}, nil
}

// Swept is how much was taken out.
type Swept struct {
	Addresses, Names int
}

// Sweep takes out what has expired. A container that is told more between two sweeps than it may have
// is denied what is beyond (fails closed), so this is to be called every few seconds.
func (n *Names) Sweep() (Swept, error) { return n.run(0) }

// Forget takes out everything of a container that is gone. One that was never told anything is only looked up: a walk through all
// names takes a millisecond, and whoever may make cgroups can have containers go in any number.
func (n *Names) Forget(container uint64) error {
	if container == 0 {
		return errors.New("forgetting names: there is no container 0")
	}
	var count bpfobj.ABINameCount
	if err := n.counts.Lookup(container, &count); errors.Is(err, ebpf.ErrKeyNotExist) {
		return nil // each name and address is counted before it is there
	}
	_, err := n.run(container)
	return err
}

func (n *Names) run(container uint64) (Swept, error) {
	in := bpfobj.ABISweep{Container: container}
	out := make([]byte, unsafe.Sizeof(in))
	if _, err := n.sweep.Run(&ebpf.RunOptions{Context: &in, ContextOut: out}); err != nil {
		return Swept{}, fmt.Errorf("sweeping names: %w", err)
	}
	swept := (*bpfobj.ABISweep)(unsafe.Pointer(&out[0])) //nolint:gosec // the kernel wrote this struct
	return Swept{int(swept.Addresses), int(swept.Names)}, nil
}

// PeerName is the name by which DNS has told a container an address, in lower case without a dot at its
// end, or "" where none is known. Of several it is the one that is known longest. It is text of whoever
// answers queries, of at most 255 bytes, and says how a report calls the address: what a rule by name
// decides, only the kernel does. That it cannot be read costs a report its name and is no error.
func (n *Names) PeerName(container uint64, peer netip.Addr) string {
	var told bpfobj.ABITold
	if n.byAddr.Lookup(bpfobj.ABIToldKey{Container: container, Addr: peer.As16()}, &told) != nil {
		return "" // not told, as most addresses
	}
	way := told.Way[0]
	for _, other := range told.Way[1:] {
		if other.Expires > way.Expires {
			way = other
		}
	}
	return n.text(container, way.Hash, way.Serial)
}

// Told returns the names by which a container knows an address now, in the same form, none twice.
func (n *Names) Told(container uint64, peer netip.Addr) ([]string, error) {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &now); err != nil {
		return nil, fmt.Errorf("reading the clock of names: %w", err)
	}
	var told bpfobj.ABITold
	err := n.byAddr.Lookup(bpfobj.ABIToldKey{Container: container, Addr: peer.As16()}, &told)
	if errors.Is(err, ebpf.ErrKeyNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the names of %s: %w", peer, err)
	}
	var out []string
	for _, way := range told.Way {
		if way.Expires <= uint64(now.Nano()) { // since boot: not negative
			continue
		}
		if name := n.text(container, way.Hash, way.Serial); name != "" && !slices.Contains(out, name) {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out, nil
}

// text is the name of a way to an address; "" where it is not known any more.
func (n *Names) text(container, hash, serial uint64) string {
	var name bpfobj.ABIName
	if serial == 0 || n.byHash.Lookup(bpfobj.ABINameKey{Container: container, Hash: hash}, &name) != nil || name.Serial != serial {
		return "" // taken out just now, and maybe told anew
	}
	text, _, _ := bytes.Cut(name.Text[:], []byte{0})
	return string(text)
}

// Close releases the program; names stay.
func (n *Names) Close() error { return n.sweep.Close() }
