package agent

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/tests/testutil"
	"github.com/sallyport/sallyport/tests/testutil/program"
)

// startTime is how long an agent may take until it answers, and to end: far more than it needs. Where a machine is emulated,
// the verifier alone is busy for a minute.
const startTime = 4 * time.Minute

// agent is sallyport run with everything of its own: configuration, policies, BPF file system, socket, log. It runs in
// the network namespace that is the node of the test's pods.
type agent struct {
	node    *testutil.NetNS
	dir     string
	program string
	conf    conf
	cmd     *exec.Cmd
	ended   chan struct{} // closed when the process has
}

// conf is what tests choose of the configuration.
type conf struct {
	containerd string // socket; "": there is none
	parent     string // cgroup whose children are containers
	unknown    string // unknownWorkload
	metrics    string // address
	alerts     string // the section; "": JSON lines only
	sizes      string // of the kernel's maps
	extra      string // lines at the end
}

// newAgent makes the surroundings of an agent. At the end of the test it is stopped, and everything is removed from the
// kernel.
func newAgent(t *testing.T, node *testutil.NetNS, c conf) *agent {
	t.Helper()
	dir, err := os.MkdirTemp("", "sallyport-") //nolint:usetesting // t.TempDir is too long for the path of a socket
	if err != nil {
		t.Fatal(err)
	}
	a := &agent{node: node, dir: dir, program: program.Binary(t), conf: c}
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
		a.Stop(t)
	}
	if t.Failed() {
		t.Logf("the agent wrote:\n%s", a.Log(t))
	}
	if r := a.run(t, "run", "--cleanup", "--config", a.path("config.yaml")); a.cmd != nil && r.Code != 0 {
		t.Errorf("cleaning up: exit code %d: %s", r.Code, r.Stderr)
	}
	if err := unix.Unmount(a.path("bpf"), unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
		t.Errorf("unmounting the BPF file system: %v", err) // a test may have done it
	}
	if err := os.RemoveAll(a.dir); err != nil {
		t.Errorf("removing the agent's files: %v", err)
	}
}

