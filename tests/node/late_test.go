package node

import (
	"fmt"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sallyport/sallyport/tests/testutil"
)

// denyAll is a policy under which nothing of app=web may reach anything, so that a single packet says that a container
// ran before its policies were in force.
const denyAll = `apiVersion: sallyport.dev/v1alpha1
kind: ProcessPolicy
metadata: {name: closed, namespace: shop}
spec:
  podSelector: {matchLabels: {app: web}}
  rules: [{name: none, action: Deny}]
`

// heavyPolicy takes long to compile: it selects what denyAll selects, and allows nothing of it.
func heavyPolicy() string {
	var b strings.Builder
	b.WriteString(`apiVersion: sallyport.dev/v1alpha1
kind: ProcessPolicy
metadata: {name: heavy, namespace: shop}
spec:
  podSelector: {matchLabels: {app: web}}
  rules:
`)
	for rule := range 60 {
		fmt.Fprintf(&b, "  - name: r%d\n    processes: [{origins: [Host]}]\n    egress:\n    - toCIDR: [", rule)
		for i := range 2500 {
			n := rule*2500 + i
			fmt.Fprintf(&b, "10.%d.%d.%d/32, ", 100+n>>16, n>>8&255, n&255)
		}
		b.WriteString("10.99.99.99/32]\n")
	}
	return b.String()
}

// firstInstruction is a script whose very first act is to connect.
func (s *scene) firstInstruction() string { return "exec " + s.connect(forbiddenPort) }

// awaitExit waits until a container has printed something, and returns it.
func (c *container) awaitOutput(t *testing.T) string {
	t.Helper()
	var out string
	testutil.Eventually(t, c.name+" has ended", func() error {
		if out = c.output(t); out == "" {
			return fmt.Errorf("it has printed nothing")
		}
		return nil
	})
	return out
}

// runtimeStatus is what status says of one way in which a runtime calls.
func (a *agent) runtimeStatus(t *testing.T, name string) (found struct {
	State, Detail     string
	Admitted, Refused uint64
},
) {
	t.Helper()
	for _, r := range a.status(t).Runtimes {
		if r.Name == name {
			found.State, found.Detail, found.Admitted, found.Refused = r.State, r.Detail, r.Admitted, r.Refused
		}
	}
	return found
}

// wantLate checks that the agent has told of a late container.
func (s *scene) wantLate(t *testing.T, c *container, verdict string) {
	t.Helper()
	testutil.Eventually(t, "the late start is told", func() error {
		for _, e := range s.agent.observe(t, "--kind", "late") {
			if e.ContainerID == c.id && e.Verdict == verdict && e.Pod == c.pod.spec.name && strings.Contains(s.agent.Alerts(t), e.Message) {
				return nil
			}
		}
		return fmt.Errorf("no event of %s with verdict %s", c.id, verdict)
	})
}

// TestFirstInstructionIsGoverned starts containers that connect with their first instruction, one after the other and
// at once: the runtime must wait for each until its policy is in force.
func TestFirstInstructionIsGoverned(t *testing.T) {
	forEach(t, func(t *testing.T, r release) {
		s := newScene(t, r, r.calls())
		s.agent.Policy(t, "closed.yaml", denyAll)
		s.agent.start(t)
		if now := s.agent.runtimeStatus(t, "nri"); r.nri && (now.State != "connected" || !strings.HasPrefix(now.Detail, "containerd ")) {
			t.Errorf("status says of NRI: %+v", now)
		}
		p := s.pod(t, podSpec{name: "web"})
		for i := range times(10) {
			c := p.run(t, fmt.Sprintf("c%d", i), s.firstInstruction())
			want(t, "the first instruction of "+c.name, c.awaitOutput(t), "EPERM")
		}
		s.forbidden.ExpectNone(t)
		for _, e := range s.agent.observe(t, "--kind", "late") {
			t.Errorf("a container was late: %s", e.Message)
		}
	})
}

// patience is how long a container may wait where the agent is to be late.
const patience = 300 * time.Millisecond

// TestSlowAgent lets the agent need longer for a policy than a container may wait.
func TestSlowAgent(t *testing.T) {
	forEach(t, func(t *testing.T, r release) {
		for _, choice := range []string{"admit", "refuse"} {
			t.Run(choice, func(t *testing.T) { slowAgent(t, r, choice) })
		}
	})
}

// keepBusy gives the agent one policy after another that takes long to read and to compile, until rest is called. The
// first is on its way when it returns.
func (s *scene) keepBusy(t *testing.T) (rest func()) {
	t.Helper()
	text, stop := heavyPolicy(), make(chan struct{})
	s.agent.Policy(t, "heavy.yaml", text)
	time.Sleep(2 * settle)
	var writer sync.WaitGroup
	writer.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			case <-time.After(2 * settle):
			}
			// Other names of rules, so that nothing of the one before can be taken over.
			s.agent.Policy(t, "heavy.yaml", strings.ReplaceAll(text, "- name: r", fmt.Sprintf("- name: v%d-", i)))
		}
	})
	return func() {
		close(stop)
		writer.Wait()
	}
}

