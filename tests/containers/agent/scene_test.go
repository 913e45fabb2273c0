package agent

import (
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/tests/testutil"
	"github.com/sallyport/sallyport/tests/victim"
)

const (
	image         = "test.local/box:1"
	forbiddenPort = testutil.EchoPort + 1 // of a server that no rule allows
	tryMS         = 2000                  // of one connect
)

// scene is a node with an agent, a containerd, one pod's network, and two servers: one that rules allow to Main
// (net.Echo) and one that they allow to nobody.
type scene struct {
	net        *testutil.Net
	containerd *testutil.Containerd
	agent      *agent
	forbidden  *testutil.Echo
}

// newScene makes a scene. The agent does not run yet.
func newScene(t *testing.T) *scene {
	t.Helper()
	s := &scene{containerd: testutil.NewContainerd(t), net: testutil.NewNet(t, testutil.NetOptions{})}
	s.forbidden = testutil.NewEcho(t, s.net.Server, netip.AddrPortFrom(s.net.ServerAddr, forbiddenPort))
	s.containerd.Image(t, image, testutil.File{Path: "/bin/victim", Source: victim.Build(t)})
	s.agent = newAgent(t, s.net.Node, conf{containerd: s.containerd.Socket, parent: "/" + s.containerd.Namespace})
	return s
}

// knocking is a governed container under load, and a shell in it that tries what is denied; shell and main return what they say.
func (s *scene) knocking(t *testing.T) (web *testutil.Container, shell, main func() string) {
	t.Helper()
	s.agent.Policy(t, "web.yaml", s.webPolicy())
	s.agent.Start(t)
	web = s.run(t, "web", s.load(testutil.EchoPort))
	s.agent.awaitGoverned(t, "web")
	web.ExecDetached(t, "shell", "sh", "-c", s.knock(forbiddenPort))
	return web, func() string { return web.ExecLog(t, "shell") }, func() string { return web.Log(t) }
}

// run starts a container app=web of the pod, whose entrypoint is a shell script.
func (s *scene) run(t *testing.T, id, script string) *testutil.Container {
	t.Helper()
	return s.containerd.Run(t, testutil.RunSpec{
		ID: id, Image: image, Args: []string{"sh", "-c", script}, NetNS: s.net.Pod.Path(), Labels: map[string]string{"app": "web"},
	})
}

// goOn tells a main program that waits until there is /go.
func goOn(t *testing.T, k *testutil.Container) {
	t.Helper()
	if r := k.Exec(t, "touch", "/go"); r.Code != 0 {
		t.Fatalf("telling the main program to go: %+v", r)
	}
}

// policyOf is a policy by that name for app=web, with rules below "rules:", and whatever stands before it in "spec:".
func (s *scene) policyOf(name, spec string) string {
	return fmt.Sprintf(`apiVersion: sallyport.dev/v1alpha1
kind: ProcessPolicy
metadata: {name: %s, namespace: %s}
spec:
  podSelector: {matchLabels: {app: web}}
%s`, name, s.containerd.Namespace, spec)
}

// webPolicy lets Main reach the one server, and shells nothing.
func (s *scene) webPolicy() string {
	return s.policyOf("web", fmt.Sprintf(`  rules:
  - name: main
    processes: [{origins: [Main]}]
    egress:
    - toCIDR: [%s/32]
      toPorts: [{ports: [{port: "%d", protocol: TCP}]}]
  - name: shells
    processes: [{origins: [Exec]}]
    action: Deny
    onViolation: {alert: critical}
`, s.net.ServerAddr, testutil.EchoPort))
}

// connect is the command line that connects to a port of the server once.
func (s *scene) connect(port int) string {
	return fmt.Sprintf("victim -- connect-tcp %s %d %d", s.net.ServerAddr, port, tryMS)
}

// load is a script that connects to a port again and again, and prints a line after every 200 times. The pauses are for
// the server: on a busy machine, without them, the queue of its listener overflows now and then.
func (s *scene) load(port int) string {
	return fmt.Sprintf("while :; do victim -- loop-tcp %s %d 200 0; sleep 0.05; done", s.net.ServerAddr, port)
}

// knock is a script that connects to a port some 20 times a second, and prints what became of each.
func (s *scene) knock(port int) string {
	return "while :; do " + s.connect(port) + "; sleep 0.05; done"
}

// execRetries is how often an exec without any output is repeated: ctr closes its pipes at the end of
// the process and now and then loses what a short one has written.
const execRetries = 5

// wantShell runs a shell in the container that connects to the forbidden server, and checks what it printed.
func (s *scene) wantShell(t *testing.T, k *testutil.Container, want string) {
	t.Helper()
	r := k.Exec(t, "sh", "-c", s.connect(forbiddenPort))
	for range execRetries {
		if r.Stdout != "" {
			break
		}
		r = k.Exec(t, "sh", "-c", s.connect(forbiddenPort))
	}
	if got := strings.TrimSpace(r.Stdout); got != "connect-tcp: "+want {
		t.Errorf("a shell in %s got %q (%s), want %s", k.ID, got, strings.TrimSpace(r.Stderr), want)
	}
}

// count is how many lines of a text begin like that.
func count(text, prefix string) (n int) {
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, prefix) {
			n++
		}
	}
	return n
}

// wantAllDenied says how many attempts of a shell were not denied, by what it has said.
func wantAllDenied(t *testing.T, said string) {
	t.Helper()
	if n := count(said, "connect-tcp:") - count(said, "connect-tcp: EPERM"); n != 0 {
		t.Errorf("%d attempts of the shell were not denied", n)
	}
}

// more waits until there are n more lines that begin with prefix than now.
func more(t *testing.T, what string, text func() string, prefix string, n int) {
	t.Helper()
	before := count(text(), prefix)
	testutil.Eventually(t, what, func() error {
		if got := count(text(), prefix) - before; got < n {
			return fmt.Errorf("%d more lines %q, want %d", got, prefix, n)
		}
		return nil
	})
}

// wantUnbroken checks that nothing that is allowed has failed, by what loads have printed. What the server's own queue had no room
// for is nobody else's doing: a busy machine does that.
func (s *scene) wantUnbroken(t *testing.T, said string) {
	t.Helper()
	failed := 0
	for line := range strings.Lines(said) {
		var ok, eperm, other int
		switch _, err := fmt.Sscanf(line, "loop-tcp: ok=%d eperm=%d other=%d", &ok, &eperm, &other); {
		case err == nil && eperm == 0:
			failed += other
		case line != "victim: the first of the others is ETIMEDOUT\n":
			t.Errorf("an allowed connect failed: %q", line)
		}
	}
	if failed == 0 {
		return
	}
	if dropped := s.serverDropped(t); failed > dropped {
		t.Errorf("%d allowed connects came to nothing, and the server's queue dropped %d", failed, dropped)
	}
	t.Logf("%d allowed connects found no room in the server's queue", failed)
}

// serverDropped is how many connections the server's kernel had no room for.
func (s *scene) serverDropped(t *testing.T) (n int) {
	t.Helper()
	var text []byte
	s.net.Server.Do(t, func() (err error) {
		text, err = os.ReadFile("/proc/thread-self/net/netstat")
		return err
	})
	lines := strings.Split(string(text), "\n")
	for i := 0; i+1 < len(lines); i += 2 {
		names, values := strings.Fields(lines[i]), strings.Fields(lines[i+1])
		if j := slices.Index(names, "ListenDrops"); j > 0 && j < len(values) {
			if _, err := fmt.Sscan(values[j], &n); err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	t.Fatal("the kernel does not say what its listeners have dropped")
	return 0
}
