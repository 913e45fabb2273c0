package agent

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/tests/testutil"
)

// freshPort is of a server that no rule allows either, for containers that start while no agent runs.
const freshPort = testutil.EchoPort + 2

// rounds is how often the agent is killed.
func rounds() int {
	if testutil.InVM() || testing.Short() {
		return 2
	}
	return 10
}

// TestKilledAgentLeavesNoGap kills the agent again and again while the main program connects some thousand times a second
// and a shell tries what is denied to it.
func TestKilledAgentLeavesNoGap(t *testing.T) {
	s := newScene(t)
	fresh := testutil.NewEcho(t, s.net.Server, netip.AddrPortFrom(s.net.ServerAddr, freshPort))
	s.agent.Policy(t, "web.yaml", s.webPolicy())
	s.agent.Start(t)
	web := s.run(t, "web", s.load(testutil.EchoPort))
	s.agent.awaitGoverned(t, "web")
	attached := s.attached(t)
	if attached == 0 {
		t.Error("the log does not say which hooks the first agent has attached")
	}
	web.ExecDetached(t, "shell", "sh", "-c", s.knock(forbiddenPort))
	shell := func() string { return web.ExecLog(t, "shell") }
	more(t, "the shell is denied", shell, "connect-tcp: EPERM", 2)

	unknown := "allow" // what the agent that is killed was told
	for round := range rounds() {
		s.agent.Kill(t)
		s.wantShell(t, web, "EPERM")
		more(t, "the shell goes on to be denied", shell, "connect-tcp: EPERM", 2)
		more(t, "the main program goes on", func() string { return web.Log(t) }, "loop-tcp: ok=200 ", 2)
		k := s.newcomer(t, fmt.Sprintf("fresh%d", round), unknown, fresh)
		unknown = []string{"deny", "allow"}[round%2]
		s.agent.conf.unknown = unknown
		s.agent.Start(t)
		s.agent.awaitGoverned(t, k.ID)
		s.wantGoverned(t, k, fresh)
		k.Remove(t)
		if !s.agent.Status(t).Adopted {
			t.Error("the pins of the killed agent were not adopted")
		}
		s.net.Echo.Reset()
		if t.Failed() {
			break
		}
	}
	s.forbidden.ExpectNone(t)
	s.wantUnbroken(t, web.Log(t))
	wantAllDenied(t, shell())
	if n := s.attached(t); n != attached {
		t.Errorf("%d hooks were attached, and only the first agent had to attach its %d", n, attached)
	}
}

// attached is how many hooks the agents so far have attached and not adopted.
func (s *scene) attached(t *testing.T) int {
	t.Helper()
	n := 0
	for line := range strings.Lines(s.agent.Log(t)) {
		if strings.Contains(line, `"message":"hook attached"`) && strings.Contains(line, `"adopted":false`) {
			n++
		}
	}
	return n
}

// newcomer starts a container of the pod while no agent runs, and checks that unknownWorkload decides about it.
func (s *scene) newcomer(t *testing.T, id, unknown string, fresh *testutil.Echo) *testutil.Container {
	t.Helper()
	fresh.Reset()
	k := s.run(t, id, s.knock(freshPort))
	want := map[string]string{"allow": "ok", "deny": "EPERM"}[unknown]
	more(t, "the new container is judged by unknownWorkload: "+unknown, func() string { return k.Log(t) }, "connect-tcp: "+want, 2)
	if n := len(fresh.Contacts()); (n > 0) != (unknown == "allow") {
		t.Errorf("under unknownWorkload: %s the server was reached %d times", unknown, n)
	}
	if log := k.Log(t); count(log, "connect-tcp: "+want) != count(log, "connect-tcp:") {
		t.Errorf("under unknownWorkload: %s the new container got:\n%s", unknown, log)
	}
	return k
}

// wantGoverned checks that the policy is in force for a container that started while no agent ran.
func (s *scene) wantGoverned(t *testing.T, k *testutil.Container, fresh *testutil.Echo) {
	t.Helper()
	log := func() string { return k.Log(t) }
	more(t, "the new container is denied", log, "connect-tcp: EPERM", 1) // the first may have begun before
	fresh.Reset()
	more(t, "the new container is denied", log, "connect-tcp: EPERM", 3)
	fresh.ExpectNone(t)
	s.wantShell(t, k, "EPERM")
	testutil.Eventually(t, "the denials are told", func() error {
		for _, e := range s.agent.Observe(t, "--verdict", "Deny", "--container", k.ID, "--origin", "Main") {
			if e.Peer == fmt.Sprintf("%s:%d/TCP", s.net.ServerAddr, freshPort) && e.Reason == "default" {
				return nil
			}
		}
		return errors.New("no such event")
	})
}
