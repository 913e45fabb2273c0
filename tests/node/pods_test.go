package node

import (
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/tests/testutil"
	"github.com/sallyport/sallyport/tests/victim"
)

// TestPodsOfEveryKind has one container of each kind on one node, and execs and processes from outside in each.
func TestPodsOfEveryKind(t *testing.T) {
	forEach(t, func(t *testing.T, r release) {
		s := newScene(t, r, r.calls())
		s.agent.Policy(t, "web.yaml", s.webPolicy())
		s.agent.start(t)
		t.Run("several containers", s.severalContainers)
		t.Run("shared PID namespace", s.sharedPIDs)
		t.Run("container that sees another's processes", s.target)
		t.Run("host PIDs", s.hostPIDs)
		t.Run("host network", s.hostNetwork)
		t.Run("node process in the pod", s.nodeProcess)
		s.forbidden.ExpectNone(t)
		s.noLosses(t)
	})
}

// severalContainers has an init container, then two containers, and another pod that no policy selects.
func (s *scene) severalContainers(t *testing.T) {
	p := s.pod(t, podSpec{name: "several"})
	init := p.run(t, "init", s.connect(forbiddenPort)+"; "+s.connect(testutil.EchoPort))
	testutil.Eventually(t, "the init container has ended", func() error {
		if n := count(init.output(t), "connect-tcp:"); n != 2 {
			return fmt.Errorf("it has printed %d lines", n)
		}
		return nil
	})
	if out := init.output(t); out != "connect-tcp: EPERM\nconnect-tcp: ok\n" {
		t.Errorf("the init container got %q, want EPERM and ok", out)
	}
	a, b := p.run(t, "a", s.knock(testutil.EchoPort)), p.run(t, "b", s.knock(testutil.EchoPort))
	for _, c := range []*container{a, b} {
		s.agent.awaitGoverned(t, c)
		want(t, "an exec into "+c.name, c.exec(t, strings.Fields(s.connect(testutil.EchoPort))...).Stdout, "EPERM")
		more(t, c.name+" is allowed", func() string { return c.output(t) }, "connect-tcp: ok", 3)
		onlyOK(t, c.name, c.output(t), "ok")
	}
	other := s.pod(t, podSpec{name: "other", labels: map[string]string{"app": "other"}}).run(t, "main", s.knock(testutil.EchoPort))
	want(t, "an exec into a pod without policy", other.exec(t, strings.Fields(s.connect(testutil.EchoPort))...).Stdout, "ok")
}

// mainShell is a container's main program as ps prints it behind its parent, which is in no container. A shell that has
// forked and not yet executed has the same arguments.
var mainShell = regexp.MustCompile(`(?m)^ *0 +/bin/sh -c while`)

// sharedPIDs has two containers that see each other's processes. An exec into one that reaches for a process of the
// other stays what it is.
func (s *scene) sharedPIDs(t *testing.T) {
	p := s.pod(t, podSpec{name: "shared", sharedPIDs: true})
	a, b := p.run(t, "a", s.knock(testutil.EchoPort)), p.run(t, "b", s.knock(testutil.EchoPort))
	s.agent.awaitGoverned(t, a)
	s.agent.awaitGoverned(t, b)
	seen := b.exec(t, "ps", "-o", "ppid,args").Stdout
	if len(mainShell.FindAllString(seen, -1)) != 2 {
		t.Fatalf("b sees other processes than its main program and a's: %q", seen)
	}
	want(t, "an exec into b", b.exec(t, strings.Fields(s.connect(testutil.EchoPort))...).Stdout, "EPERM")
	// Orphans of an exec become children of the pause container, which is of no help to them.
	orphan := b.exec(t, "sh", "-c", "(setsid sh -c 'sleep 0.3; "+s.connect(testutil.EchoPort)+" >/tmp/orphan' >/dev/null 2>&1 &)")
	if orphan.Code != 0 {
		t.Fatalf("making an orphan: %+v", orphan)
	}
	testutil.Eventually(t, "the orphan has tried", func() error {
		if out := b.exec(t, "cat", "/tmp/orphan").Stdout; out != "connect-tcp: EPERM\n" {
			return fmt.Errorf("it got %q, want EPERM", out)
		}
		return nil
	})
	for _, c := range []*container{a, b} {
		more(t, c.name+" goes on", func() string { return c.output(t) }, "connect-tcp: ok", 3)
		onlyOK(t, c.name, c.output(t), "ok")
	}
}

