package ladder

import (
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/probes/event"
)

// reaches are the ways to reach for the agent, and the call that each is told as.
var reaches = []struct {
	line, refused string
	call          event.Call
}{
	{"reach ptrace AGENT", "EPERM", event.CallTrace},
	{"reach mem AGENT", "EACCES", event.CallTrace}, // what the kernel says of every refusal there
	{"limit AGENT", "EPERM", event.CallLimit},
	{"bpf map", "EPERM", event.CallBPF},
	{"bpf program", "EPERM", event.CallBPF},
	{"bpf link", "EPERM", event.CallBPF},
	{"bpf PINS/controls", "EPERM", event.CallBPF},
	{"bpf PINS/links/label_fork", "EPERM", event.CallBPF},
	{"bpf tracer", "EPERM", event.CallBPF},
	{"signal AGENT 23", "EPERM", event.CallSignal}, // SIGURG, which is ignored
	{"sigio AGENT", "EPERM", event.CallSignal},     // last: it ends the agent where it can
}

// asAgent is a process of the node that is protected as the agent.
func (r *rig) asAgent(t *testing.T) string {
	t.Helper()
	cmd := exec.Command(r.program, "sleep", "600000", "--", "socket", "unix", "stream")
	must(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // may have ended
		_ = cmd.Wait()         // by a signal
	})
	must(t, r.kernel.Protect(cmd.Process.Pid))
	return strconv.Itoa(cmd.Process.Pid)
}

// aim puts the agent into a line.
func (r *rig) aim(line, agent string) string {
	return strings.NewReplacer("AGENT", agent, "PINS", filepath.Join(r.BPFFS, r.cfg.PinDir)).Replace(line)
}

// TestAgentIsProtected holds that processes of governed containers neither reach the agent nor what it has put into the kernel,
// that a step which cannot see it says so, and that Audit only tells.
func TestAgentIsProtected(t *testing.T) {
	onEachEnforcingStep(t, func(t *testing.T, step event.Step) {
		for _, refuse := range []bool{true, false} {
			t.Run("refused "+strconv.FormatBool(refuse), func(t *testing.T) {
				r := newBareRig(t, step)
				r.cfg.ProtectTell, r.cfg.ProtectRefuse = true, refuse
				r.attach(t)
				c := r.started(t, "web")
				r.swap(t, webPolicy)
				agent := r.asAgent(t)
				r.expect(t, c, "signal "+agent+" 0", "ok")
				for _, k := range reaches {
					r.events.Reset()
					want, verdict := k.refused, event.VerdictDeny
					if !refuse {
						want, verdict = "ok", event.VerdictAudit
					}
					if step == event.StepCgroup {
						want = "ok"
					}
					r.expect(t, c, r.aim(k.line, agent), want)
					if step == event.StepCgroup {
						continue
					}
					e := r.events.Wait(t, k.line, func(e event.Event) bool { return e.Kind == event.KindTamper && e.Call == k.call })
					known := k.line != "sigio AGENT" // nobody knows whose signal that is
					if known && (e.Subject.Container != c.ID || e.Subject.Origin != event.OriginExec) || e.Verdict != verdict || e.Step != step {
						t.Errorf("%s was told as %+v", k.line, e)
					}
				}
				r.expectAllStopped(t, step == event.StepLSM, "signal", "bpf")
			})
		}
	})
}

// TestOthersMayReachTheAgent holds that what no rule governs is left alone, and whoever it is towards others than the agent.
func TestOthersMayReachTheAgent(t *testing.T) {
	onEachEnforcingStep(t, func(t *testing.T, step event.Step) {
		r := newBareRig(t, step)
		r.cfg.ProtectTell, r.cfg.ProtectRefuse = true, true
		r.attach(t)
		free, web := r.started(t, ""), r.started(t, "web")
		r.swap(t, webPolicy)
		agent := r.asAgent(t)
		for _, k := range reaches {
			if k.call != event.CallSignal {
				r.expect(t, free, r.aim(k.line, agent), "ok")
			}
		}
		r.expect(t, free, "signal "+agent+" 23", "ok")
		for _, line := range []string{"reach ptrace parent", "reach mem parent"} {
			r.expect(t, web, "fork -- "+line, "ok")
		}
		if told := r.events.Find(func(e event.Event) bool { return e.Kind == event.KindTamper }); len(told) > 0 {
			t.Errorf("told without need: %+v", told)
		}
	})
}
