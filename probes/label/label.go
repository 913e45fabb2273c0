// Package label attaches the programs that give every task of a container its label, confirms
// containers that the kernel has seen, and labels what is older than the agent. It imports probes and
// its internals only.
package label

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"

	"github.com/sallyport/sallyport/probes"
	"github.com/sallyport/sallyport/probes/event"
	"github.com/sallyport/sallyport/probes/internal/bpfobj"
)

// programs in the order they are attached: exec and exit before fork, so that no label is inherited
// that would not be kept up to date, and cgroups, where labels begin, last.
var programs = []string{"label_exec", "label_exit", "label_fork", "label_cgroup_rmdir", "label_cgroup_attach", "label_cgroup_mkdir"}

// Labeller owns the LABEL programs.
type Labeller struct {
	kernel *probes.Kernel
	hook   probes.Hook
}

// Attach puts the LABEL programs in place, or adopts them. Without them nothing can be judged, so an
// error here is final.
func Attach(k *probes.Kernel) (*Labeller, error) {
	spec, err := bpfobj.LoadLabelTask()
	if err != nil {
		return nil, fmt.Errorf("reading label programs: %w", err)
	}
	coll, err := k.Maps().Load(spec)
	if err != nil {
		return nil, fmt.Errorf("label: %w", err)
	}
	defer coll.Close()
	l := &Labeller{kernel: k, hook: probes.Hook{Name: "label", Programs: programs, Adopted: true}}
	for _, name := range programs {
		adopted, err := k.Pins().Attach(name, coll.Programs[name], func(p *ebpf.Program) (link.Link, error) {
			return link.AttachTracing(link.TracingOptions{Program: p})
		})
		if err != nil {
			return nil, fmt.Errorf("label: %w", err)
		}
		l.hook.Adopted = l.hook.Adopted && adopted
	}
	return l, nil
}

// Hook says what is in place.
func (l *Labeller) Hook() probes.Hook { return l.hook }

// Confirm tells the kernel that a cgroup is a container's, if it does not know. running: its
// entrypoint runs, so whoever joins now is a session. What the kernel has seen itself is left alone.
func (l *Labeller) Confirm(cgroup uint64, running bool) error { return l.confirm(cgroup, running, 0) }

// ConfirmUnit is the same for a unit: a cgroup of the node itself that policies select.
func (l *Labeller) ConfirmUnit(cgroup uint64, running bool) error {
	return l.confirm(cgroup, running, bpfobj.ABIContainerFlagsCONTAINER_UNIT)
}

func (l *Labeller) confirm(cgroup uint64, running bool, flags bpfobj.ABIContainerFlags) error {
	c := bpfobj.ABIContainer{Flags: uint32(flags)}
	if running {
		c.Flags |= uint32(bpfobj.ABIContainerFlagsCONTAINER_JOINED)
	}
	err := l.kernel.Maps().Map("container_by_cgroup").Update(cgroup, &c, ebpf.UpdateNoExist)
	if err != nil && !errors.Is(err, ebpf.ErrKeyExist) {
		return fmt.Errorf("confirming container %d: %w", cgroup, err)
	}
	return nil
}

// Forget removes a container whose cgroup is gone.
func (l *Labeller) Forget(cgroup uint64) error {
	err := l.kernel.Maps().Map("container_by_cgroup").Delete(cgroup)
	if err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return fmt.Errorf("forgetting container %d: %w", cgroup, err)
	}
	return l.SetProbes(cgroup, nil)
}

// ErrProbes is wrapped where commands cannot be compared in the kernel: they are taken for Exec.
var ErrProbes = errors.New("taken for Exec")

// SetProbes replaces the commands by which execs of a container are Probe. Commands that are too many, too long or hold
// a NUL are left out; they are taken for Exec (fails closed), and the error says so.
func (l *Labeller) SetProbes(cgroup uint64, commands [][]string) error {
	m := l.kernel.Maps().Map("probe_by_slot")
	key, left := bpfobj.ABIProbeKey{Container: cgroup}, 0
	for _, argv := range commands {
		value, ok := probeValue(argv)
		if !ok || key.Slot == uint32(bpfobj.ABIProbeLimitsPROBE_SLOTS) {
			left++
			continue
		}
		if err := m.Put(&key, value); err != nil {
			return fmt.Errorf("setting the probes of container %d: %w", cgroup, err)
		}
		key.Slot++
	}
	for ; key.Slot < uint32(bpfobj.ABIProbeLimitsPROBE_SLOTS); key.Slot++ {
		if err := m.Delete(&key); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return fmt.Errorf("removing a probe of container %d: %w", cgroup, err)
		}
	}
	if left > 0 {
		return fmt.Errorf("%d of %d probe commands are too many or too long to compare: %w", left, len(commands), ErrProbes)
	}
	return nil
}

// probeValue is a command as the kernel compares it: its arguments as a process has them in its memory.
func probeValue(argv []string) (*bpfobj.ABIProbe, bool) {
	var text []byte
	for _, arg := range argv {
		if strings.IndexByte(arg, 0) >= 0 {
			return nil, false
		}
		text = append(append(text, arg...), 0)
	}
	v := &bpfobj.ABIProbe{Len: uint64(len(text))}
	if len(argv) == 0 || len(text) > int(bpfobj.ABIProbeLimitsPROBE_LEN) {
		return nil, false
	}
	for i, b := range text {
		v.Args[i/8] |= uint64(b) << (i % 8 * 8) // the objects are for little-endian machines
	}
	return v, true
}

