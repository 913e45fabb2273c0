package bench

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/policy/match"
	"github.com/sallyport/sallyport/probes"
	"github.com/sallyport/sallyport/probes/event"
	"github.com/sallyport/sallyport/probes/gate"
	"github.com/sallyport/sallyport/probes/judge"
	"github.com/sallyport/sallyport/probes/label"
	"github.com/sallyport/sallyport/probes/tell"
	"github.com/sallyport/sallyport/tests/testutil"
	"github.com/sallyport/sallyport/tests/testutil/pod"
	"github.com/sallyport/sallyport/tests/victim"
)

// some is a policy as people write them: the caller is governed in both directions by the first rule,
// and its calls are allowed by it.
const some = `
apiVersion: sallyport.dev/v1alpha1
kind: ProcessPolicy
metadata: {name: some}
spec:
  podSelector: {}
  rules:
  - name: program
    processes: [{origins: [Main], binaries: ["/**"]}]
    egress:
    - toCIDR: [127.0.0.0/8]
      toPorts: [{ports: [{port: "8080", endPort: 8099, protocol: TCP}, {port: "8080", endPort: 8099, protocol: UDP}]}]
    - toCIDR: [192.0.2.0/24]
    ingress:
    - fromCIDR: [127.0.0.0/8]
  - name: database
    processes: [{origins: [Main]}]
    egress:
    - toCIDRSet: [{cidr: 10.0.0.0/8, except: [10.1.0.0/16]}]
      toPorts: [{ports: [{port: "5432", protocol: TCP}]}]
  - name: shells
    processes: [{origins: [Exec]}]
    action: Deny
`

// agent is what an agent has in place: all programs, a policy in force, and the rings being read.
type agent struct {
	kernel *probes.Kernel
	gate   *gate.Gate
	stop   func() error
}

// agentOptions say what an agent does.
type agentOptions struct {
	policy string // in force
	told   bool   // also what is allowed is
}

// startAgent starts one for a container.
func startAgent(t *testing.T, node *pod.Node, c *pod.Container, options agentOptions) *agent {
	t.Helper()
	k := open(t, node, options.told)
	j := judge.Open(k)
	parsed, err := policy.Parse("some", []byte(options.policy))
	if err != nil {
		t.Fatal(err)
	}
	in := policy.Input{Policies: parsed, Workloads: []policy.Workload{{Key: c.ID, Namespace: "default", Container: "c"}}}
	if _, err := j.Swap(compiled(t, in)); err != nil {
		t.Fatal(err)
	}
	labels, err := label.Attach(k)
	if err != nil {
		t.Fatal(err)
	}
	if err := labels.Confirm(c.ID, false); err != nil {
		t.Fatal(err)
	}
	if err := j.Attach([]event.Step{event.StepLSM, event.StepCgroup}); err != nil {
		t.Fatal(err)
	}
	g, err := gate.Attach(k)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	reader := tell.NewReader(k, func(event.Event) {})
	go func() { done <- reader.Run(ctx) }()
	return &agent{k, g, func() error {
		cancel()
		return <-done
	}}
}

// end takes everything out of force.
func (a *agent) end(t *testing.T, node *pod.Node) {
	t.Helper()
	if err := a.stop(); err != nil {
		t.Error(err)
	}
	_ = a.gate.Close() // handles
	if err := a.kernel.Close(); err != nil {
		t.Error(err)
	}
	if _, err := probes.Cleanup(node.BPFFS, "sallyport"); err != nil {
		t.Fatal(err)
	}
}

// wholeCall is a call that is measured, n times in a round.
type wholeCall struct {
	name, what string
	budget     string // of its ratio to no agent, in the guest: natively calls cost less, and programs as much
	n          int
}

// connections is how many TCP connections are made in a round.
const connections = 1_000

func wholeCalls() []wholeCall {
	n, budget := 20_000, func(string) string { return "" }
	if testutil.InVM() {
		n, budget = 2_000, func(b string) string { return b }
	}
	return []wholeCall{
		{callUDP, "UDP connect, the same peer", budget("≤ 1.3"), n},
		{callUDPOther, "UDP connect, another peer each time", "", n},
		{callSendTo, "UDP sendto 64 B", "", n},
		{callTCP, "TCP connect + close", budget("≤ 1.05"), connections},
		{callTCPBoth, "TCP connect + accept + close, both ends governed", "", connections},
		{callSend, "TCP send 64 B + receive", "", n},
		{callExec, "fork + exec + exit", budget("≤ 1.05"), n / 50},
	}
}

// settle waits until the kernel has freed what was taken out of force before.
func settle() { time.Sleep(time.Second) }

// TestWholeCalls measures the calls of a governed process of a container, against none of all that, in
// alternating rounds of one run. Each round has new callers, because only those born under the agent
// have their label from birth.
func TestWholeCalls(t *testing.T) {
	const rounds = 5
	program := victim.Build(t)
	node := pod.NewNode(t)
	for _, tellConnect := range []bool{false, true} {
		base, ours := map[string][]time.Duration{}, map[string][]time.Duration{}
		for round := range rounds {
			without := node.Container(t, fmt.Sprintf("without%d%t", round, tellConnect), 0)
			serveOutside(t, without)
			c := newCaller(t, without, program)
			settle()
			for _, call := range wholeCalls() {
				base[call.name] = append(base[call.name], c.call(t, call.name, call.n))
			}
			c.end()
			with := node.Container(t, fmt.Sprintf("with%d%t", round, tellConnect), 0)
			a := startAgent(t, node, with, agentOptions{some, tellConnect})
			serveOutside(t, with)
			c = newCaller(t, with, program)
			settle()
			for _, call := range wholeCalls() {
				ours[call.name] = append(ours[call.name], c.call(t, call.name, call.n))
			}
			c.end()
			a.end(t, node)
		}
		var rows []row
		for _, call := range wholeCalls() {
			rows = append(rows, row{call.what, median(base[call.name]), median(ours[call.name]), call.budget})
		}
		step := "cgroup step"
		if testutil.InVM() {
			step = "LSM, emulated"
		}
		printTable(fmt.Sprintf("Whole allowed calls of a governed process against no agent (%s, telling connects: %t)", step, tellConnect), rows)
	}
}

