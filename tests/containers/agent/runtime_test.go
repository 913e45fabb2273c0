package agent

import (
	"errors"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/tests/testutil"
)

// TestContainerdGoesAndComes kills containerd under a running agent.
func TestContainerdGoesAndComes(t *testing.T) {
	s := newScene(t)
	web, shell, main := s.knocking(t)
	const away = `"message":"containerd is away; what is known stays in force"`

	s.containerd.Kill(t)
	testutil.Eventually(t, "the agent says that containerd is away", func() error {
		if !strings.Contains(s.agent.Log(t), away) {
			return errors.New("not in its log")
		}
		return nil
	})
	more(t, "the shell goes on to be denied", shell, "connect-tcp: EPERM", 20)
	more(t, "the main program goes on", main, "loop-tcp: ok=200 ", 5)
	s.agent.awaitGoverned(t, "web")
	revision := s.agent.Status(t).Revision
	s.agent.Policy(t, "more.yaml", s.policyOf("more", "  rules: [{name: none, processes: [{origins: [Probe]}], action: Deny}]\n"))
	s.agent.awaitStatus(t, "a new policy takes effect meanwhile", func(st status) error {
		if st.Revision == revision {
			return errors.New("the same revision")
		}
		return nil
	})

	s.containerd.Start(t)
	k := s.run(t, "after", s.knock(forbiddenPort)) // at once: the agent may not have come back yet
	s.agent.awaitGoverned(t, "after")
	more(t, "a container after the restart is denied", func() string { return k.Log(t) }, "connect-tcp: EPERM", 2)
	s.wantShell(t, k, "EPERM")
	s.wantShell(t, web, "EPERM")
	more(t, "the shell goes on to be denied", shell, "connect-tcp: EPERM", 2)
	if log := s.agent.Log(t); strings.Count(log, away) != 1 || strings.Count(log, `"message":"containerd is watched"`) != 2 {
		t.Error("the log does not say once that containerd is away, and twice that it is watched")
	}
	s.wantUnbroken(t, main())
	wantAllDenied(t, shell())
}

// TestAgentRestartsWithoutContainerd starts an agent again while containerd is away: what is pinned knows more than the
// agent can, and stays in force until containerd says what runs.
func TestAgentRestartsWithoutContainerd(t *testing.T) {
	s := newScene(t)
	s.agent.Policy(t, "web.yaml", s.webPolicy())
	s.agent.Start(t)
	web := s.run(t, "web", s.load(testutil.EchoPort))
	s.agent.awaitGoverned(t, "web")
	web.ExecDetached(t, "shell", "sh", "-c", s.knock(forbiddenPort))
	shell := func() string { return web.ExecLog(t, "shell") }
	s.containerd.Kill(t)
	s.agent.Stop(t)
	s.agent.Start(t)
	testutil.Eventually(t, "the agent says that it waits", func() error { // it has a patience, which must have ended
		if !strings.Contains(s.agent.Log(t), "adopted policies stay in force") {
			return errors.New("not in its log")
		}
		return nil
	})
	more(t, "the shell goes on to be denied", shell, "connect-tcp: EPERM", 5)
	more(t, "the main program goes on", func() string { return web.Log(t) }, "loop-tcp: ok=200 ", 2)
	s.containerd.Start(t)
	s.agent.awaitGoverned(t, "web")
	s.wantShell(t, web, "EPERM")
	s.forbidden.ExpectNone(t)
}
