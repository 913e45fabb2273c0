package node

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/tests/testutil"
	"github.com/sallyport/sallyport/tests/testutil/program"
)

// metricsAddress is where the agent's metrics are, in the node's network namespace.
const metricsAddress = "127.0.0.1:9464"

// agent is sallyport run with everything of its own: configuration, policies, BPF file system, socket, log.
type agent struct {
	node    *node
	dir     string
	program string
	unknown string // unknownWorkload
	nri     string // lines below runtime.nri
	kube    string // lines below kube
	cmd     *exec.Cmd
	ended   chan struct{} // closed when the process has
}

// newAgent makes the surroundings of an agent. At the end of the test it is stopped, and everything is removed from the
// kernel.
func newAgent(t *testing.T, n *node) *agent {
	t.Helper()
	dir, err := os.MkdirTemp("", "sallyport-") //nolint:usetesting // t.TempDir is too long for the path of a socket
	if err != nil {
		t.Fatal(err)
	}
	a := &agent{node: n, dir: dir, program: program.Binary(t), unknown: "allow", nri: "enabled: never", kube: "enabled: never"}
	if n.release.nri {
		a.nri = "enabled: always"
	}
	t.Cleanup(func() { a.close(t) })
	for _, sub := range []string{"policies", "bpf"} {
		if err := os.Mkdir(a.path(sub), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.Mount("bpf", a.path("bpf"), "bpf", 0, ""); err != nil {
		t.Fatal("mounting a BPF file system: ", err)
	}
	return a
}

func (a *agent) path(name string) string { return filepath.Join(a.dir, name) }

func (a *agent) close(t *testing.T) {
	t.Helper()
	if a.cmd != nil && !a.gone() {
		a.stop(t)
	}
	if t.Failed() {
		t.Logf("the agent wrote:\n%s", a.log(t))
	}
	if r := a.run(t, "run", "--cleanup", "--config", a.path("config.yaml")); a.cmd != nil && r.Code != 0 {
		t.Errorf("cleaning up: exit code %d: %s", r.Code, r.Stderr)
	}
	if err := unix.Unmount(a.path("bpf"), unix.MNT_DETACH); err != nil {
		t.Errorf("unmounting the BPF file system: %v", err)
	}
	if err := os.RemoveAll(a.dir); err != nil {
		t.Errorf("removing the agent's files: %v", err)
	}
}

func (a *agent) configure(t *testing.T) {
	t.Helper()
	text := fmt.Sprintf(`policies: {dir: %s}
enforcement: {unknownWorkload: %s}
kernel: {bpffs: %s}
runtime:
  containerd: {socket: %s, reconnectMax: 1s}
  nri: {socket: %s, %s}
kube: {%s}
alerts: {jsonl: {path: %s}}
api: {socket: %s}
metrics: {address: %q}
log: {format: json}
`, a.path("policies"), a.unknown, a.path("bpf"), a.node.socket(), a.node.nriSocket(), a.nri, a.kube, a.path("alerts.jsonl"), a.node.agentSocket(), metricsAddress)
	if err := os.WriteFile(a.path("config.yaml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// start starts the agent and waits until it knows what runs.
func (a *agent) start(t *testing.T) {
	t.Helper()
	a.configure(t)
	log, err := os.OpenFile(a.path("log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	before := a.listened(t)
	cmd := exec.Command(a.program, "run", "--config", a.path("config.yaml"))
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started, ended := make(chan error), make(chan struct{})
	go a.node.net.Node.Do(t, func() error { // by Pdeathsig it ends with its thread, which therefore waits for it
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait() // how it ended is asked of its state
		}
		close(ended)
		return nil
	})
	err = <-started
	_ = log.Close() // the agent has its own
	if err != nil {
		t.Fatal("starting the agent: ", err)
	}
	a.cmd, a.ended = cmd, ended
	testutil.Eventually(t, "the agent follows the runtime", func() error {
		if a.gone() {
			t.Fatalf("the agent ended:\n%s", a.log(t))
		}
		if a.listened(t) == before {
			return errors.New("not yet")
		}
		return nil
	})
}

// listened counts how often the agent has connected to everything it is to follow.
func (a *agent) listened(t *testing.T) int {
	t.Helper()
	log := a.log(t)
	n := strings.Count(log, `"message":"containerd is watched"`)
	if a.nri != "enabled: never" {
		n = min(n, strings.Count(log, `"message":"the runtime calls before it starts containers"`))
	}
	return n
}

func (a *agent) gone() bool {
	select {
	case <-a.ended:
		return true
	default:
		return false
	}
}

// stop ends the agent with SIGTERM, which is no error to it.
func (a *agent) stop(t *testing.T) {
	t.Helper()
	a.end(t, syscall.SIGTERM)
	if code := a.cmd.ProcessState.ExitCode(); code != 0 {
		t.Errorf("the agent ended with exit code %d:\n%s", code, a.log(t))
	}
}

func (a *agent) end(t *testing.T, signal syscall.Signal) {
	t.Helper()
	a.signal(t, signal)
	select {
	case <-a.ended:
	case <-time.After(startTime):
		t.Fatalf("the agent does not end:\n%s", a.log(t))
	}
}

func (a *agent) signal(t *testing.T, signal syscall.Signal) {
	t.Helper()
	if a.gone() {
		t.Fatalf("the agent had ended by itself:\n%s", a.log(t))
	}
	if err := a.cmd.Process.Signal(signal); err != nil {
		t.Fatal("signalling the agent: ", err)
	}
}

func (a *agent) log(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(a.path("log"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return string(text)
}

// alerts is the agent's JSON lines.
func (a *agent) alerts(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(a.path("alerts.jsonl"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return string(text)
}

// run runs the program with other arguments, as the operator's shell would, in the node's network namespace.
func (a *agent) run(t *testing.T, args ...string) testutil.ExecResult {
	t.Helper()
	cmd := exec.Command(a.program, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	a.node.net.Node.Start(t, cmd)
	timer := time.AfterFunc(startTime, func() { _ = cmd.Process.Kill() }) // its exit code tells
	defer timer.Stop()
	err := cmd.Wait()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return testutil.ExecResult{Stdout: stdout.String(), Stderr: stderr.String(), Code: cmd.ProcessState.ExitCode()}
}

// policy writes a file into the policy directory.
func (a *agent) policy(t *testing.T, name, text string) {
	t.Helper()
	file := filepath.Join(a.path("policies"), name)
	if err := os.WriteFile(file+".new", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(file+".new", file); err != nil {
		t.Fatal(err)
	}
}

// status is the answer of sallyport status -o json, as far as tests look at it.
type status struct {
	Revision uint64 `json:",string"`
	Hooks    []struct{ Name, Step, State string }
	Runtimes []struct {
		Name, State, Detail string
		Admitted, Refused   uint64 `json:",string"`
	}
	Workloads []struct {
		Name, Container, ContainerID, GateInterface, Note string
		Governed, Provisional                             bool
	}
	Losses []struct {
		Site  string
		Count uint64 `json:",string"`
	}
}

func (a *agent) status(t *testing.T) status {
	t.Helper()
	r := a.run(t, "status", "--socket", a.node.agentSocket(), "-o", "json")
	if r.Code != 0 {
		t.Fatalf("status: exit code %d: %s", r.Code, r.Stderr)
	}
	var s status
	if err := json.Unmarshal([]byte(r.Stdout), &s); err != nil {
		t.Fatalf("status: %v in %s", err, r.Stdout)
	}
	return s
}

// awaitGoverned waits until a rule selects the container; of one with a network of its own, until its packets are gated.
func (a *agent) awaitGoverned(t *testing.T, c *container) {
	t.Helper()
	testutil.Eventually(t, c.name+" is governed", func() error {
		s := a.status(t)
		for _, w := range s.Workloads {
			if w.ContainerID == c.id && w.Governed && (w.GateInterface != "" || c.pod.spec.hostNetwork) {
				return nil
			}
		}
		return fmt.Errorf("no such workload in %+v", s.Workloads)
	})
}

// awaitRuntime waits until the agent follows a runtime again that was away.
func (a *agent) awaitRuntime(t *testing.T) {
	t.Helper()
	if !a.node.release.nri {
		return
	}
	testutil.Eventually(t, "the runtime calls again", func() error {
		for _, r := range a.status(t).Runtimes {
			if r.Name == "nri" && r.State == "connected" {
				return nil
			}
		}
		return errors.New("not yet")
	})
}

// event is one JSON line of an event, as far as tests look at it.
type event struct {
	Kind, Pod, Container, ContainerID, Origin, Session, Binary, Verdict, Would, Reason, Rule, Peer, Message, User string
	Inferred, Terminal                                                                                            bool
}

// observe returns the events that the agent keeps and the filters let through.
func (a *agent) observe(t *testing.T, filters ...string) []event {
	t.Helper()
	r := a.run(t, append([]string{"observe", "--socket", a.node.agentSocket(), "-o", "json"}, filters...)...)
	if r.Code != 0 {
		t.Fatalf("observe: exit code %d: %s", r.Code, r.Stderr)
	}
	return parseEvents(t, r.Stdout)
}

func parseEvents(t *testing.T, text string) []event {
	t.Helper()
	var events []event
	for line := range strings.Lines(text) {
		var e event
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("event %q: %v", line, err)
		}
		events = append(events, e)
	}
	return events
}

var pidField = regexp.MustCompile(`"pid": ?(\d+)`)

// pidIn finds the pid in what the CRI tells of a container when asked to be verbose.
func pidIn(t *testing.T, info string) int {
	t.Helper()
	found := pidField.FindStringSubmatch(info)
	if found == nil {
		t.Fatalf("no pid in %s", info)
	}
	pid, err := strconv.Atoi(found[1])
	if err != nil || pid == 0 {
		t.Fatalf("no pid in %s", info)
	}
	return pid
}
