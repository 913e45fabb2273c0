package judge

import (
	"errors"
	"fmt"
	"unsafe"

	"github.com/cilium/ebpf"

	"github.com/sallyport/sallyport/probes"
	"github.com/sallyport/sallyport/probes/internal/bpfobj"
)

// Names takes out of the kernel what DNS has told containers and what is of no use any more. The
// kernel puts it in by itself.
type Names struct {
	sweep *ebpf.Program
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
	return &Names{sweep}, nil
}

// Swept is how much was taken out.
type Swept struct {
	Addresses, Names int
}

// Sweep takes out what has expired. A container that is told more between two sweeps than it may have
// is denied what is beyond (fails closed), so this is to be called every few seconds.
func (n *Names) Sweep() (Swept, error) { return n.run(0) }

// Forget takes out everything of a container that is gone.
func (n *Names) Forget(container uint64) error {
	if container == 0 {
		return errors.New("forgetting names: there is no container 0")
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

// Close releases the program; names stay.
func (n *Names) Close() error { return n.sweep.Close() }
