package daemon

import (
	"github.com/sirupsen/logrus"

	"github.com/sallyport/sallyport/probes/event"
	"github.com/sallyport/sallyport/probes/label"
	"github.com/sallyport/sallyport/runtime/identity"
	"github.com/sallyport/sallyport/runtime/procfs"
)

// scanRounds bounds how often /proc is read at start. A process that forks while it is read may leave
// a child without a label; the next round finds it, and once its parent is labelled there are no more.
const scanRounds = 8

// scan labels, once, what is older than the LABEL programs, and in units what was there before these were known. It returns
// false when it must be tried again: until then such processes are judged as Unknown or not at all, and that is told.
func (e *engine) scan() bool {
	first := !e.scanned && e.listed
	if !first && !e.units.found {
		return true
	}
	if err := e.confirmCgroups(); err != nil {
		e.log.WithError(err).Error("running containers could not be listed")
		return false
	}
	var total, sockets uint64
	for range scanRounds {
		found, err := e.infer(first)
		if err != nil {
			e.log.WithError(err).Error("running processes could not be labelled")
			return false
		}
		threads, owned, err := e.a.label.Infer(found)
		if err != nil {
			e.log.WithError(err).Error("running processes could not be labelled")
			return false
		}
		total, sockets = total+threads, sockets+owned
		if threads == 0 {
			break
		}
	}
	e.scanned, e.units.found = e.scanned || first, false
	e.log.WithFields(logrus.Fields{"threads": total, "sockets": sockets}).Info("running processes are labelled")
	return true
}

// confirmCgroups tells the kernel of the containers that were made before its programs were there.
func (e *engine) confirmCgroups() error {
	found, err := e.a.cgroups.Containers(e.a.cfg.Runtime.ContainerParents)
	if err != nil {
		return err
	}
	for _, c := range found {
		if err := e.a.label.Confirm(c.ID, true); err != nil {
			return err
		}
		e.workloads.cgroup(event.Event{Subject: event.Subject{Container: c.ID}, Path: c.Path})
	}
	return nil
}

// infer reads /proc and says what it proves of the processes of every unit, and if containers, of every container.
func (e *engine) infer(containers bool) ([]label.Inferred, error) {
	snapshot, err := e.a.proc.Snapshot()
	if err != nil {
		return nil, err
	}
	exe := map[uint32]string{}
	for i := range snapshot {
		exe[snapshot[i].PID] = snapshot[i].Exe
	}
	out := e.workloads.inferUnits(snapshot)
	if !containers {
		return out, nil
	}
	for id, g := range e.workloads.byCgroup {
		if g.container.Type == identity.TypeUnit {
			continue
		}
		for _, p := range procfs.Infer(snapshot, procfs.Query{Cgroup: g.container.CgroupPath, InitPID: g.container.InitPID}) {
			out = append(out, label.Inferred{
				PID: p.PID, StartTicks: p.StartTicks, Container: id, Origin: origin(p.Origin),
				Session: uint64(p.SessionRootPID)<<32 | p.SessionStart&0xffffffff, Exe: exe[p.PID],
			})
		}
	}
	return out, nil
}

func origin(o procfs.Origin) event.Origin {
	switch o {
	case procfs.Main:
		return event.OriginMain
	case procfs.Exec:
		return event.OriginExec
	case procfs.Unknown:
	}
	return event.OriginUnknown
}
