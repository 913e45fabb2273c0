package probes

import "github.com/sallyport/sallyport/probes/internal/attach"

// Finding is one thing of the kernel side that somebody has taken away or changed.
type Finding = attach.Finding

// Check finds what somebody has taken away from the kernel side, or changed, and puts it back: links that were detached or
// run another program, pins that were removed or replaced, the control entry. It is to be called a few times a second, by
// one goroutine, and costs two calls of stat, one look-up, and one call for each link of a cgroup or an interface. Without
// Config.Guard links are not looked at. Of the filters of clsact gate.Check does the same.
func (k *Kernel) Check() []Finding {
	if err := checkBPFFS(k.cfg.BPFFS); err != nil {
		// What is in force stays so while the agent runs: it has handles.
		return []Finding{{Thing: attach.ThingBPFFS, Name: k.cfg.BPFFS, Err: err}}
	}
	return append(k.maps.Check(), k.pins.Check()...)
}
