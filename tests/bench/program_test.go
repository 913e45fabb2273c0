package bench

import (
	"encoding/binary"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"

	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/policy/match"
	"github.com/sallyport/sallyport/probes"
	"github.com/sallyport/sallyport/probes/judge"
	"github.com/sallyport/sallyport/tests/internal/oracle"
	"github.com/sallyport/sallyport/tests/testutil"
	"github.com/sallyport/sallyport/tests/testutil/pod"
)

const (
	programRounds = 15
	programRuns   = 100_000 // in one round
)

// loopback is the interface that BPF_PROG_RUN lets a packet come from.
const loopback = uint32(1)

// nothing is a program of a type that does nothing.
func nothing(t testing.TB, spec ebpf.ProgramSpec, returns int32) *ebpf.Program {
	t.Helper()
	spec.License = "GPL"
	spec.Instructions = asm.Instructions{asm.Mov.Imm(asm.R0, returns), asm.Return()}
	p, err := ebpf.NewProgram(&spec)
	if err != nil {
		t.Fatal("loading a program that does nothing: ", err)
	}
	t.Cleanup(func() { _ = p.Close() }) // nothing depends on it
	return p
}

// timed returns how long one run of a program takes, of many.
func timed(t testing.TB, p *ebpf.Program, packet []byte, want uint32) func() time.Duration {
	t.Helper()
	return func() time.Duration {
		got, d, err := p.Benchmark(packet, programRuns, nil)
		if err != nil {
			t.Fatal("running a program: ", err)
		}
		if got != want {
			t.Fatalf("%v returned %d, not %d", p, got, want)
		}
		return d
	}
}

