package ladder

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/sallyport/sallyport/probes"
	"github.com/sallyport/sallyport/probes/event"
	"github.com/sallyport/sallyport/tests/testutil"
	"github.com/sallyport/sallyport/tests/testutil/feature"
)

// TestReportByFentry holds that where there are no kprobes, what would be denied is reported by fentry programs, and that
// they stop nothing. The stock kernels have kprobes, so an agent is made not to see them.
func TestReportByFentry(t *testing.T) {
	testutil.RequireRoot(t)
	if err := feature.Fentry(); err != nil {
		if testutil.InVM() {
			t.Fatal(err)
		}
		t.Log("fentry is tested on the kernels of the VM tier: ", err)
		return
	}
	r := newBareRig(t, event.StepReport)
	agent := startAgentAs(t, attachment{Config: r.cfg, Step: r.step, NoKprobes: true})
	defer agent.kill(t)
	c := r.container(t, "web")
	agent.swap(t, r.compile(t, webPolicy))
	k, err := probes.Open(r.cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := k.Close(); err != nil {
			t.Error(err)
		}
	}()
	r.events = record(t, k, false)
	r.expect(t, c, "connect-tcp SERVER4 OPEN", "ok") // as Main
	for _, tc := range []struct {
		line, program string
		call          event.Call
	}{
		{"connect-tcp SERVER4 OPEN", "connect", event.CallConnect},
		{"sendto-udp SERVER4 OPEN 3000", "sendmsg", event.CallSendmsg},
		{"bind-tcp POD4 4001", "bind", event.CallBind},
		{"listen-tcp POD4 4000", "listen", event.CallListen},
		{"socket packet dgram", "create", event.CallSocket},
	} {
		t.Run(tc.line, func(t *testing.T) {
			for name, want := range map[string]bool{"judge_fentry_" + tc.program: true, "judge_report_" + tc.program: false} {
				if _, err := os.Stat(filepath.Join(r.BPFFS, r.cfg.PinDir, "links", name)); (err == nil) != want {
					t.Errorf("%s is in place: %t, want %t", name, err == nil, want)
				}
			}
			r.events.Reset()
			r.expect(t, c, tc.line, "ok")
			r.events.Wait(t, "the report", func(e event.Event) bool {
				return e.Call == tc.call && e.Step == event.StepReport && e.Verdict == event.VerdictAudit && e.Would == event.VerdictDeny &&
					e.Subject.Container == c.ID && e.Subject.Origin == event.OriginExec
			})
		})
	}
}
