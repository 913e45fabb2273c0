package agent

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/tests/testutil"
	"github.com/sallyport/sallyport/tests/testutil/program"
)

// agent is sallyport run in the network namespace that is the node of the test's pods.
type agent struct {
	*program.Agent
	conf conf
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
	return &agent{program.NewAgent(t, node), c}
}

// config is the configuration.
func (a *agent) config() string {
	containerd := "{enabled: false}"
	if a.conf.containerd != "" {
		containerd = "{socket: " + a.conf.containerd + ", reconnectMax: 1s}"
	}
	return fmt.Sprintf(`policies: {dir: %s}
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
%s`, a.Path("policies"), or(a.conf.unknown, "allow"), a.Path("bpf"), or(a.conf.sizes, "{}"), containerd, or(a.conf.parent, "/none"),
		or(a.conf.alerts, "{jsonl: {path: "+a.Path("alerts.jsonl")+"}}"), a.Socket, a.conf.metrics, a.conf.extra)
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
	deadline := time.Now().Add(program.StartTime)
	for {
		r := a.Run(t, "status", "--socket", a.Socket, "-o", "json")
		if r.Code == 0 {
			return
		}
		if a.Gone() || time.Now().After(deadline) {
			t.Fatalf("the agent does not answer: %s\nit wrote:\n%s", r.Stderr, a.Log(t))
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func (a *agent) launch(t *testing.T) {
	t.Helper()
	a.Launch(t, a.config())
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
func (a *agent) Status(t *testing.T) (s status) {
	t.Helper()
	a.Agent.Status(t, &s)
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
	return program.Events[event](t, a.Ask(t, "observe", filters...))
}

// alerts returns what was written of them as JSON lines.
func (a *agent) alerts(t *testing.T) []event {
	t.Helper()
	text, err := os.ReadFile(a.Path("alerts.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	return program.Events[event](t, string(text[:bytes.LastIndexByte(text, '\n')+1])) // the last line may be half written
}

// event is one JSON line of an event, as far as tests look at it.
type event struct {
	Time                                                     time.Time
	Kind, Severity, Workload, Namespace, Pod, Container      string
	Query                                                    string
	Told                                                     uint32
	ContainerID, Origin, Session, ExecID, Binary, Call, Peer string
	Rule, Policy, Verdict, Would, Reason, Step, Message      string
	Method, Host, Path                                       string // of a request
	Status, LatencyNS                                        uint64 // of an answer
	PID, UID                                                 uint32
	Inferred, Drifted                                        bool
	Lost                                                     uint64
}
