package agent

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/tests/testutil"
)

// explanation is the answer of policy explain --pid -o json, as far as tests look at it.
type explanation struct {
	Process struct {
		PID                                              uint32
		Workload, Container, ContainerID, Origin, Binary string
		Labels                                           []string
		User, Group                                      []uint32
	}
	Revision uint64 `json:",string"`
	Decision struct{ Verdict, Reason, Rule string }
	Rules    []struct {
		Rule                      string
		Selects, Matches, Decides bool
	}
}

// explain asks about a running process.
func (a *agent) explain(t *testing.T, pid uint32, args ...string) explanation {
	t.Helper()
	r := a.Run(t, append([]string{"policy", "explain", "--socket", a.Path("api.sock"), "-o", "json", "--pid", strconv.Itoa(int(pid))}, args...)...)
	if r.Code != 0 {
		t.Fatalf("explain ended with %d: %s", r.Code, r.Stderr)
	}
	var e explanation
	if err := json.Unmarshal([]byte(r.Stdout), &e); err != nil {
		t.Fatalf("%v in %s", err, r.Stdout)
	}
	return e
}

// TestExplainOfRunningProcesses: the main program and a shell of one container get different answers, which are what the
// kernel decides for both.
func TestExplainOfRunningProcesses(t *testing.T) {
	s := newScene(t)
	s.agent.Policy(t, "web.yaml", s.webPolicy())
	s.agent.Start(t)
	web := s.run(t, "web", s.load(testutil.EchoPort))
	s.agent.awaitGoverned(t, "web")
	shell := web.ExecDetached(t, "shell", "sh", "-c", s.knock(testutil.EchoPort))
	more(t, "the main program connects", func() string { return web.Log(t) }, "loop-tcp: ok=200 ", 1)
	more(t, "the shell is denied", func() string { return web.ExecLog(t, "shell") }, "connect-tcp: EPERM", 1)

	name, server := s.containerd.Namespace+"/web", fmt.Sprintf("%s:%d", s.net.ServerAddr, testutil.EchoPort)
	for _, test := range []struct {
		pid                        uint32
		to                         string
		origin, verdict, why, rule string
	}{
		{web.PID, server, "Main", "Allow", "rule", name + "/main"},
		{web.PID, fmt.Sprintf("%s:%d", s.net.ServerAddr, forbiddenPort), "Main", "Deny", "default", name + "/main"},
		{shell, server, "Exec", "Deny", "rule", name + "/shells"},
	} {
		e := s.agent.explain(t, test.pid, "--to", test.to)
		p, d := e.Process, e.Decision
		if p.PID != test.pid || p.Workload != name || p.ContainerID != "web" || p.Origin != test.origin || p.Binary != "/bin/busybox" || !slices.Contains(p.Labels, "app=web") {
			t.Errorf("the process is %+v", p)
		}
		if d.Verdict != test.verdict || d.Reason != test.why || d.Rule != test.rule || e.Revision != s.agent.Status(t).Revision {
			t.Errorf("for %s of %s it says %+v", test.to, test.origin, e)
		}
		if len(p.User) != 3 || p.User[0] != 0 || len(e.Rules) != 3 { // the second denies both ways
			t.Errorf("the ids are %v, the rules %+v", p.User, e.Rules)
		}
	}
	r := s.agent.Run(t, "policy", "explain", "--socket", s.agent.Path("api.sock"), "-o", "columns", "--pid", strconv.Itoa(int(shell)), "--to", server)
	for _, part := range []string{fmt.Sprintf("process %d: Exec /bin/busybox ", shell), "in " + name + " (container web)", "Deny: rule " + name + "/shells matches", "> decides"} {
		if !strings.Contains(r.Stdout, part) {
			t.Errorf("no %q in %s%s", part, r.Stdout, r.Stderr)
		}
	}
	s.wantNoExplanation(t, server)
}

// wantNoExplanation asks about what nothing can be said of.
func (s *scene) wantNoExplanation(t *testing.T, to string) {
	t.Helper()
	ask := func(code int, want string, args ...string) {
		t.Helper()
		r := s.agent.Run(t, append([]string{"policy", "explain", "--socket", s.agent.Path("api.sock"), "--to", to}, args...)...)
		if r.Code != code || !strings.Contains(r.Stderr, want) {
			t.Errorf("%q ended with %d: %s, want %q", args, r.Code, r.Stderr, want)
		}
	}
	ask(1, "it has no label", "--pid", strconv.Itoa(os.Getpid()))
	ask(1, "there is no such process", "--pid", strconv.Itoa(1<<22+1)) // beyond the largest pid there can be
	ask(1, "out of range", "--pid", "0")
	ask(2, "--origin is known of a running process", "--pid", "1", "--origin", "Exec")
	s.agent.Stop(t)
	ask(4, "no agent is running", "--pid", "1")
}
