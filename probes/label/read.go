package label

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/probes/event"
	"github.com/sallyport/sallyport/probes/internal/bpfobj"
)

// What Read can find instead of a label.
var (
	ErrNoProcess = errors.New("there is no such process")
	ErrThread    = errors.New("it is a thread, and no process has that number")
	ErrNoLabel   = errors.New("it has no label: it is in no container, and in no unit of the node that policies select, so nothing of it is judged")
)

// Label is what the kernel knows of a process, as of its first thread.
type Label struct {
	Container  uint64 // cgroup id
	Session    uint64 // 0: none
	Exec       uint64 // number of the program's execution
	Origin     event.Origin
	Joining    bool   // it has entered its container and has not executed the workload yet: nothing is judged
	Inferred   bool   // /proc told of it: it is older than the agent
	Truncated  bool   // Exe or Script is cut or not known
	Scriptless bool   // which script it runs is not known
	Exe        string // as its container calls the file; hostile text, as Script
	Script     string

	ids *bpfobj.ABIIdMap // nil: the node's numbers are the container's
}

// Read returns the label of a running process, by its number in the agent's own PID namespace. Its errors wrap ErrNoProcess,
// ErrThread and ErrNoLabel.
func (l *Labeller) Read(pid uint32) (*Label, error) {
	// A handle stays one process's: the number may become another's while the kernel looks.
	fd, err := unix.PidfdOpen(int(pid), 0)
	switch {
	case errors.Is(err, unix.ESRCH):
		err = ErrNoProcess
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOENT): // the latter from 6.9 on
		err = ErrThread
	}
	if err != nil {
		return nil, fmt.Errorf("looking for process %d: %w", pid, err)
	}
	defer func() { _ = unix.Close(fd) }() // it was only looked at
	var raw bpfobj.ABILabel
	err = l.kernel.Maps().Map("label_by_task").Lookup(uint32(fd), &raw) // a descriptor is not negative
	switch {
	case errors.Is(err, ebpf.ErrKeyNotExist) && unix.PidfdSendSignal(fd, 0, nil, 0) != nil, errors.Is(err, unix.ESRCH):
		err = ErrNoProcess // its task is gone, and its label with it
	case errors.Is(err, ebpf.ErrKeyNotExist):
		err = ErrNoLabel
	}
	if err != nil {
		return nil, fmt.Errorf("reading the label of process %d: %w", pid, err)
	}
	return l.label(&raw)
}

// label is what the kernel keeps, in words.
func (l *Labeller) label(raw *bpfobj.ABILabel) (*Label, error) {
	has := func(f bpfobj.ABILabelFlags) bool { return raw.Flags&uint32(f) != 0 }
	out := &Label{
		Container: raw.Container, Session: raw.Session, Exec: raw.Exec, Origin: event.Origin(raw.Origin), // of enum origin, below 256
		Joining: has(bpfobj.ABILabelFlagsLABEL_JOINING), Inferred: has(bpfobj.ABILabelFlagsLABEL_INFERRED),
		Truncated: has(bpfobj.ABILabelFlagsLABEL_TRUNCATED), Scriptless: has(bpfobj.ABILabelFlagsLABEL_SCRIPTLESS),
		Exe: unix.ByteSliceToString(raw.Exe[:]), Script: unix.ByteSliceToString(raw.Script[:]),
	}
	if !has(bpfobj.ABILabelFlagsLABEL_MAPPED) {
		return out, nil
	}
	out.ids = &bpfobj.ABIIdMap{}
	err := l.kernel.Maps().Map("ids_by_container").Lookup(raw.Container, out.ids)
	if err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) { // without an entry no id has a name, as in the kernel
		return nil, fmt.Errorf("reading the ids of container %d: %w", raw.Container, err)
	}
	return out, nil
}

// User is a user id of the node as the process's container calls it; false: it has no number there.
func (l *Label) User(id uint32) (uint32, bool) { return l.inside(int(bpfobj.ABIIdKindsID_USER), id) }

// Group is the same for a group id.
func (l *Label) Group(id uint32) (uint32, bool) { return l.inside(int(bpfobj.ABIIdKindsID_GROUP), id) }

// inside is id_inside of bpf/include/lib/select.h.
func (l *Label) inside(kind int, id uint32) (uint32, bool) {
	if l.ids == nil {
		return id, true
	}
	const extents = int(bpfobj.ABIIdLimitsID_EXTENTS)
	for _, e := range l.ids.Extent[kind*extents : (kind+1)*extents] {
		if id-e.Lower < e.Count {
			return e.First + (id - e.Lower), true
		}
	}
	return 0, false
}

// MostGroups is how many supplementary groups rules are asked about: one more, and none is known.
const MostGroups = int(bpfobj.ABIIdLimitsID_GROUPS)