// TestConnectAgainstNothing measures whole UDP connects under the largest policy, against a no-op
// program on the same hook.
func TestConnectAgainstNothing(t *testing.T) {
	if testutil.InVM() {
		t.Skip("the cgroup step needs a newer kernel")
	}
	bare := pod.NewNode(t)
	noop := nothing(t, ebpf.ProgramSpec{Type: ebpf.CGroupSockAddr, AttachType: ebpf.AttachCGroupInet4Connect}, 1)
	l, err := link.AttachCgroup(link.CgroupOptions{Path: bare.CgroupRoot, Attach: ebpf.AttachCGroupInet4Connect, Program: noop})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close() // its cgroup goes too
	program := victim.Build(t)
	without := newCaller(t, bare.Container(t, "bare", 0), program)
	defer without.end()
	t.Run("governed", func(t *testing.T) { connectUnder(t, pod.NewNode(t), without, program) })
}

// connectUnder measures the connects of a governed process against those of the caller without.
func connectUnder(t *testing.T, node *pod.Node, without *caller, program string) {
	t.Helper()
	governed := node.Container(t, "governed", 0)
	a := startAgent(t, node, governed, agentOptions{some, false})
	defer a.end(t, node)
	in := large(t, 2, 20)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	in.Workloads[0].Key = governed.ID
	allowTool(t, &in, self)
	if _, err := judge.Open(a.kernel).Swap(compiled(t, in)); err != nil {
		t.Fatal(err)
	}
	with := newCaller(t, governed, program)
	defer with.end()
	var rows []row
	for _, call := range wholeCalls()[:2] {
		b, o := alternate(programRounds, func() time.Duration { return without.call(t, call.name, call.n) },
			func() time.Duration { return with.call(t, call.name, call.n) })
		rows = append(rows, row{call.what, b, o, "≤ 400 ns over"})
	}
	printTable("Whole connects on the cgroup step, 1,000 rules and 20,000 CIDRs, against a no-op cgroup program", rows)
}

// allowTool makes the last rule of the first ruleset allow a program its own loopback.
func allowTool(t *testing.T, in *policy.Input, program string) {
	t.Helper()
	rules := in.Policies[0].Spec.Rules
	last := &rules[len(rules)-1]
	glob, err := policy.ParseGlob(program)
	if err != nil {
		t.Fatal(err)
	}
	last.Processes[0].Binaries = append(last.Processes[0].Binaries, glob)
	last.Egress = []policy.EgressRule{{ToCIDR: append(last.Egress[0].ToCIDR, localnet())}}
	process := policy.Process{Workload: in.Workloads[0], Origin: policy.OriginMain, Exe: program}
	d := match.Judge(*in, process, policy.Call{Protocol: 17, Peer: localnet().Addr().Next(), Port: servicePort})
	if d.Verdict != policy.VerdictAllow || d.Reason != policy.ReasonRule {
		t.Fatalf("the call that is to be measured is judged %+v", d)
	}
}

// TestRunTimes prints what each program takes of a call, as the kernel itself counts it.
func TestRunTimes(t *testing.T) {
	program := victim.Build(t)
	node := pod.NewNode(t)
	c := node.Container(t, "counted", 0)
	a := startAgent(t, node, c, agentOptions{some, true})
	defer a.end(t, node)
	serveOutside(t, c)
	with := newCaller(t, c, program)
	defer with.end()
	stats, err := ebpf.EnableStats(uint32(unix.BPF_STATS_RUN_TIME))
	if err != nil {
		t.Fatal(err)
	}
	defer stats.Close() // ends the counting
	for _, call := range wholeCalls() {
		before := runTimes(t, a.kernel)
		with.call(t, call.name, call.n)
		var rows []row
		for name, after := range runTimes(t, a.kernel) {
			if runs := after.count - before[name].count; runs > uint64(call.n)/4 {
				took := (after.total - before[name].total) / time.Duration(runs)
				rows = append(rows, row{fmt.Sprintf("%s, %.1f runs", name, float64(runs)/float64(call.n)), 0, took, ""})
			}
		}
		slices.SortFunc(rows, func(a, b row) int { return strings.Compare(a.what, b.what) })
		printTable("Programs that run in a call: "+call.what, rows)
	}
}

// runs are how often and how long a program has run.
type runs struct {
	count uint64
	total time.Duration
}

// runTimes returns the runs of the agent's programs, which are those that use a map of k.
func runTimes(t *testing.T, k *probes.Kernel) map[string]runs {
	t.Helper()
	controls, err := k.Maps().Map("controls").Info()
	if err != nil {
		t.Fatal(err)
	}
	id, _ := controls.ID()
	out := map[string]runs{}
	for last := ebpf.ProgramID(0); ; {
		if last, err = ebpf.ProgramGetNextID(last); err != nil {
			return out
		}
		p, err := ebpf.NewProgramFromID(last)
		if err != nil {
			continue // it went meanwhile
		}
		info, infoErr := p.Info()
		stats, statsErr := p.Stats()
		_ = p.Close() // read only
		if infoErr != nil || statsErr != nil {
			continue
		}
		if maps, _ := info.MapIDs(); slices.Contains(maps, id) && stats.RunCount > 0 {
			out[info.Name] = runs{stats.RunCount, stats.Runtime}
		}
	}
}
