package alert

import (
	"strconv"

	"github.com/sallyport/sallyport/probes/event"
)

// tamper is about what enforces: what somebody took away or changed, or what a process tried.
func (r *Record) tamper() string {
	e := &r.Event
	switch {
	case e.Call == event.CallNone && e.Removed:
		return words("somebody has tampered with what enforces, and it could not be put back:", Escape(e.Site))
	case e.Call == event.CallNone:
		return words("somebody has tampered with what enforces; it was put back:", Escape(e.Site))
	}
	by := "by somebody"
	if hasSubject(r) {
		by = words("by", who(r))
	}
	line := words(verb(e), reached(e), by, r.where())
	if e.Verdict == event.VerdictAudit && e.Would != event.VerdictNone {
		line += ", would get " + VerdictName(e.Would)
	}
	return line + ": " + why(r)
}

// reached is what a process tried against the agent.
func reached(e *event.Event) string {
	switch e.Call {
	case event.CallTrace:
		return "reaching into the agent"
	case event.CallSignal:
		return "signal " + strconv.FormatUint(uint64(e.Signal), 10) + " to the agent"
	case event.CallLimit:
		return "changing a limit of the agent"
	case event.CallBPF:
		return words("call of bpf", Escape(e.Site))
	default:
		return CallName(e.Call)
	}
}
