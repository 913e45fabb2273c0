// Package ladder tests LABEL and JUDGE on every step of the ladder that the running kernel has, with
// real programs in containers made by hand: what a step promises to stop is stopped, what it does not
// stop is what its status says, and what is allowed stays allowed.
package ladder

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/vishvananda/netns"

	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/policy/compile"
	"github.com/sallyport/sallyport/probes"
	"github.com/sallyport/sallyport/probes/event"
	"github.com/sallyport/sallyport/probes/gate"
	"github.com/sallyport/sallyport/probes/judge"
	"github.com/sallyport/sallyport/probes/label"
	"github.com/sallyport/sallyport/probes/tell"
	runtimens "github.com/sallyport/sallyport/runtime/netns"
	"github.com/sallyport/sallyport/tests/testutil"
	"github.com/sallyport/sallyport/tests/testutil/attached"
	"github.com/sallyport/sallyport/tests/testutil/pod"
	"github.com/sallyport/sallyport/tests/victim"
)

// onEachStep runs a test once for each step of the ladder, with that step alone.
func onEachStep(t *testing.T, test func(*testing.T, event.Step)) {
	t.Helper()
	attached.OnEachStep(t, test)
}

// onEachEnforcingStep leaves out the step that only reports.
func onEachEnforcingStep(t *testing.T, test func(*testing.T, event.Step)) {
	t.Helper()
	attached.OnEachEnforcingStep(t, test)
}

// strongest is the step that this kernel gets of those that are asked for, for tests that need only one.
func strongest(t *testing.T) event.Step {
	t.Helper()
	for _, r := range attached.Ladder() {
		if attached.IsAsked(r.Step) && r.Probe() == nil {
			return r.Step
		}
	}
	t.Fatal("this kernel has no step of the ladder")
	return event.StepNone
}

// The ports that servers listen on, over TCP and UDP.
const (
	closedPort = testutil.EchoPort // no policy of these tests allows it
	openPort   = 8888              // Main's policy allows it; TCP fast open is on
	localPort  = 9999              // on the loopback of the pod
)

// agent is what the kernel side of an agent is made of.
type agent struct {
	kernel *probes.Kernel
	judge  *judge.Judge
	labels *label.Labeller
	gate   *gate.Gate
}

// attachAgent opens and attaches everything, as the daemon does.
func attachAgent(cfg probes.Config, steps ...event.Step) (a agent, err error) {
	if a.kernel, err = probes.Open(cfg); err != nil {
		return a, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, a.kernel.Close())
		}
	}()
	a.judge = judge.Open(a.kernel)
	if a.kernel.Fresh() {
		if _, err = a.judge.Swap(&compile.Tables{Rulesets: []*compile.Ruleset{{}}}); err != nil {
			return a, err
		}
	}
	if a.labels, err = label.Attach(a.kernel); err != nil {
		return a, err
	}
	if err = a.judge.Attach(steps); err != nil {
		return a, err
	}
	a.gate, err = gate.Attach(a.kernel)
	return a, err
}

func (a agent) close() error { return errors.Join(a.gate.Close(), a.kernel.Close()) }

// rig is an agent on a node of its own, with a pod that can reach servers.
type rig struct {
	*pod.Node
	agent
	cfg       probes.Config
	step      event.Step
	net       *testutil.Net
	ns        netns.NsHandle // the pod's
	veth      gate.Veth
	open      *testutil.Echo // on openPort
	local     *testutil.Echo // on localPort
	events    *attached.Recorder
	flood     bool   // set before attach: more will be told than can be read
	own       bool   // set before attach: maps and programs are the test's own, loaded for it
	program   string // the victim
	workloads []compile.Workload
	count     int
}

// newBareRig makes a node and a pod without an agent.
func newBareRig(t *testing.T, step event.Step) *rig {
	t.Helper()
	r := &rig{Node: pod.NewNode(t), step: step, program: victim.Build(t), net: testutil.NewNet(t, testutil.NetOptions{})}
	r.prepareNet(t)
	r.cfg = probes.Config{
		BPFFS: r.BPFFS, PinDir: "sallyport", CgroupRoot: r.CgroupRoot, ContainerParents: []string{r.Parent},
		TellExec: true, TellConnect: true,
	}
	return r
}

