package daemon

import "github.com/sallyport/sallyport/probes/event"

// kernelCgroup takes the news of a cgroup. It never blocks: what does not fit is missed.
func (e *engine) kernelCgroup(ev event.Event) {
	select {
	case e.cgroups <- ev:
	default:
		e.missedNews()
	}
}

// missedNews says that cgroups may have gone without news. Of those that came a runtime tells.
func (e *engine) missedNews() {
	select {
	case e.missed <- struct{}{}:
	default: // a look is to come already
	}
}

// cgroup takes what the kernel saw of a cgroup.
func (e *engine) cgroup(ev event.Event) {
	if ev.Unit {
		e.newUnit(ev)
		return
	}
	e.workloads.cgroup(ev)
	e.behind = true
}