// configure writes the configuration file.
func (a *agent) configure(t *testing.T) {
	t.Helper()
	containerd := "{enabled: false}"
	if a.conf.containerd != "" {
		containerd = "{socket: " + a.conf.containerd + ", reconnectMax: 1s}"
	}
	text := fmt.Sprintf(`policies: {dir: %s}
enforcement: {unknownWorkload: %s}
kernel: {bpffs: %s, maps: %s}
runtime:
  containerd: %s
  nri: {enabled: never} # that would be the machine's own runtime
  containerParents: [%s]
alerts: %s
api: {socket: %s}
metrics: {address: %q}
log: {format: json}
%s`, a.path("policies"), or(a.conf.unknown, "allow"), a.path("bpf"), or(a.conf.sizes, "{}"), containerd, or(a.conf.parent, "/none"),
		or(a.conf.alerts, "{jsonl: {path: "+a.path("alerts.jsonl")+"}}"), a.path("api.sock"), a.conf.metrics, a.conf.extra)
	if err := os.WriteFile(a.path("config.yaml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func or(text, other string) string {
	if text == "" {
		return other
	}
	return text
}

// Start starts the agent and waits until it answers.
func (a *agent) Start(t *testing.T) {
	t.Helper()
	a.launch(t)
	deadline := time.Now().Add(startTime)
	for {
		r := a.run(t, "status", "--socket", a.path("api.sock"), "-o", "json")
		if r.Code == 0 {
			return
		}
		if a.gone() || time.Now().After(deadline) {
			t.Fatalf("the agent does not answer: %s\nit wrote:\n%s", r.Stderr, a.Log(t))
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// launch starts the agent's process. It ends with the test program's.
func (a *agent) launch(t *testing.T) {
	t.Helper()
	a.configure(t)
	log, err := os.OpenFile(a.path("log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(a.program, "run", "--config", a.path("config.yaml"))
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started, ended := make(chan error), make(chan struct{})
	go a.node.Do(t, func() error { // by Pdeathsig it ends with its thread, which therefore waits for it
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
}

func (a *agent) gone() bool {
	select {
	case <-a.ended:
		return true
	default:
		return false
	}
}

// Kill ends the agent with SIGKILL.
func (a *agent) Kill(t *testing.T) {
	t.Helper()
	a.end(t, syscall.SIGKILL)
}

// Stop ends the agent with SIGTERM, which is no error to it.
func (a *agent) Stop(t *testing.T) {
	t.Helper()
	a.end(t, syscall.SIGTERM)
	if code := a.cmd.ProcessState.ExitCode(); code != 0 {
		t.Errorf("the agent ended with exit code %d:\n%s", code, a.Log(t))
	}
}

func (a *agent) end(t *testing.T, signal syscall.Signal) {
	t.Helper()
	if a.gone() {
		t.Fatalf("the agent had ended by itself:\n%s", a.Log(t))
	}
	if err := a.cmd.Process.Signal(signal); err != nil {
		t.Fatal("signalling the agent: ", err)
	}
	a.awaitEnd(t)
}

// awaitEnd waits for the end of the agent and returns its exit code.
func (a *agent) awaitEnd(t *testing.T) int {
	t.Helper()
	select {
	case <-a.ended:
		return a.cmd.ProcessState.ExitCode()
	case <-time.After(startTime):
		t.Fatalf("the agent does not end:\n%s", a.Log(t))
		return 0
	}
}

// Log is what the agent wrote, all of its runs.
func (a *agent) Log(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(a.path("log"))
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
	a.node.Start(t, cmd)
	timer := time.AfterFunc(startTime, func() { _ = cmd.Process.Kill() }) // its exit code tells
	defer timer.Stop()
	err := cmd.Wait()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return testutil.ExecResult{Stdout: stdout.String(), Stderr: stderr.String(), Code: cmd.ProcessState.ExitCode()}
}

// policy writes a file into the policy directory, as editors do: whole, under another name first.
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
	Agent    struct{ Version, Platform string }
	Kernel   string
	Adopted  bool
	Revision uint64 `json:",string"`
	Hooks    []struct {
		Name, Step, Program, DoesNotStop, State, Error string
	}
	Policies  []policyStatus
	Workloads []workloadStatus
	Losses    []counter
	Errors    []counter
}

type policyStatus struct {
	Name, File, Mode, Error string
	Workloads               []string
}

type workloadStatus struct {
	Name, Container, ContainerID, Cgroup, GateInterface, Note string
	Ruleset                                                   uint32
	Governed, Provisional                                     bool
	TLS                                                       []struct {
		Path         []byte
		Library, Why string
	}
}

type counter struct {
	Site  string
	Count uint64 `json:",string"`
}

// Status asks the agent.
func (a *agent) Status(t *testing.T) status {
	t.Helper()
	r := a.run(t, "status", "--socket", a.path("api.sock"), "-o", "json")
	if r.Code != 0 {
		t.Fatalf("status: exit code %d: %s", r.Code, r.Stderr)
	}
	var s status
	if err := json.Unmarshal([]byte(r.Stdout), &s); err != nil {
		t.Fatalf("status: %v in %s", err, r.Stdout)
	}
	// The machine may have other containers, which no runtime of the test has named.
	s.Workloads = slices.DeleteFunc(s.Workloads, func(w workloadStatus) bool {
		return w.Provisional && !strings.HasPrefix(w.Cgroup, a.conf.parent+"/")
	})
	return s
}

// awaitStatus waits until check finds nothing wrong with the status.
func (a *agent) awaitStatus(t *testing.T, what string, check func(status) error) {
	t.Helper()
	testutil.Eventually(t, what, func() error {
		s := a.Status(t)
		if err := check(s); err != nil {
			return fmt.Errorf("%w in %+v", err, s)
		}
		return nil
	})
}

// awaitGoverned waits until a rule selects the container and its packets are gated.
func (a *agent) awaitGoverned(t *testing.T, id string) {
	t.Helper()
	a.awaitStatus(t, id+" is governed", func(s status) error {
		for _, w := range s.Workloads {
			if w.ContainerID == id && w.Governed && w.GateInterface != "" {
				return nil
			}
		}
		return errors.New("no such workload")
	})
}

// Observe returns the events that the agent keeps and the filters let through.
func (a *agent) Observe(t *testing.T, filters ...string) []event {
	t.Helper()
	r := a.run(t, append([]string{"observe", "--socket", a.path("api.sock"), "-o", "json"}, filters...)...)
	if r.Code != 0 {
		t.Fatalf("observe: exit code %d: %s", r.Code, r.Stderr)
	}
	return parseEvents(t, r.Stdout)
}

// event is one JSON line of an event, as far as tests look at it.
type event struct {
	Time                                                     time.Time
	Kind, Severity, Workload, Namespace, Pod, Container      string
	ContainerID, Origin, Session, ExecID, Binary, Call, Peer string
	Rule, Policy, Verdict, Would, Reason, Step, Message      string
	Method, Host, Path                                       string // of a request
	PID, UID                                                 uint32
	Inferred                                                 bool
	Lost                                                     uint64
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
