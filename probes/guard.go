package probes

import (
	"errors"
	"fmt"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/probes/internal/attach"
)

// Protect marks a process, by its number in the caller's PID namespace, as the agent that Config.ProtectRefuse is about. The
// mark goes with the process.
func (k *Kernel) Protect(pid int) (err error) {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return fmt.Errorf("protecting process %d: %w", pid, os.NewSyscallError("pidfd_open", err))
	}
	defer func() { err = errors.Join(err, unix.Close(fd)) }()
	if err := k.maps.Map("agent_by_task").Put(uint32(fd), uint32(1)); err != nil { // not negative
		return fmt.Errorf("protecting process %d: %w", pid, err)
	}
	return nil
}

// Finding is one thing of the kernel side that somebody has taken away or changed.
type Finding = attach.Finding

// Check finds what somebody has taken away from the kernel side, or changed, and puts it back: links that were detached or
// run another program, pins that were removed or replaced, the control entry, the switch of ftrace. It is to be called a few times a
// second, by one goroutine, and costs two calls of stat, one small file, one look-up, and one call for each link of a cgroup or an interface. Without
// Config.Guard links are not looked at. Of the filters of clsact gate.Check does the same.
func (k *Kernel) Check() []Finding {
	if err := checkBPFFS(k.cfg.BPFFS); err != nil {
		// What is in force stays so while the agent runs: it has handles.
		return []Finding{{Thing: attach.ThingBPFFS, Name: k.cfg.BPFFS, Err: err}}
	}
	return slices.Concat(k.checkFtrace(), k.maps.Check(), k.pins.Check())
}
