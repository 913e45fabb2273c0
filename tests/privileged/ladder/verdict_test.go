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

// TestVerdicts holds what a denied caller gets by each verdict, and that Audit stops nothing.
func TestVerdicts(t *testing.T) {
	onEachEnforcingStep(t, func(t *testing.T, step event.Step) {
		r := newRig(t, step)
		c := r.started(t, "web")
		for _, tc := range []struct {
			mode, verdict, want string
			told, would         event.Verdict
		}{
			{"Enforce", "Deny", "EPERM", event.VerdictDeny, event.VerdictNone},
			{"Enforce", "Drop", "EPERM", event.VerdictDrop, event.VerdictNone},
			{"Enforce", "Reset", "ECONNREFUSED", event.VerdictReset, event.VerdictNone},
			{"Audit", "Deny", "ok", event.VerdictAudit, event.VerdictDeny},
			{"Audit", "Kill", "ok", event.VerdictAudit, event.VerdictKill},
		} {
			r.swap(t, fmt.Sprintf(shellPolicy, tc.mode, tc.verdict))
			for _, line := range []string{"connect-tcp SERVER4 OPEN", "fastopen SERVER4 OPEN", "sendto-udp SERVER6 OPEN 3000", "listen-tcp POD4 4000", "ping SERVER4"} {
				r.events.reset()
				r.open.Reset()
				want := tc.want
				if step == event.StepCgroup && strings.HasPrefix(line, "ping ") && want != "ok" {
					want = "EPERM" // its packet is denied, below the call
					if tc.told == event.VerdictDrop {
						want = "ENOBUFS" // as if a queue were full
					}
				}
				if got := r.try(t, c, line); got != want {
					t.Errorf("%s %s: %s: got %s, want %s", tc.mode, tc.verdict, line, got, want)
				}
				e := r.events.wait(t, tc.mode+" "+tc.verdict+" of "+line, func(e event.Event) bool { return e.Verdict == tc.told && e.Would == tc.would })
				if e.Severity != event.SeverityInfo {
					t.Errorf("%s %s: %s: severity %d, want info", tc.mode, tc.verdict, line, e.Severity)
				}
				if want != "ok" {
					expectContacts(t, r.open, 0)
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