// attach attaches the agent, or adopts what another left.
func (r *rig) attach(t *testing.T) {
	t.Helper()
	cfg := r.cfg
	if r.own {
		attached.Anew(t)
		attached.Detach(t, cfg)
	} else {
		cfg = attached.Reuse(t, cfg)
	}
	var err error
	if r.agent, err = attachAgent(cfg, r.step); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.close(); err != nil {
			t.Error(err)
		}
	})
	r.events = record(t, r.kernel, r.flood)
}

// newRig attaches one step and makes a pod, whose veth is gated.
func newRig(t *testing.T, step event.Step) *rig {
	t.Helper()
	r := newBareRig(t, step)
	r.attach(t)
	r.govern(t)
	return r
}

// govern gates the pod's veth.
func (r *rig) govern(t *testing.T) {
	t.Helper()
	pause := r.container(t, "")
	var err error
	r.veth = gate.Veth{Container: pause.ID, Ifindex: uint32(r.net.Gate.Attrs().Index)}
	r.net.Pod.Do(t, func() error {
		r.veth.NetNS, err = runtimens.Cookie()
		return err
	})
	r.net.Node.Do(t, func() error { return r.gate.Govern(r.veth) })
}

// prepareNet starts the other servers and allows ping sockets and TCP fast open in the test's own namespaces.
func (r *rig) prepareNet(t *testing.T) {
	t.Helper()
	for file, in := range map[string]*testutil.NetNS{
		"ping_group_range=0 0": r.net.Pod, "tcp_fastopen=1027": r.net.Server, // client, server, every listener
	} {
		name, value, _ := strings.Cut(file, "=")
		in.Do(t, func() error { return os.WriteFile("/proc/sys/net/ipv4/"+name, []byte(value), 0o644) })
	}
	r.open = testutil.NewEcho(t, r.net.Server, netip.AddrPortFrom(r.net.ServerAddr, openPort), netip.AddrPortFrom(r.net.ServerAddr6, openPort))
	r.local = testutil.NewEcho(t, r.net.Pod, netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), localPort), netip.AddrPortFrom(netip.IPv6Loopback(), localPort))
	var err error
	if r.ns, err = netns.GetFromPath(r.net.Pod.Path()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.ns.Close() }) // read only
}

// container makes a container in the pod; app is its label, "" for none.
func (r *rig) container(t *testing.T, app string) *pod.Container {
	t.Helper()
	r.count++
	name := fmt.Sprintf("c%d", r.count)
	c := r.Container(t, name, r.ns)
	w := compile.Workload{Key: c.ID, Namespace: policy.DefaultNamespace, Pod: name, Container: name}
	if app != "" {
		w.Labels = map[string]string{"app": app}
	}
	r.workloads = append(r.workloads, w)
	return c
}

// started is a container whose Main has run, so that whoever comes now is Exec.
func (r *rig) started(t *testing.T, app string) *pod.Container {
	t.Helper()
	c := r.container(t, app)
	if got := r.try(t, c, "socket unix stream"); got != "ok" {
		t.Fatalf("starting the container: %s", got)
	}
	return c
}

// swap puts policies in force and returns the compiled tables.
func (r *rig) swap(t *testing.T, documents ...string) *compile.Tables {
	t.Helper()
	tables := r.compile(t, documents...)
	if _, err := r.judge.Swap(tables); err != nil {
		t.Fatal(err)
	}
	return tables
}

// compile compiles the rules of one policy for each document, for the workloads labelled app: web.
func (r *rig) compile(t *testing.T, documents ...string) *compile.Tables {
	t.Helper()
	return r.compileAmong(t, compile.Input{}, documents...)
}