// settle is how long the agent lets the policy directory come to rest before it reads it.
const settle = 100 * time.Millisecond

func slowAgent(t *testing.T, r release, choice string) {
	by := "nri"
	configure := func(*node) {}
	if !r.nri {
		by, configure = "hook", hooked("--timeout="+patience.String(), "--on-failure="+choice)
	}
	s := newScene(t, r, configure)
	if r.nri {
		s.agent.nri = fmt.Sprintf("enabled: always, timeout: %s, onTimeout: %s", patience, choice)
	}
	s.agent.unknown = "deny"
	s.agent.Policy(t, "closed.yaml", denyAll)
	s.agent.start(t)
	c := s.pod(t, podSpec{name: "web"}).create(t, "main", s.firstInstruction())
	rest := s.keepBusy(t)
	begun := time.Now()
	err := c.tryStart(call(t))
	rest()
	t.Logf("the start took %s", time.Since(begun))
	if choice == "refuse" {
		if err == nil {
			t.Error("the container was started")
		} else {
			t.Logf("refused: %v", err)
		}
		s.wantLate(t, c, "Deny")
		if out := c.output(t); out != "" {
			t.Errorf("the refused container ran: %q", out)
		}
	} else {
		if err != nil {
			t.Fatal(err)
		}
		s.wantLate(t, c, "Allow")
		want(t, "the admitted container", c.awaitOutput(t), "EPERM") // by unknownWorkload: deny
	}
	s.forbidden.ExpectNone(t)
	if now := s.agent.runtimeStatus(t, by); now.Admitted+now.Refused == 0 {
		t.Errorf("status counts no late start: %+v", now)
	}
}

// TestStoppedAgent stops the agent's process while a container starts. containerd goes on without a plugin that does not
// answer, so that only the kernel is left.
func TestStoppedAgent(t *testing.T) {
	s := newScene(t, current)
	s.agent.nri = "enabled: always, onTimeout: refuse"
	s.agent.unknown = "deny"
	s.agent.Policy(t, "closed.yaml", denyAll)
	s.agent.start(t)
	c := s.pod(t, podSpec{name: "web"}).create(t, "main", s.knock(forbiddenPort))
	s.agent.Signal(t, syscall.SIGSTOP)
	begun := time.Now()
	err := c.tryStart(call(t))
	waited := time.Since(begun)
	if err == nil {
		more(t, "the container is denied while the agent does not answer", func() string { return c.output(t) }, "connect-tcp: EPERM", 5)
	}
	s.agent.Signal(t, syscall.SIGCONT)
	if waited < pluginTimeout/2 {
		t.Errorf("containerd has not waited for the plugin: %s (%v)", waited, err)
	}
	if err == nil {
		s.agent.awaitGoverned(t, c)
		onlyOK(t, "a container that started while the agent was stopped", c.output(t), "EPERM")
	}
	s.forbidden.ExpectNone(t)
	testutil.Eventually(t, "the agent serves the runtime again", func() error {
		if r := s.agent.runtimeStatus(t, "nri"); r.State != "connected" {
			return fmt.Errorf("NRI is %+v", r)
		}
		return nil
	})
	next := s.pod(t, podSpec{name: "next"}).run(t, "main", s.firstInstruction())
	want(t, "a container after that", next.awaitOutput(t), "EPERM")
	s.forbidden.ExpectNone(t)
}

// TestHookWithoutAnswer stops the agent's process, and then ends it: runc must neither hang nor, where the hook refuses,
// start anything.
func TestHookWithoutAnswer(t *testing.T) {
	for _, choice := range []string{"admit", "refuse"} {
		t.Run(choice, func(t *testing.T) {
			s := newScene(t, debian, hooked("--timeout=1s", "--on-failure="+choice))
			s.agent.Policy(t, "closed.yaml", denyAll)
			s.agent.unknown = "deny"
			s.agent.start(t)
			p := s.pod(t, podSpec{name: "web"})
			s.agent.Signal(t, syscall.SIGSTOP)
			s.startUnanswered(t, p.create(t, "stopped", s.firstInstruction()), choice, "context deadline exceeded")
			s.agent.Signal(t, syscall.SIGCONT)
			s.agent.End(t, syscall.SIGKILL)
			s.startUnanswered(t, p.create(t, "ended", s.firstInstruction()), choice, "no agent is running")
			s.forbidden.ExpectNone(t)
		})
	}
}

// startUnanswered starts a container that nobody answers for.
func (s *scene) startUnanswered(t *testing.T, c *container, choice, reason string) {
	t.Helper()
	begun := time.Now()
	err := c.tryStart(call(t))
	if took := time.Since(begun); took > 10*time.Second {
		t.Errorf("the start of %s took %s", c.name, took)
	}
	switch {
	case choice == "admit" && err != nil:
		t.Errorf("%s was not admitted: %v", c.name, err)
	case choice == "admit":
		want(t, "the admitted container "+c.name, c.awaitOutput(t), "EPERM") // by unknownWorkload: deny
	case err == nil:
		t.Errorf("%s was not refused", c.name)
	case !strings.Contains(err.Error(), reason):
		t.Errorf("%s was refused without %q: %v", c.name, reason, err)
	}
}