// Containers lists the containers that the kernel knows, by cgroup id; units among them.
func (l *Labeller) Containers() ([]uint64, error) {
	return l.list(func(bpfobj.ABIContainer) bool { return true })
}

// Units lists the units that the kernel knows, by cgroup id.
func (l *Labeller) Units() ([]uint64, error) {
	return l.list(func(c bpfobj.ABIContainer) bool { return c.Flags&uint32(bpfobj.ABIContainerFlagsCONTAINER_UNIT) != 0 })
}

func (l *Labeller) list(want func(bpfobj.ABIContainer) bool) ([]uint64, error) {
	var (
		id  uint64
		c   bpfobj.ABIContainer
		out []uint64
	)
	it := l.kernel.Maps().Map("container_by_cgroup").Iterate()
	for it.Next(&id, &c) {
		if want(c) {
			out = append(out, id)
		}
	}
	if err := it.Err(); err != nil {
		return nil, fmt.Errorf("listing containers: %w", err)
	}
	return out, nil
}

// Inferred is what /proc told of a process that is older than the agent.
type Inferred struct {
	PID        uint32 // thread group id in the initial PID namespace
	StartTicks uint64 // field 22 of /proc/PID/stat: clock ticks since boot
	Container  uint64 // cgroup id
	Unit       bool   // it is a unit's
	Origin     event.Origin
	Session    uint64 // for Exec: any number that its processes share
	Exe        string // as the process sees it; "" or too long: not known, which fails closed
}

// inferredIDs keeps ids made in user space apart from the kernel's, which count from 1.
const inferredIDs = uint64(1) << 63

// Infer labels running processes, all their threads, and gives their sockets an owner. It returns how
// many threads were labelled and how many sockets got an owner. What has a label keeps it.
func (l *Labeller) Infer(processes []Inferred) (threads, sockets uint64, err error) {
	spec, err := bpfobj.LoadLabelScan()
	if err != nil {
		return 0, 0, fmt.Errorf("reading scan programs: %w", err)
	}
	coll, err := l.kernel.Maps().Load(spec)
	if err != nil {
		return 0, 0, fmt.Errorf("label scan: %w", err)
	}
	defer coll.Close()
	table := coll.Maps["inferred_by_tgid"]
	for i := range processes {
		if err := table.Put(processes[i].PID, processes[i].kernel()); err != nil {
			return 0, 0, fmt.Errorf("handing over process %d: %w", processes[i].PID, err)
		}
	}
	for _, name := range []string{"label_scan_task", "label_scan_socket"} {
		if err := iterate(coll.Programs[name]); err != nil {
			return 0, 0, fmt.Errorf("running %s: %w", name, err)
		}
	}
	if err := coll.Variables["labelled_count"].Get(&threads); err != nil {
		return 0, 0, fmt.Errorf("reading scan result: %w", err)
	}
	if err := coll.Variables["owned_count"].Get(&sockets); err != nil {
		return 0, 0, fmt.Errorf("reading scan result: %w", err)
	}
	return threads, sockets, nil
}

// execID tells the process from every other that runs, by its lower 32 bits alone, which are all that the decision on a
// socket keeps of it (decision_word in bpf/include/lib/judge.h). Their highest is one that the kernel's count from 1
// does not come to.
func (p *Inferred) execID() uint64 {
	const ticks, counted = 0x7fffffff, uint64(1) << 31
	return inferredIDs | p.StartTicks&ticks<<32 | counted | uint64(p.PID)
}

// kernel is the label as the kernel stores it.
func (p *Inferred) kernel() *bpfobj.ABIInferred {
	v := &bpfobj.ABIInferred{StartTicks: p.StartTicks}
	v.Label.Container, v.Label.Origin, v.Label.Tgid = p.Container, uint32(p.Origin), p.PID
	v.Label.Exec = p.execID()
	v.Label.Actor = v.Label.Exec
	v.Label.Flags = uint32(bpfobj.ABILabelFlagsLABEL_INFERRED | bpfobj.ABILabelFlagsLABEL_SCRIPTLESS)
	if p.Unit {
		v.Label.Flags |= uint32(bpfobj.ABILabelFlagsLABEL_UNIT)
	}
	if p.Origin == event.OriginExec {
		v.Label.Session = inferredIDs | p.Session
	}
	if p.Exe == "" || len(p.Exe) >= len(v.Label.Exe) {
		v.Label.Flags |= uint32(bpfobj.ABILabelFlagsLABEL_TRUNCATED)
		return v
	}
	copy(v.Label.Exe[:], p.Exe)
	return v
}

// iterate runs an iterator program over everything once.
func iterate(prog *ebpf.Program) (err error) {
	it, err := link.AttachIter(link.IterOptions{Program: prog})
	if err != nil {
		return fmt.Errorf("attaching iterator: %w", err)
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	r, err := it.Open()
	if err != nil {
		return fmt.Errorf("opening iterator: %w", err)
	}
	_, err = io.Copy(io.Discard, r)
	return errors.Join(err, r.Close())
}
