package agent

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/tests/testutil"
)

// TestViolationKills checks that the verdict Kill ends the process, and no other: by the kernel where it can, else by the
// agent. The call has failed in any case.
func TestViolationKills(t *testing.T) {
	s := newScene(t)
	s.agent.Policy(t, "web.yaml", strings.Replace(s.webPolicy(), "{alert: critical}", "{verdict: Kill, alert: critical}", 1))
	s.agent.Start(t)
	web := s.run(t, "web", s.load(testutil.EchoPort))
	s.agent.awaitGoverned(t, "web")
	const killed = 128 + 9
	for _, script := range []string{
		"exec " + s.connect(forbiddenPort) + "; sleep 100",
		"exec victim fork fork -- loop-tcp " + s.net.ServerAddr.String() + fmt.Sprintf(" %d 0 30000", forbiddenPort),
	} {
		r := web.Exec(t, "sh", "-c", script)
		if lived := strings.Contains(script, "connect-tcp") && r.Stdout == "connect-tcp: EPERM\n"; r.Code != killed && !lived {
			t.Errorf("%s ended with %d: %q %q", script, r.Code, r.Stdout, r.Stderr)
		}
	}
	s.forbidden.ExpectNone(t)
	more(t, "the main program goes on", func() string { return web.Log(t) }, "loop-tcp: ok=200 ", 2)
	testutil.Eventually(t, "the verdict is told", func() error {
		for _, e := range s.agent.Observe(t, "--verdict", "Kill") {
			if e.Origin == "Exec" && e.Binary == "/bin/victim" && e.Rule == s.containerd.Namespace+"/web/shells" {
				return nil
			}
		}
		return errors.New("no such event")
	})
	for _, h := range s.agent.Status(t).Hooks {
		if told := strings.Contains(h.DoesNotStop, "verdict Kill"); h.Name == "connect" && told != (h.Step == "cgroup") {
			t.Errorf("of step %s the status says: %s", h.Step, h.DoesNotStop)
		}
	}
}
