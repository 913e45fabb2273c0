package agent

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/tests/testutil"
)

// hold is a script that keeps a connection and sends a byte twice a second.
func (s *scene) hold(port int) string {
	return fmt.Sprintf("while printf x; do sleep 0.5; done | nc %s %d >/dev/null", s.net.ServerAddr, port)
}

// TestContainersBeforeTheAgent starts an agent on a node where everything runs already.
func TestContainersBeforeTheAgent(t *testing.T) {
	s := newScene(t)
	s.agent.Policy(t, "web.yaml", s.webPolicy())
	web := s.run(t, "web", s.hold(testutil.EchoPort)+" & "+s.hold(forbiddenPort)+" & "+s.load(testutil.EchoPort))
	web.ExecDetached(t, "shell", "sh", "-c", s.hold(testutil.EchoPort)+" & "+s.knock(forbiddenPort))
	// A daemon that an exec left behind, whose lineage nothing proves any more.
	web.Exec(t, "sh", "-c", "(setsid sh -c '"+s.knock(forbiddenPort)+"' </dev/null >/tmp/daemon 2>&1 &)")
	shell, main := func() string { return web.ExecLog(t, "shell") }, func() string { return web.Log(t) }
	more(t, "the shell may while there is no agent", shell, "connect-tcp: ok", 2)
	more(t, "the main program too", main, "loop-tcp: ok=200 ", 1)
	testutil.Eventually(t, "connections are held", func() error {
		if held := len(s.holding()); held != 3 {
			return fmt.Errorf("there are %d, want 3", held)
		}
		return nil
	})

	s.agent.Start(t)
	s.agent.awaitGoverned(t, "web")
	more(t, "the shell from before is denied", shell, "connect-tcp: EPERM", 3)
	more(t, "the main program from before goes on", main, "loop-tcp: ok=200 ", 2)
	for line := range strings.Lines(main()) {
		if strings.HasPrefix(line, "loop-tcp:") && line != "loop-tcp: ok=200 eperm=0 other=0\n" {
			t.Errorf("an allowed connect failed: %q", line)
		}
	}
	s.wantShell(t, web, "EPERM")
	s.agent.wantInferred(t, "Exec", "Deny", fmt.Sprintf("%s:%d/TCP", s.net.ServerAddr, forbiddenPort))
	s.agent.wantInferred(t, "Unknown", "Allow", fmt.Sprintf("%s:%d/TCP", s.net.ServerAddr, forbiddenPort))
	s.agent.wantInferred(t, "Main", "Allow", fmt.Sprintf("%s:%d/TCP", s.net.ServerAddr, testutil.EchoPort))

	// Of the connections from before only the main program's to the allowed server goes on.
	testutil.Eventually(t, "connections from before are judged", func() error {
		var moving []string
		before := s.holding()
		time.Sleep(3 * time.Second)
		for key, bytes := range s.holding() {
			if bytes > before[key] {
				moving = append(moving, key)
			}
		}
		if len(moving) != 1 || !strings.HasPrefix(moving[0], fmt.Sprintf("%d ", testutil.EchoPort)) {
			return fmt.Errorf("data goes on in %q", moving)
		}
		return nil
	})
}

// holding lists the connections that hold made, by server port and client address, with what came over each.
func (s *scene) holding() map[string]int {
	found := map[string]int{}
	for _, c := range append(s.net.Echo.Contacts(), s.forbidden.Contacts()...) {
		if len(c.Data) > 0 {
			found[fmt.Sprintf("%d %s", c.Local.Port(), c.Remote)] = len(c.Data)
		}
	}
	return found
}

// wantInferred waits for an event of a process whose label was inferred.
func (a *agent) wantInferred(t *testing.T, origin, verdict, peer string) {
	t.Helper()
	testutil.Eventually(t, "an event of an inferred "+origin, func() error {
		for _, e := range a.Observe(t, "--origin", origin, "--verdict", verdict) {
			if e.Inferred && e.Peer == peer {
				return nil
			}
		}
		return errors.New("no such event")
	})
}