// target has a container that sees the processes of another: it is a container of its own, with a main program.
func (s *scene) target(t *testing.T) {
	p := s.pod(t, podSpec{name: "target"})
	web := p.run(t, "main", s.knock(testutil.EchoPort))
	s.agent.awaitGoverned(t, web)
	debug := p.debug(t, "debugger", "ps; exec "+s.connect(testutil.EchoPort), web)
	testutil.Eventually(t, "the debugger has tried", func() error {
		if out := debug.output(t); !strings.Contains(out, "/bin/sh -c while") || !strings.HasSuffix(out, "connect-tcp: ok\n") {
			return fmt.Errorf("it has printed %q", out)
		}
		return nil
	})
	for _, e := range s.agent.observe(t, "--kind", "connect", "--container", "debugger") {
		if e.Origin != "Main" || e.ContainerID != debug.id {
			t.Errorf("the debugger is %s of %s", e.Origin, e.ContainerID)
		}
	}
	want(t, "an exec into the target", web.exec(t, strings.Fields(s.connect(testutil.EchoPort))...).Stdout, "EPERM")
}

// hostPIDs has a pod that sees the node's processes.
func (s *scene) hostPIDs(t *testing.T) {
	c := s.pod(t, podSpec{name: "hostpid", hostPIDs: true}).run(t, "main", s.knock(testutil.EchoPort))
	s.agent.awaitGoverned(t, c)
	want(t, "an exec into a pod of the host's PIDs", c.exec(t, strings.Fields(s.connect(testutil.EchoPort))...).Stdout, "EPERM")
	more(t, "its main program is allowed", func() string { return c.output(t) }, "connect-tcp: ok", 3)
	onlyOK(t, "its main program", c.output(t), "ok")
}

// hostNetwork has a pod without a network of its own: it is judged at its sockets.
func (s *scene) hostNetwork(t *testing.T) {
	c := s.pod(t, podSpec{name: "hostnet", hostNetwork: true}).run(t, "main", s.knock(testutil.EchoPort))
	s.agent.awaitGoverned(t, c)
	want(t, "an exec into a pod of the host's network", c.exec(t, strings.Fields(s.connect(testutil.EchoPort))...).Stdout, "EPERM")
	more(t, "its main program is allowed", func() string { return c.output(t) }, "connect-tcp: ok", 3)
	onlyOK(t, "its main program", c.output(t), "ok")
	if out := s.onNode(t, 0); out != "connect-tcp: ok\n" {
		t.Errorf("a process of the node got %q, want ok", out)
	}
}

// nodeProcess enters a pod's network from the node, which is neither Main nor Exec.
func (s *scene) nodeProcess(t *testing.T) {
	c := s.pod(t, podSpec{name: "entered"}).run(t, "main", s.knock(testutil.EchoPort))
	s.agent.awaitGoverned(t, c)
	if out := s.onNode(t, c.pid(t)); out != "connect-tcp: EPERM\n" {
		t.Errorf("a process of the node in the pod's network got %q, want EPERM", out)
	}
	testutil.Eventually(t, "the denial is told as Host's", func() error {
		for _, e := range s.agent.observe(t, "--verdict", "Deny", "--origin", "Host") {
			if e.Pod == "entered" {
				return nil
			}
		}
		return fmt.Errorf("no such event")
	})
}

// onNode runs the victim on the node, with nsenter in the network namespace of a process unless that is 0.
func (s *scene) onNode(t *testing.T, pid int) string {
	t.Helper()
	args := append([]string{victim.Build(t)}, strings.Fields(s.connect(testutil.EchoPort))[1:]...)
	if pid != 0 {
		args = append([]string{"nsenter", "--target", strconv.Itoa(pid), "--net", "--"}, args...)
	}
	out, err := os.CreateTemp(t.TempDir(), "out")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdout = out
	s.net.Node.Start(t, cmd)
	_ = cmd.Wait() // what it printed counts
	text, err := os.ReadFile(out.Name())
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