// compileAmong compiles them beside other policies and workloads.
func (r *rig) compileAmong(t *testing.T, others compile.Input, documents ...string) *compile.Tables {
	t.Helper()
	policies := slices.Clone(others.Policies)
	for i, rules := range documents {
		head := fmt.Sprintf("apiVersion: %s\nkind: %s\nmetadata: {name: p%d}\nspec:\n  podSelector: {matchLabels: {app: web}}\n", policy.APIVersion, policy.KindProcessPolicy, i)
		parsed, err := policy.Parse("test", []byte(head+r.fill(rules)))
		if err != nil {
			t.Fatal(err)
		}
		policies = append(policies, parsed...)
	}
	// Scripts also where the kernel does not tell which they are: the tables must be closed then.
	tables, err := compile.Enforced{Scripts: true}.Compile(compile.Input{Policies: policies, Workloads: slices.Concat(r.workloads, others.Workloads)})
	if err != nil {
		t.Fatal(err)
	}
	return tables
}

// fill puts the addresses of the rig into a line or a policy.
func (r *rig) fill(s string) string {
	return strings.NewReplacer(
		"SERVER4", r.net.ServerAddr.String(), "SERVER6", r.net.ServerAddr6.String(),
		"POD4", r.net.PodAddr.String(), "POD6", r.net.PodAddr6.String(),
		"OPEN", fmt.Sprint(openPort), "CLOSED", fmt.Sprint(closedPort), "LOCAL", fmt.Sprint(localPort),
		"MAC", r.net.Gate.Attrs().HardwareAddr.String(), "VICTIM", r.program,
	).Replace(s)
}

// victim is a process of a container that runs a line of the victim.
func (r *rig) victim(c *pod.Container, line string) *pod.Process {
	line = r.fill(line)
	if !strings.Contains(line, "-- ") {
		line = "-- " + line
	}
	return c.Command(append([]string{r.program}, strings.Fields(line)...)...)
}

// try runs a line of the victim and returns what became of its attempt: ok, or the errno's name.
func (r *rig) try(t *testing.T, c *pod.Container, line string) string {
	t.Helper()
	p := r.victim(c, line)
	p.Start(t)
	return outcome(t, p)
}

// outcome waits for a victim and returns what became of its attempt.
func outcome(t *testing.T, p *pod.Process) string {
	t.Helper()
	got := p.Result()
	if _, rest, ok := strings.Cut(got, ": "); ok {
		return rest
	}
	return fmt.Sprintf("no result: %q, %s, %s", got, p.Complaint(), p.ProcessState)
}

// expect tries a line and checks what became of it.
func (r *rig) expect(t *testing.T, c *pod.Container, line, want string) {
	t.Helper()
	if got := r.try(t, c, line); got != want {
		t.Errorf("%s: got %s, want %s", line, got, want)
	}
}

// expectAllStopped checks of each hook whether status names something that it does not stop.
func (r *rig) expectAllStopped(t *testing.T, all bool, hooks ...string) {
	t.Helper()
	for _, name := range hooks {
		if open := r.hook(t, name).NotStopped; (len(open) == 0) != all {
			t.Errorf("status says that hook %s does not stop %q", name, open)
		}
	}
}

// hook returns what judges at a hook.
func (r *rig) hook(t *testing.T, name string) probes.Hook {
	t.Helper()
	for _, h := range r.judge.Hooks() {
		if h.Name == name {
			return h
		}
	}
	t.Fatalf("there is no hook %s", name)
	return probes.Hook{}
}

// record reads the rings until the end of the test. Nothing may be lost or go wrong, but for alerts
// where a flood of them is made.
func record(t *testing.T, k *probes.Kernel, flood bool) *attached.Recorder {
	t.Helper()
	var rec *attached.Recorder
	t.Cleanup(func() { // behind the end of the reading
		for _, e := range rec.Find(func(e event.Event) bool { return e.Kind == event.KindLost && (!flood || !tell.Lost(e.Site)) }) {
			t.Errorf("the kernel counted %d at %s", e.Lost, e.Site)
		}
	})
	rec = attached.Record(t, k)
	return rec
}
