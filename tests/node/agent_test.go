package node

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/tests/testutil"
	"github.com/sallyport/sallyport/tests/testutil/program"
)

// metricsAddress is where the agent's metrics are, in the node's network namespace.
const metricsAddress = "127.0.0.1:9464"

// agent is sallyport run on a node.
type agent struct {
	*program.Agent
	node    *node
	unknown string // unknownWorkload
	nri     string // lines below runtime.nri
	kube    string // lines below kube
}

// newAgent makes the surroundings of an agent. At the end of the test it is stopped, and everything is removed from the
// kernel.
func newAgent(t *testing.T, n *node) *agent {
	t.Helper()
	a := &agent{Agent: program.NewAgent(t, n.net.Node), node: n, unknown: "allow", nri: "enabled: never", kube: "enabled: never"}
	a.Socket = n.agentSocket()
	if n.release.nri {
		a.nri = "enabled: always"
	}
	return a
}

func (a *agent) config() string {
	return fmt.Sprintf(`policies: {dir: %s}
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
`, a.Path("policies"), a.unknown, a.Path("bpf"), a.node.socket(), a.node.nriSocket(), a.nri, a.kube, a.Path("alerts.jsonl"), a.Socket, metricsAddress)
}

// start starts the agent and waits until it knows what runs.
func (a *agent) start(t *testing.T) {
	t.Helper()
	before := a.listened(t)
	a.Launch(t, a.config())
	testutil.Eventually(t, "the agent follows the runtime", func() error {
		if a.Gone() {
			t.Fatalf("the agent ended:\n%s", a.Log(t))
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
	log := a.Log(t)
	n := strings.Count(log, `"message":"containerd is watched"`)
	if a.nri != "enabled: never" {
		n = min(n, strings.Count(log, `"message":"the runtime calls before it starts containers"`))
	}
	return n
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

func (a *agent) status(t *testing.T) (s status) {
	t.Helper()
	a.Status(t, &s)
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
	return program.Events[event](t, a.Ask(t, "observe", filters...))
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
