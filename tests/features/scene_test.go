package features

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/tests/testutil"
	"github.com/sallyport/sallyport/tests/testutil/pod"
	"github.com/sallyport/sallyport/tests/testutil/program"
	"github.com/sallyport/sallyport/tests/victim"
)

const (
	forbiddenPort = testutil.EchoPort + 1 // of a server that no rule allows
	webPort       = testutil.EchoPort + 2 // where rules.http govern, so that libraries are tapped
	webName       = "web"                 // of the container
)

// scene is a node with an agent, a pod's network and two servers, of which rules allow one to Main.
type scene struct {
	node  *pod.Node
	net   *testutil.Net
	agent *program.Agent
}

func newScene(t *testing.T) *scene {
	t.Helper()
	s := &scene{node: pod.NewNode(t), net: testutil.NewNet(t, testutil.NetOptions{})}
	testutil.NewEcho(t, s.net.Server, netip.AddrPortFrom(s.net.ServerAddr, forbiddenPort))
	s.agent = program.NewAgent(t, s.net.Node)
	return s
}

// config is the agent's configuration, with lines of the row's own.
func (s *scene) config(steps string) string {
	return fmt.Sprintf(`policies: {dir: %s}
enforcement: {steps: [%s]}
kernel: {bpffs: %s}
runtime: {containerd: {enabled: false}, nri: {enabled: never}, containerParents: [%s]}
alerts: {jsonl: {path: %s}}
api: {socket: %s}
metrics: {address: ""}
log: {format: json, level: warn}
`, s.agent.Path("policies"), steps, s.agent.Path("bpf"), s.node.Parent, s.agent.Path("alerts.jsonl"), s.agent.Socket)
}

// policy lets Main reach one server, and shells nothing.
func (s *scene) policy() string {
	return fmt.Sprintf(`apiVersion: sallyport.dev/v1alpha1
kind: ProcessPolicy
metadata: {name: web, namespace: shop}
spec:
  podSelector: {}
  rules:
  - name: main
    processes: [{origins: [Main]}]
    egress:
    - toCIDR: [%[1]s/32]
      toPorts: [{ports: [{port: "%[2]d", protocol: TCP}]}]
    - toCIDR: [%[1]s/32]
      toPorts: [{ports: [{port: "%[3]d", protocol: TCP}], rules: {http: [{method: GET}]}}]
  - name: shells
    processes: [{origins: [Exec]}]
    action: Deny
`, s.net.ServerAddr, testutil.EchoPort, webPort)
}

// start starts the agent, and returns its exit code and what it said last where it has ended, or -1.
func (s *scene) start(t *testing.T, steps string) (code int, said string) {
	t.Helper()
	s.agent.Policy(t, "web.yaml", s.policy())
	s.agent.Launch(t, s.config(steps))
	for deadline := time.Now().Add(program.StartTime); time.Now().Before(deadline); time.Sleep(time.Second) {
		if s.agent.Gone() {
			lines := strings.Split(strings.TrimSpace(s.agent.Log(t)), "\n")
			return s.agent.AwaitEnd(t), lines[len(lines)-1]
		}
		if _, err := os.Stat(s.agent.Socket); err == nil && s.agent.Run(t, "status", "--socket", s.agent.Socket).Code == 0 {
			return -1, ""
		}
	}
	t.Fatal("the agent neither answers nor ends")
	return 0, ""
}

// answer is what status says, as far as the table has it.
type answer struct {
	Hooks []struct {
		Name, Step, Error string
	}
	Workloads []workload
}

type workload struct {
	ContainerID, GateInterface, Note string
	TLS                              []struct {
		Path         []byte
		Library, Why string
	}
}

// workload is the test's; of no name where it is not known.
func (a *answer) workload() (w workload) {
	for _, w = range a.Workloads {
		if w.ContainerID == webName {
			return w
		}
	}
	return workload{}
}

