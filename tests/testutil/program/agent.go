package program

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/tests/testutil"
)

// StartTime is how long an agent may take until it answers, and to end: far more than it needs. Where a machine is emulated,
// the verifier alone is busy for a minute.
const StartTime = 4 * time.Minute

// Agent is sallyport run with everything of its own: configuration, policies, BPF file system, log. It runs in the network
// namespace of a node that the test has made.
type Agent struct {
	Program string    // the file that is run
	Socket  string    // of its API
	Cmd     *exec.Cmd // of its last run; nil: it was never started

	net   *testutil.NetNS
	dir   string
	ended chan struct{} // closed when the process has
}

// NewAgent makes the surroundings of an agent. At the end of the test it is stopped, and everything is removed from the
// kernel.
func NewAgent(t *testing.T, node *testutil.NetNS) *Agent {
	t.Helper()
	dir, err := os.MkdirTemp("", "sallyport-") //nolint:usetesting // t.TempDir is too long for the path of a socket
	if err != nil {
		t.Fatal(err)
	}
	a := &Agent{Program: Binary(t), Socket: filepath.Join(dir, "api.sock"), net: node, dir: dir}
	t.Cleanup(func() { a.close(t) })
	for _, sub := range []string{"policies", "bpf"} {
		if err := os.Mkdir(a.Path(sub), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.Mount("bpf", a.Path("bpf"), "bpf", 0, ""); err != nil {
		t.Fatal("mounting a BPF file system: ", err)
	}
	return a
}

// Path is that of one of the agent's files.
func (a *Agent) Path(name string) string { return filepath.Join(a.dir, name) }

func (a *Agent) close(t *testing.T) {
	t.Helper()
	if a.Cmd != nil && !a.Gone() {
		a.Stop(t)
	}
	if t.Failed() {
		t.Logf("the agent wrote:\n%s", a.Log(t))
	}
	if r := a.Run(t, "run", "--cleanup", "--config", a.Path("config.yaml")); a.Cmd != nil && r.Code != 0 {
		t.Errorf("cleaning up: exit code %d: %s", r.Code, r.Stderr)
	}
	if err := unix.Unmount(a.Path("bpf"), unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
		t.Errorf("unmounting the BPF file system: %v", err) // a test may have done it
	}
	if err := os.RemoveAll(a.dir); err != nil {
		t.Errorf("removing the agent's files: %v", err)
	}
}

// Configure writes the agent's configuration.
func (a *Agent) Configure(t *testing.T, config string) {
	t.Helper()
	if err := os.WriteFile(a.Path("config.yaml"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
}

// Launch starts the agent's process with a configuration. It ends with the test program's.
func (a *Agent) Launch(t *testing.T, config string) {
	t.Helper()
	a.Configure(t, config)
	log, err := os.OpenFile(a.Path("log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(a.Program, "run", "--config", a.Path("config.yaml"))
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started, ended := make(chan error), make(chan struct{})
	go a.net.Do(t, func() error { // by Pdeathsig it ends with its thread, which therefore waits for it
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
	a.Cmd, a.ended = cmd, ended
}

// Gone says whether the agent's process has ended.
func (a *Agent) Gone() bool {
	select {
	case <-a.ended:
		return true
	default:
		return false
	}
}

// Stop ends the agent with SIGTERM, which is no error to it.
func (a *Agent) Stop(t *testing.T) {
	t.Helper()
	a.End(t, syscall.SIGTERM)
	if code := a.Cmd.ProcessState.ExitCode(); code != 0 {
		t.Errorf("the agent ended with exit code %d:\n%s", code, a.Log(t))
	}
}

// Kill ends the agent with SIGKILL.
func (a *Agent) Kill(t *testing.T) {
	t.Helper()
	a.End(t, syscall.SIGKILL)
}

// End ends the agent with a signal.
func (a *Agent) End(t *testing.T, signal syscall.Signal) {
	t.Helper()
	a.Signal(t, signal)
	a.AwaitEnd(t)
}

// Signal sends a signal to the agent, which must not have ended.
func (a *Agent) Signal(t *testing.T, signal syscall.Signal) {
	t.Helper()
	if a.Gone() {
		t.Fatalf("the agent had ended by itself:\n%s", a.Log(t))
	}
	if err := a.Cmd.Process.Signal(signal); err != nil {
		t.Fatal("signalling the agent: ", err)
	}
}

// AwaitEnd waits for the end of the agent and returns its exit code.
func (a *Agent) AwaitEnd(t *testing.T) int {
	t.Helper()
	select {
	case <-a.ended:
		return a.Cmd.ProcessState.ExitCode()
	case <-time.After(StartTime):
		t.Fatalf("the agent does not end:\n%s", a.Log(t))
		return 0
	}
}

// Log is what the agent wrote, all of its runs.
func (a *Agent) Log(t *testing.T) string { t.Helper(); return a.read(t, "log") }

// Alerts is the agent's JSON lines.
func (a *Agent) Alerts(t *testing.T) string { t.Helper(); return a.read(t, "alerts.jsonl") }

func (a *Agent) read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(a.Path(name))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return string(text)
}

// Run runs the program with other arguments, as the operator's shell would, in the node's network namespace.
func (a *Agent) Run(t *testing.T, args ...string) testutil.ExecResult {
	t.Helper()
	cmd := exec.Command(a.Program, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	a.net.Start(t, cmd)
	timer := time.AfterFunc(StartTime, func() { _ = cmd.Process.Kill() }) // its exit code tells
	defer timer.Stop()
	err := cmd.Wait()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return testutil.ExecResult{Stdout: stdout.String(), Stderr: stderr.String(), Code: cmd.ProcessState.ExitCode()}
}

// Ask runs a command that asks the agent for JSON, and returns what it says.
func (a *Agent) Ask(t *testing.T, command string, args ...string) string {
	t.Helper()
	r := a.Run(t, append([]string{command, "--socket", a.Socket, "-o", "json"}, args...)...)
	if r.Code != 0 {
		t.Fatalf("%s: exit code %d: %s", command, r.Code, r.Stderr)
	}
	return r.Stdout
}

// Status asks the agent for its status, as far as status, a pointer, has fields for it.
func (a *Agent) Status(t *testing.T, status any) {
	t.Helper()
	text := a.Ask(t, "status")
	if err := json.Unmarshal([]byte(text), status); err != nil {
		t.Fatalf("status: %v in %s", err, text)
	}
}

// Policy writes a file into the policy directory, as editors do: whole, under another name first.
func (a *Agent) Policy(t *testing.T, name, text string) {
	t.Helper()
	file := filepath.Join(a.Path("policies"), name)
	if err := os.WriteFile(file+".new", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(file+".new", file); err != nil {
		t.Fatal(err)
	}
}

// Events parses events, one JSON value a line, as far as E has fields for them.
func Events[E any](t *testing.T, text string) (events []E) {
	t.Helper()
	for line := range strings.Lines(text) {
		var e E
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("event %q: %v", line, err)
		}
		events = append(events, e)
	}
	return events
}
