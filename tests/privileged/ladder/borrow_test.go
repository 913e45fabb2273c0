package ladder

import (
	"strconv"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/probes/event"
	"github.com/sallyport/sallyport/tests/testutil/pod"
)

// borrowings are the ways to act under the label of the process PID, which offers its connection at
// @offered, and the call that each is told as.
var borrowings = []struct {
	line, refused string
	call          event.Call
}{
	{"reach ptrace PID", "EPERM", event.CallTrace},
	{"reach mem PID", "EACCES", event.CallTrace}, // what the kernel says of every refusal there
	{"reach vm PID", "EPERM", event.CallTrace},
	{"reach getfd PID", "EPERM", event.CallTrace},
	{"take @offered", "EACCES", event.CallReceive}, // the file does not come
}

// offering is a container whose Main has a connection that it hands to everybody.
func (r *rig) offering(t *testing.T, app string) (*pod.Container, *pod.Process) {
	t.Helper()
	c := r.container(t, app)
	r.swap(t, webPolicy)
	p := r.victim(c, "offer-tcp SERVER4 OPEN @offered 60000")
	p.Start(t)
	t.Cleanup(func() {
		_ = p.Process.Kill() // has ended, where the test ended it
		p.Result()
	})
	listens := func(e event.Event) bool { return e.Kind == event.KindConnect && e.Subject.Container == c.ID }
	r.events.Wait(t, "the connection that is offered", listens)
	return c, p
}

// replacePID puts the pid of a process into a line.
func replacePID(line string, p *pod.Process) string {
	return strings.ReplaceAll(line, "PID", strconv.Itoa(p.Process.Pid))
}

// TestBorrowing holds that an Exec session cannot act under the label of Main, by reaching into its process
// or by taking over its socket; that a step which cannot see it says so; and that Audit only tells.
func TestBorrowing(t *testing.T) {
	onEachEnforcingStep(t, func(t *testing.T, step event.Step) {
		for _, refuse := range []bool{true, false} {
			t.Run("refused "+strconv.FormatBool(refuse), func(t *testing.T) {
				r := newBareRig(t, step)
				r.cfg.BorrowTell, r.cfg.BorrowRefuse = true, refuse
				r.attach(t)
				c, main := r.offering(t, "web")
				for _, b := range borrowings {
					r.events.Reset()
					line := replacePID(b.line, main)
					want, verdict := b.refused, event.VerdictDeny
					if !refuse {
						want, verdict = "ok", event.VerdictAudit
					}
					if step == event.StepCgroup {
						want = "ok"
					}
					got := r.try(t, c, line)
					if sends := b.line == "take @offered" || b.line == "reach getfd PID"; sends && !refuse && step != event.StepCgroup {
						want = "EPERM" // the label that sends is still Exec's
					}
					if got != want {
						t.Errorf("%s: got %s, want %s", b.line, got, want)
					}
					if step == event.StepCgroup {
						continue
					}
					e := r.events.Wait(t, b.line, func(e event.Event) bool { return e.Kind == event.KindBorrow && e.Call == b.call })
					if e.Subject.Origin != event.OriginExec || e.Target == nil || e.Target.Origin != event.OriginMain ||
						e.Target.PID != uint32(main.Process.Pid) || e.Verdict != verdict || e.Step != step {
						t.Errorf("%s was told as %+v of %+v", b.line, e, e.Target)
					}
				}
				r.expectAllStopped(t, step == event.StepLSM, "trace", "receive")
			})
		}
	})
}

// TestOwnProcessesMayBeReached holds that holders of one label, and containers that no rule governs, work as
// ever.
func TestOwnProcessesMayBeReached(t *testing.T) {
	onEachEnforcingStep(t, func(t *testing.T, step event.Step) {
		r := newBareRig(t, step)
		r.cfg.BorrowTell, r.cfg.BorrowRefuse = true, true
		r.attach(t)
		for _, way := range []string{"ptrace", "mem", "vm"} {
			c := r.container(t, "web")
			r.swap(t, webPolicy)
			r.expect(t, c, "fork -- reach "+way+" parent", "ok")
		}
		c, main := r.offering(t, "")
		for _, b := range borrowings {
			r.expect(t, c, replacePID(b.line, main), "ok")
		}
		if told := r.events.Find(func(e event.Event) bool { return e.Kind == event.KindBorrow }); len(told) > 0 {
			t.Errorf("told without need: %+v", told)
		}
	})
}
