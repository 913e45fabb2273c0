// Package oracle asks the judgement in the kernel what it says about one call of one process, without
// such a process or call: the programs of bpf/progs/oracle.bpf.c are run by BPF_PROG_RUN and contain
// the very code of JUDGE. It also lends benchmarks the kernel's types.
//
// It is for tests only: it imports probes and policy, and nothing outside tests may import it.
package oracle

import (
	"testing"

	"github.com/cilium/ebpf"

	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/policy/compile"
	"github.com/sallyport/sallyport/probes"
)

//go:generate go tool -modfile=../../../contrib/tools/go.mod bpf2go -cc clang-19 -strip llvm-strip-19 -target bpfel -tags linux -no-global-types -type question -type h2 -type flaw -type query -type label -type answer -type gate -type gate_slot -type flow_key -type flow -type query_flags -type control_flags -type message -type dns_message -type name -type told -type name_key -type told_key -type told_way -type label_flags -type request -type requests -type tls_conn -type tls_tie -type judged -type icmp_ports Kernel ../../../bpf/progs/oracle.bpf.c

// Oracle is the loaded programs. They judge by the tables that are in force.
type Oracle struct {
	coll   *ebpf.Collection
	kernel *probes.Kernel
	told   []KernelToldKey // names that Tell has put into the maps, by address
	names  []KernelNameKey
}

// New loads the programs on the maps of k. They are gone at the end of the test.
func New(t testing.TB, k *probes.Kernel) *Oracle {
	t.Helper()
	spec, err := LoadKernel()
	if err != nil {
		t.Fatal(err)
	}
	coll, err := k.Maps().Load(spec)
	if err != nil {
		t.Fatal("loading the oracle: ", err)
	}
	t.Cleanup(coll.Close)
	return &Oracle{coll: coll, kernel: k}
}

// Program returns one of oracle_judge, oracle_who and oracle_path; each works on the question last put.
func (o *Oracle) Program(name string) *ebpf.Program { return o.coll.Programs[name] }

// Put says what is asked. own: as for a call of the process itself, which keeps the rules that select
// it in its label.
func (o *Oracle) Put(t testing.TB, p policy.Process, c policy.Call, own bool) {
	t.Helper()
	q := KernelQuestion{Query: query(c), Flags: uint32(KernelControlFlagsCONTROL_GATE)}
	if own {
		q.Own = 1
	}
	q.Label.Container, q.Label.Origin = p.Workload.Key, uint32(p.Origin.Number())
	if p.Truncated {
		q.Label.Flags = uint32(KernelLabelFlagsLABEL_TRUNCATED)
	}
	if p.Scriptless {
		q.Label.Flags |= uint32(KernelLabelFlagsLABEL_SCRIPTLESS)
	}
	o.putIDs(t, &q.Label, p)
	if copy(q.Label.Exe[:], p.Exe) == len(q.Label.Exe) || copy(q.Label.Script[:], p.Script) == len(q.Label.Script) {
		t.Fatalf("a label does not hold the paths of %+v", p)
	}
	set(t, o.coll, "oracle_question", &q)
}

// query is a call as the hooks in the kernel ask about it.
func query(c policy.Call) KernelQuery {
	q := KernelQuery{Port: c.Port, Protocol: c.Protocol, Direction: uint8(c.Direction)}
	switch {
	case c.Listen:
		q.Direction = uint8(policy.Ingress)
		q.Flags = uint32(KernelQueryFlagsQUERY_LISTEN | KernelQueryFlagsQUERY_PORT)
	case c.Peer.IsValid():
		q.Addr = c.Peer.As16()
		q.Flags = uint32(KernelQueryFlagsQUERY_ADDRESS | KernelQueryFlagsQUERY_PORT)
		q.Message = message(c)
	}
	return q
}

// message is what stands for a call's type of ICMP messages; 0: it has none.
func message(c policy.Call) uint16 {
	switch {
	case !c.IsICMP():
		return 0
	case c.ICMPType == nil:
		return uint16(KernelIcmpPortsICMP_PORT_UNKNOWN)
	}
	return uint16(KernelIcmpPortsICMP_PORT) + uint16(*c.ICMPType)
}

// Answer runs oracle_judge on the question last put.
func (o *Oracle) Answer(t testing.TB) compile.Decision {
	t.Helper()
	code, err := o.Program("oracle_judge").Run(&ebpf.RunOptions{Data: Packet()})
	if err != nil {
		t.Fatal("asking the kernel: ", err)
	}
	if code != 1 {
		t.Fatalf("the oracle ended with %d and no answer", code)
	}
	return o.LastAnswer(t)
}

// LastAnswer is what a program has answered last.
func (o *Oracle) LastAnswer(t testing.TB) compile.Decision {
	t.Helper()
	var a KernelAnswer
	get(t, o.coll, "oracle_answer", &a)
	return a.decision()
}

// decision is an answer in the words of the tables.
func (a *KernelAnswer) decision() compile.Decision {
	return compile.Decision{Verdict: a.Verdict, Would: a.Would, Severity: a.Severity, Reason: a.Reason, Ref: a.Rule}
}

// Ask puts a question and answers it.
func (o *Oracle) Ask(t testing.TB, p policy.Process, c policy.Call, own bool) compile.Decision {
	t.Helper()
	o.Put(t, p, c, own)
	return o.Answer(t)
}

// Packet is the least that BPF_PROG_RUN takes for a packet: an Ethernet header and a byte.
func Packet() []byte { return make([]byte, 15) }