// refused is why hooks have no stronger steps.
func (a *answer) refused() string {
	var b strings.Builder
	for _, h := range a.Hooks {
		b.WriteString(h.Error + "\n")
	}
	return b.String()
}

func (s *scene) status(t *testing.T) *answer {
	t.Helper()
	var a answer
	s.agent.Status(t, &a)
	return &a
}

// container is a container that an OCI hook has told the agent of.
type container struct {
	*pod.Container
	scene *scene
	goOn  io.Writer
	first *pod.Process
}

// run makes a container whose main program waits until it is told to go on, and lets the hook tell the agent, which may be late.
func (s *scene) run(t *testing.T, late bool) *container {
	t.Helper()
	c := &container{scene: s, Container: s.node.Container(t, webName, s.net.Pod.NsHandle())}
	c.first = c.Command("/bin/sh", "-c", fmt.Sprintf("read go; %s; %s", s.connect(t, testutil.EchoPort), s.connect(t, forbiddenPort)))
	in, err := c.first.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	c.goOn = in
	c.first.Start(t)
	c.hook(t, late)
	return c
}

// connect is the command line that connects to a port of the server once.
func (s *scene) connect(t *testing.T, port int) string {
	t.Helper()
	return fmt.Sprintf("%s -- connect-tcp %s %d 2000", victim.Build(t), s.net.ServerAddr, port)
}

// hook is what a runtime does before it starts a container.
func (c *container) hook(t *testing.T, late bool) {
	t.Helper()
	bundle := t.TempDir()
	spec := map[string]any{
		"annotations": map[string]string{
			"io.kubernetes.cri.container-type": "container", "io.kubernetes.cri.sandbox-namespace": "shop",
			"io.kubernetes.cri.sandbox-name": "web", "io.kubernetes.cri.container-name": "web",
		},
		"linux": map[string]string{"cgroupsPath": c.scene.node.Parent + "/" + webName},
	}
	text, err := json.Marshal(spec)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(bundle, "config.json"), text, 0o600); err != nil {
		t.Fatal(err)
	}
	state, err := json.Marshal(map[string]any{"id": webName, "pid": c.first.Process.Pid, "bundle": bundle})
	if err != nil {
		t.Fatal(err)
	}
	patience := "1m"
	if late {
		patience = "2s"
	}
	cmd := exec.Command(c.scene.agent.Program, "hook", "createRuntime", "--socket", c.scene.agent.Socket, "--timeout", patience)
	cmd.Stdin = bytes.NewReader(state)
	out, err := cmd.CombinedOutput()
	if admitted := strings.Contains(string(out), "admitting the container before its policies are in force"); err != nil || admitted != late {
		t.Fatalf("the hook: %v: %s", err, out)
	}
}

// taps is the library that a TLS library of the container is tapped for, or why it is not.
func (c *container) taps(t *testing.T) (found string) {
	t.Helper()
	testutil.Eventually(t, "a TLS library is looked at", func() error {
		for _, f := range c.scene.status(t).workload().TLS {
			if strings.Contains(string(f.Path), "libssl.so") {
				found = cmp.Or(f.Why, f.Library)
				return nil
			}
		}
		return errors.New("none is")
	})
	return found
}

// main is what the main program could do: at the server that it may reach, and at the other one.
func (c *container) main(t *testing.T) string {
	t.Helper()
	if _, err := io.WriteString(c.goOn, "\n"); err != nil {
		t.Fatal(err)
	}
	return said(c.first.Result())
}

// shell is what a session could do at the server that Main may reach.
func (c *container) shell(t *testing.T) string {
	t.Helper()
	return said(c.Command("/bin/sh", "-c", c.scene.connect(t, testutil.EchoPort)).Run(t))
}

// said is what became of connects.
func said(text string) string {
	return strings.ReplaceAll(strings.ReplaceAll(text, "\n", ", "), "connect-tcp: ", "")
}