// open opens a kernel side of the test's own.
func open(t testing.TB, node *pod.Node, tellConnect bool) *probes.Kernel {
	t.Helper()
	k, err := probes.Open(probes.Config{
		BPFFS: node.BPFFS, PinDir: "sallyport", CgroupRoot: node.CgroupRoot, ContainerParents: []string{node.Parent},
		TellExec: true, TellConnect: tellConnect,
	})
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestPrograms(t *testing.T) {
	if testutil.InVM() {
		t.Skip("nanoseconds of an emulated machine mean nothing")
	}
	k := open(t, pod.NewNode(t), false)
	defer k.Close() // the test is over
	rows := append(judging(t, k), gating(t, k)...)
	printTable("Programs, BPF_PROG_RUN against a no-op tc program, warm caches", append(rows, swapping(t, k)...))
}

// judging measures the decision alone.
func judging(t *testing.T, k *probes.Kernel) (rows []row) {
	in := large(t, 2, 20)
	process, call := lastTool(in)
	if _, err := judge.Open(k).Swap(compiled(t, in)); err != nil {
		t.Fatal(err)
	}
	o := oracle.New(t, k)
	if got, want := o.Ask(t, process, call, true), match.Judge(in, process, call); got.Ref != want.Ref || want.Ref == 0 {
		t.Fatalf("judged by rule %x, not %s", got.Ref, want.Rule)
	}
	noop := nothing(t, ebpf.ProgramSpec{Type: ebpf.SchedCLS}, 1)
	b, d := alternate(programRounds, timed(t, noop, oracle.Packet(), 1), timed(t, o.Program("oracle_judge"), oracle.Packet(), 1))
	rows = append(rows, row{"judge a call: 1,000 rules, 20,000 CIDRs", b, d, "≤ 400 ns over"})
	call.Peer = netip.MustParseAddr("192.0.2.1")
	o.Put(t, process, call, true)
	b, d = alternate(programRounds, timed(t, noop, oracle.Packet(), 1), timed(t, o.Program("oracle_judge"), oracle.Packet(), 1))
	rows = append(rows, row{"the same, denied by default", b, d, "≤ 400 ns over"})
	rows = append(rows, judgingNames(t, k, o)...)
	o.Put(t, process, call, false)
	b, d = alternate(programRounds, timed(t, noop, oracle.Packet(), 1), timed(t, o.Program("oracle_who"), oracle.Packet(), 1))
	rows = append(rows, row{"rules that select a new process (path of 16 bytes)", b, d, ""})
	process.Exe = "/usr/" + strings.Repeat("a", 195)
	o.Put(t, process, call, false)
	b, d = alternate(programRounds, timed(t, noop, oracle.Packet(), 1), timed(t, o.Program("oracle_path"), oracle.Packet(), 1))
	return append(rows, row{"DFA, one byte of a path of 200", 0, (d - b) / 200, "≤ 8 ns"})
}

// judgingNames measures the decision where rules by name are among the others: about a peer whose name none of
// them matches, and about one that its name alone allows. The tables of large stay in force behind it.
func judgingNames(t *testing.T, k *probes.Kernel, o *oracle.Oracle) (rows []row) {
	in := large(t, 2, 20)
	rules := in.Policies[0].Spec.Rules
	pattern, err := policy.ParseNamePattern("*.example")
	if err != nil {
		t.Fatal(err)
	}
	rules[len(rules)-1-tools].Egress[0].ToCIDR = nil
	rules[len(rules)-1-tools].Egress[0].ToFQDNs = []policy.FQDNSelector{{MatchPattern: pattern}}
	if _, err := judge.Open(k).Swap(compiled(t, in)); err != nil {
		t.Fatal(err)
	}
	process, call := lastTool(in)
	named := call
	call.Names, named.Names, named.Peer = []string{"other.test"}, []string{"api.example"}, netip.MustParseAddr("192.0.2.1")
	noop := nothing(t, ebpf.ProgramSpec{Type: ebpf.SchedCLS}, 1)
	for _, c := range []struct {
		what string
		call policy.Call
	}{{"rules by name beside them, allowed by CIDR", call}, {"the same, allowed by the peer's name", named}} {
		o.Tell(t, process.Workload.Key, c.call.Peer, c.call.Names)
		if got, want := o.Ask(t, process, c.call, true), match.Judge(in, process, c.call); got.Ref != want.Ref || want.Ref == 0 {
			t.Fatalf("%s: judged by rule %x, not %s", c.what, got.Ref, want.Rule)
		}
		b, d := alternate(programRounds, timed(t, noop, oracle.Packet(), 1), timed(t, o.Program("oracle_judge"), oracle.Packet(), 1))
		rows = append(rows, row{c.what, b, d, "≤ 400 ns over"})
	}
	o.Tell(t, 0, netip.Addr{}, nil)
	if _, err := judge.Open(k).Swap(compiled(t, large(t, 2, 20))); err != nil {
		t.Fatal(err)
	}
	return rows
}

// packet is a UDP datagram from 10.0.0.2:1000 to 10.0.0.1:2000, or back.
func packet(out bool) []byte {
	p := make([]byte, 14+20+8+64)
	binary.BigEndian.PutUint16(p[12:], 0x0800)
	ip := p[14:]
	ip[0], ip[8], ip[9] = 0x45, 64, 17
	binary.BigEndian.PutUint16(ip[2:], uint16(len(ip)))
	src, dst, from, to := [4]byte{10, 0, 0, 2}, [4]byte{10, 0, 0, 1}, uint16(1000), uint16(2000)
	if !out {
		src, dst, from, to = dst, src, to, from
	}
	copy(ip[12:], src[:])
	copy(ip[16:], dst[:])
	binary.BigEndian.PutUint16(ip[20:], from)
	binary.BigEndian.PutUint16(ip[22:], to)
	binary.BigEndian.PutUint16(ip[24:], 72)
	return p
}

// gatePrograms loads the tc programs of the gate on the maps of k.
func gatePrograms(t testing.TB, k *probes.Kernel) map[string]*ebpf.Program {
	t.Helper()
	for _, o := range probes.Objects() {
		if o.Name != "gate_tc" {
			continue
		}
		spec, err := o.Load()
		if err != nil {
			t.Fatal(err)
		}
		coll, err := k.Maps().Load(spec)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(coll.Close)
		return coll.Programs
	}
	t.Fatal("there is no object gate_tc")
	return nil
}

// gating measures a packet of a known flow at the gate, for which loopback stands in as a pod's veth.
func gating(t *testing.T, k *probes.Kernel) (rows []row) {
	programs := gatePrograms(t, k)
	const netns, allow = 77, 1
	if err := k.Maps().Map("gate_by_ifindex").Put(loopback, &oracle.KernelGate{Netns: netns}); err != nil {
		t.Fatal(err)
	}
	if err := k.Maps().Map("gate_slots").Put(loopback, &oracle.KernelGateSlot{Netns: netns, Ifindex: loopback}); err != nil {
		t.Fatal(err)
	}
	key := oracle.KernelFlowKey{
		Netns: netns, Local: netip.MustParseAddr("10.0.0.2").As16(), Remote: netip.MustParseAddr("10.0.0.1").As16(),
		LocalPort: 1000, RemotePort: 2000, Protocol: 17,
	}
	if err := k.Maps().Map("flow_by_tuple").Put(&key, &oracle.KernelFlow{Decision: allow}); err != nil {
		t.Fatal(err)
	}
	const pass, next = 0, ^uint32(0) // TC_ACT_UNSPEC
	noop := nothing(t, ebpf.ProgramSpec{Type: ebpf.SchedCLS}, pass)
	for _, way := range []struct {
		name, what string
		out        bool
	}{{"gate_tc_from_pod", "packet of a known flow, from the pod", true}, {"gate_tc_to_pod", "packet of a known flow, to the pod", false}} {
		p := packet(way.out)
		b, d := alternate(programRounds, timed(t, noop, p, pass), timed(t, programs[way.name], p, next))
		rows = append(rows, row{way.what, b, d, "≤ 40 ns over"})
	}
	var flow oracle.KernelFlow
	if err := k.Maps().Map("flow_by_tuple").Lookup(&key, &flow); err != nil {
		t.Fatal(err)
	}
	if flow.Packets[0] < programRuns || flow.Packets[1] < programRuns {
		t.Fatalf("the gate has counted %v packets of the flow: not what was measured", flow.Packets)
	}
	return rows
}

// swapping measures how long a change of policy takes until it is in force.
func swapping(t *testing.T, k *probes.Kernel) (rows []row) {
	j := judge.Open(k)
	for _, size := range []struct {
		rulesets, cidrs int // of one rule
		what            string
		budget          string
	}{{2, 20, "1,000 rules, 20,000 CIDRs", ""}, {20, 2, "10,000 rules, 20,000 CIDRs", "≤ 200 ms"}} {
		in := large(t, size.rulesets, size.cidrs)
		compiling, swap := alternate(3, func() time.Duration {
			begin := time.Now()
			compiled(t, in)
			return time.Since(begin)
		}, func() time.Duration {
			tables := compiled(t, in)
			begin := time.Now()
			if _, err := j.Swap(tables); err != nil {
				t.Fatal(err)
			}
			return time.Since(begin)
		})
		rows = append(rows, row{"compile " + size.what, 0, compiling, ""}, row{"put in force " + size.what, 0, swap, size.budget})
	}
	return rows
}
