package ladder

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/probes/event"
	"github.com/sallyport/sallyport/tests/testutil/pod"
)

// disguise is what a process does to lose its label, and what the label must say afterwards.
type disguise struct {
	transforms  string
	exe, script string // "" is the victim itself, and no script
}

func disguises() []disguise {
	return []disguise{
		{transforms: ""},
		{transforms: "fork"},
		{transforms: "vfork"},
		{transforms: "double-fork"},
		{transforms: "orphan-chain 3"}, // all ancestors are gone
		{transforms: "setsid"},
		{transforms: "daemon"},
		{transforms: "clone-parent"},
		{transforms: "thread-exec"},
		{transforms: "unshare-pid"},
		{transforms: "unshare-pid double-fork"},
		{transforms: "pid-reuse"},
		{transforms: "into-cgroup OUTSIDE"},
		{transforms: "into-cgroup SIBLING"},
		{transforms: "into-cgroup SIBLING exec-self"},
		{transforms: "into-cgroup NESTED exec-self"},
		{transforms: "exec-self"},
		{transforms: "argv0 /usr/sbin/nginx"},
		{transforms: "rename-comm nginx"},
		{transforms: "memfd", exe: "memfd:victim"},
		{transforms: "copy DIR/copy", exe: "DIR/copy"},
		{transforms: "hardlink DIR/hard", exe: "DIR/hard"},
		{transforms: "symlink DIR/soft"},
		{transforms: "script DIR/run", script: "DIR/run"},
		{transforms: "daemon unshare-pid memfd thread-exec fork", exe: "memfd:victim"},
	}
}

// TestLabelSurvives holds that no way to make or replace a process loses the label: Main stays Main,
// what was exec'd into the container stays that session. On the step that only reports, the events say so.
func TestLabelSurvives(t *testing.T) {
	onEachStep(t, func(t *testing.T, step event.Step) {
		r := newRig(t, step)
		dir := linkable(t, r)
		sibling, outside := r.started(t, ""), r.Cgroup(t, "outside")
		all := disguises()
		containers := make([]*pod.Container, 2*len(all))
		for i := range containers {
			containers[i] = r.container(t, "web")
		}
		r.swap(t, webPolicy)
		refused, verdict, would := "EPERM", event.VerdictDeny, event.VerdictNone
		if step == event.StepReport {
			refused, verdict, would = "ok", event.VerdictAudit, event.VerdictDeny
		}
		for i, d := range all {
			c, denied := containers[2*i], containers[2*i+1]
			nested := filepath.Join(c.Dir, "nested")
			if err := os.Mkdir(nested, 0o755); err != nil {
				t.Fatal(err)
			}
			fill := strings.NewReplacer("DIR", dir, "OUTSIDE", outside, "SIBLING", sibling.Dir, "NESTED", nested).Replace
			t.Run("as "+d.transforms, func(t *testing.T) {
				line := fill(d.transforms) + " -- connect-tcp SERVER4 "
				r.expect(t, c, line+"OPEN", "ok")
				r.events.Reset()
				r.expect(t, denied, line+"CLOSED", refused)
				r.events.Wait(t, "the denial of Main", func(e event.Event) bool {
					return e.Verdict == verdict && e.Would == would && e.Subject.Container == denied.ID && e.Subject.Origin == event.OriginMain
				})
				r.events.Reset()
				r.expect(t, c, line+"OPEN", refused)
				start := r.events.Wait(t, "the start of the session", func(e event.Event) bool {
					return e.Kind == event.KindSessionStart && e.Subject.Container == c.ID
				})
				denial := r.events.Wait(t, "the denial", func(e event.Event) bool {
					return e.Verdict == verdict && e.Would == would && e.Subject.Container == c.ID
				})
				want := event.Subject{
					Container: c.ID, Session: start.Subject.Session, Origin: event.OriginExec, Exe: r.program, Script: fill(d.script),
				}
				if d.exe != "" {
					want.Exe = fill(d.exe)
				}
				got := denial.Subject
				got.Exec, got.PID, got.TID, got.Comm = 0, 0, 0, ""
				got.Drifted = false // depends on where tests lie
				if got != want {
					t.Errorf("the label says %+v, want %+v", got, want)
				}
				r.events.Wait(t, "the end of the session", func(e event.Event) bool {
					return e.Kind == event.KindSessionEnd && e.Subject.Session == start.Subject.Session
				})
			})
		}
	})
}

// linkable makes a directory on the victim's file system, so that it can be linked into it.
func linkable(t *testing.T, r *rig) string {
	t.Helper()
	dir, err := os.MkdirTemp(filepath.Dir(r.program), "l") //nolint:usetesting // hard links stay on one file system
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) }) // what is left in the temporary directory harms nothing
	return dir
}

// TestRuntimeInit holds that a runtime's own first execution, in the mount namespace of whoever made
// the cgroup, is not the workload: neither Main nor a session.
func TestRuntimeInit(t *testing.T) {
	onEachEnforcingStep(t, func(t *testing.T, step event.Step) { runtimeInit(t, newRig(t, step)) })
}

func runtimeInit(t *testing.T, r *rig) {
	t.Helper()
	c := r.container(t, "web")
	r.swap(t, webPolicy)
	for _, tc := range []struct {
		line     string
		want     string
		origin   event.Origin
		sessions int
	}{
		{"connect-tcp SERVER4 OPEN", "ok", event.OriginMain, 0},
		{"connect-tcp SERVER4 OPEN", "EPERM", event.OriginExec, 1},
	} {
		r.events.Reset()
		p := r.role(c, roleRuntime, append([]string{r.program, "--"}, strings.Fields(r.fill(tc.line))...)...)
		p.HostMounts = true
		p.Start(t)
		if got := outcome(t, p); got != tc.want {
			t.Errorf("%s as %d: got %s, want %s", tc.line, tc.origin, got, tc.want)
		}
		exit := r.events.Wait(t, "the exit", func(e event.Event) bool {
			return (e.Kind == event.KindExit || e.Kind == event.KindSessionEnd) && e.Subject.Container == c.ID
		})
		if exit.Subject.Origin != tc.origin || exit.Subject.Exe != r.program {
			t.Errorf("the workload is %+v", exit.Subject)
		}
		execs := r.events.Find(func(e event.Event) bool {
			return (e.Kind == event.KindExec || e.Kind == event.KindSessionStart) && e.Subject.Container == c.ID
		})
		if len(execs) != 1 || execs[0].Subject.Exe != r.program || (execs[0].Kind == event.KindSessionStart) != (tc.sessions == 1) {
			t.Errorf("executions of the workload: %+v, want one of %s", execs, r.program)
		}
	}
}
