package ladder

import (
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/sallyport/sallyport/probes/event"
)

const shellPolicy = `
  mode: %s
  rules:
  - name: shells
    processes: [{origins: [Exec]}]
    action: Deny
    onViolation: {verdict: %s, alert: info}
`

// verdictCalls are calls that Deny refuses, with what each gets by Drop: its packets go silently, where it
// has any that the gate sees.
var verdictCalls = []struct{ line, dropped string }{
	{"connect-tcp SERVER4 OPEN 300", "ETIMEDOUT"},
	{"fastopen SERVER4 OPEN 300", "ETIMEDOUT"},
	{"sendto-udp SERVER6 OPEN 300", "ETIMEDOUT"},
	{"listen-tcp POD4 4000", "EPERM"},
	{"ping SERVER4", "ENOBUFS"}, // as if a queue were full
}

// TestVerdicts holds what a denied caller gets by each verdict, that it is told once, and that Audit stops
// nothing.
func TestVerdicts(t *testing.T) {
	onEachEnforcingStep(t, func(t *testing.T, step event.Step) {
		r := newRig(t, step)
		c := r.started(t, "web")
		for _, tc := range []struct {
			mode, verdict, want string
			told, would         event.Verdict
		}{
			{"Enforce", "Deny", "EPERM", event.VerdictDeny, event.VerdictNone},
			{"Enforce", "Drop", "", event.VerdictDrop, event.VerdictNone},
			{"Enforce", "Reset", "ECONNREFUSED", event.VerdictReset, event.VerdictNone},
			{"Audit", "Deny", "ok", event.VerdictAudit, event.VerdictDeny},
			{"Audit", "Kill", "ok", event.VerdictAudit, event.VerdictKill},
		} {
			r.swap(t, fmt.Sprintf(shellPolicy, tc.mode, tc.verdict))
			for _, call := range verdictCalls {
				r.events.Reset()
				r.open.Reset()
				want := tc.want
				switch {
				case tc.told == event.VerdictDrop:
					want = call.dropped
				case step == event.StepCgroup && strings.HasPrefix(call.line, "ping ") && want != "ok":
					want = "EPERM" // its packet is denied, below the call
				}
				if got := r.try(t, c, call.line); got != want {
					t.Errorf("%s %s: %s: got %s, want %s", tc.mode, tc.verdict, call.line, got, want)
				}
				told := func(e event.Event) bool { return e.Verdict == tc.told && e.Would == tc.would }
				e := r.events.Wait(t, tc.mode+" "+tc.verdict+" of "+call.line, told)
				if e.Severity != event.SeverityInfo {
					t.Errorf("%s %s: %s: severity %d, want info", tc.mode, tc.verdict, call.line, e.Severity)
				}
				if want == "ok" {
					continue
				}
				expectContacts(t, r.open, 0)
				if n := len(r.events.Find(told)); tc.told == event.VerdictDrop && n != 1 {
					t.Errorf("%s: a call that is dropped is told %d times", call.line, n)
				}
			}
		}
	})
}

// TestKill holds that Kill ends the process in the call, on the steps that can.
func TestKill(t *testing.T) {
	onEachEnforcingStep(t, func(t *testing.T, step event.Step) {
		r := newRig(t, step)
		c := r.started(t, "web")
		r.swap(t, fmt.Sprintf(shellPolicy, "Enforce", "Kill"))
		for _, line := range []string{"connect-tcp SERVER4 OPEN", "sendto-udp SERVER4 OPEN", "listen-tcp POD4 4000", "socket packet raw"} {
			p := r.victim(c, line)
			p.Start(t)
			got := p.Result()
			status, ok := p.ProcessState.Sys().(syscall.WaitStatus)
			if !ok {
				t.Fatalf("the state of a process is %T", p.ProcessState.Sys())
			}
			if step != event.StepCgroup {
				if !status.Signaled() || status.Signal() != syscall.SIGKILL {
					t.Errorf("%s: got %q, %s, want to be killed", line, got, p.ProcessState)
				}
				continue
			}
			if status.Signaled() || line != "socket packet raw" && !strings.HasSuffix(got, ": EPERM") {
				t.Errorf("%s: got %q, %s, want EPERM", line, got, p.ProcessState)
			}
		}
		says := func(s string) bool { return strings.Contains(s, "Kill") }
		if stopped := !slices.ContainsFunc(r.hook(t, "connect").NotStopped, says); stopped == (step == event.StepCgroup) {
			t.Errorf("status says of Kill: %q", r.hook(t, "connect").NotStopped)
		}
		expectContacts(t, r.open, 0)
	})
}
