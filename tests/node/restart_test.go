package node

import (
	"fmt"
	"os"
	"syscall"
	"testing"

	"github.com/sallyport/sallyport/tests/testutil"
)

// TestRestarts kills the agent and containerd, one after the other, under traffic of a main program and of a shell.
func TestRestarts(t *testing.T) {
	forEach(t, func(t *testing.T, r release) {
		s := newScene(t, r)
		s.agent.Policy(t, "web.yaml", s.webPolicy())
		s.agent.start(t)
		// Their output goes to files: without containerd nobody reads their pipes.
		web := s.pod(t, podSpec{name: "web"}).run(t, "main", "("+s.knock(testutil.EchoPort)+") >/tmp/main 2>&1")
		s.agent.awaitGoverned(t, web)
		pid := web.pid(t)
		web.exec(t, "sh", "-c", "("+s.knock(forbiddenPort)+") >/tmp/shell 2>&1 &")
		main := func() string { return inside(t, pid, "/tmp/main") }
		shell := func() string { return inside(t, pid, "/tmp/shell") }
		check := func(when string) {
			t.Helper()
			more(t, "the shell is denied "+when, shell, "connect-tcp: EPERM", 3)
			more(t, "the main program goes on "+when, main, "connect-tcp: ok", 3)
		}
		check("before")
		s.agent.End(t, syscall.SIGKILL)
		check("without the agent")
		want(t, "a new exec without the agent", web.exec(t, "sh", "-c", s.connect(testutil.EchoPort)).Stdout, "EPERM")
		s.agent.start(t)
		s.agent.awaitGoverned(t, web)
		check("after the agent's restart")

		s.kill(t)
		check("without containerd")
		s.start(t)
		s.agent.awaitGoverned(t, web)
		check("after containerd's restart")
		s.agent.awaitRuntime(t)
		next := s.pod(t, podSpec{name: "next"}).run(t, "main", s.knock(forbiddenPort))
		s.agent.awaitGoverned(t, next)
		more(t, "a pod after the restarts is denied", func() string { return next.output(t) }, "connect-tcp: EPERM", 3)
		want(t, "an exec after the restarts", web.exec(t, "sh", "-c", s.connect(testutil.EchoPort)).Stdout, "EPERM")

		onlyOK(t, "the main program", main(), "ok")
		onlyOK(t, "the shell", shell(), "EPERM")
		if r.nri {
			onlyOK(t, "the pod after the restarts", next.output(t), "EPERM")
			s.forbidden.ExpectNone(t)
		}
	})
}

// inside reads a file as a process sees it.
func inside(t *testing.T, pid int, file string) string {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/root%s", pid, file))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
