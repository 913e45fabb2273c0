package ladder

import (
	"errors"
	"testing"

	"github.com/sallyport/sallyport/probes/event"
	"github.com/sallyport/sallyport/tests/testutil"
	"github.com/sallyport/sallyport/tests/testutil/pod"
)

// serving is a container whose Main serves a unix socket of a type, in a pod with the label app.
func (r *rig) serving(t *testing.T, app, kind string) (*pod.Container, *pod.Process) {
	t.Helper()
	c := r.container(t, app)
	r.swap(t, webPolicy)
	p := r.victim(c, "listen-unix "+kind+" @relay-"+kind+app+" 600000")
	p.Start(t)
	t.Cleanup(func() {
		_ = p.Process.Kill() // it would go on for long
		p.Result()
	})
	return c, p
}

func isRelay(e event.Event) bool { return e.Kind == event.KindBorrow && e.Call == event.CallLocal }

// TestAskingAnotherLabelIsTold holds that a session that asks Main over a unix socket is told of, once for each program run, and not
// refused; that a step which cannot see it says so; and that nothing is told of who asks its own, nor where nothing governs.
func TestAskingAnotherLabelIsTold(t *testing.T) {
	onEachEnforcingStep(t, func(t *testing.T, step event.Step) {
		r := newBareRig(t, step)
		r.cfg.RelayTell = true
		r.attach(t)
		for _, kind := range []string{"stream", "packets", "datagrams"} {
			c, main := r.serving(t, "web", kind)
			ask := "ask-unix " + kind + " @relay-" + kind + "web 3"
			r.askUnix(t, c, ask)
			r.expectAllStopped(t, step == event.StepLSM || step == event.StepModRet, hookUnix)
			if step != event.StepCgroup {
				r.expectRelay(t, main, step)
			}
			r.events.Reset()
			r.expect(t, c, "ask-unix "+kind+" @own-"+kind+" 3 own", "ok")
			other, _ := r.serving(t, "", kind)
			r.askUnix(t, other, "ask-unix "+kind+" @relay-"+kind+" 3")
			r.settle(t, c)
			if told := r.events.Find(isRelay); len(told) > 0 {
				t.Errorf("%s: told without need: %+v", kind, told)
			}
		}
	})
}

const hookUnix = "unix"

// askUnix has a session ask, once somebody serves.
func (r *rig) askUnix(t *testing.T, c *pod.Container, line string) {
	t.Helper()
	testutil.Eventually(t, line, func() error {
		if got := r.try(t, c, line); got != "ok" {
			return errors.New(got)
		}
		return nil
	})
}

// expectRelay: three calls of one program are one event.
func (r *rig) expectRelay(t *testing.T, main *pod.Process, step event.Step) {
	t.Helper()
	e := r.events.Wait(t, "that Main is asked", isRelay)
	if e.Subject.Origin != event.OriginExec || e.Target == nil || e.Target.Origin != event.OriginMain || e.Target.PID != uint32(main.Process.Pid) ||
		e.Verdict != event.VerdictAudit || e.Would != event.VerdictNone || e.Step != step || e.Severity != event.SeverityWarning {
		t.Errorf("it was told as %+v of %+v", e, e.Target)
	}
	if told := r.events.Find(func(o event.Event) bool { return isRelay(o) && o.Subject.Exec == e.Subject.Exec }); len(told) != 1 {
		t.Errorf("one program's calls were told %d times", len(told))
	}
}

// settle waits until what was told before has come: a session's denial comes behind it in the same ring.
func (r *rig) settle(t *testing.T, c *pod.Container) {
	t.Helper()
	r.expect(t, c, toOpen, "EPERM")
	r.events.Wait(t, "a denial", func(e event.Event) bool { return e.Kind == event.KindConnect && e.Verdict == event.VerdictDeny })
}
