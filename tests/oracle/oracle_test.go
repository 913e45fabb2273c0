// Package oracle holds the judgement in the kernel against the reference evaluator policy/match: the
// same verdict by the same rule for the same reason, on random policies, processes and calls. Once
// with the decision alone, by BPF_PROG_RUN, in large numbers; once with real processes that make real
// calls, by the events they cause.
package oracle

import (
	"encoding/binary"
	"encoding/json"
	"net/netip"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/policy/compile"
	"github.com/sallyport/sallyport/policy/match"
	"github.com/sallyport/sallyport/policy/policytest"
	"github.com/sallyport/sallyport/probes"
	"github.com/sallyport/sallyport/probes/event"
	"github.com/sallyport/sallyport/probes/judge"
	"github.com/sallyport/sallyport/tests/internal/oracle"
	"github.com/sallyport/sallyport/tests/testutil"
	"github.com/sallyport/sallyport/tests/testutil/attached"
	"github.com/sallyport/sallyport/tests/testutil/inventory"
	"github.com/sallyport/sallyport/tests/testutil/pod"
)

func TestMain(m *testing.M) {
	if os.Getenv(envCaller) != "" {
		os.Exit(callerMain())
	}
	inventory.Main(m, attached.Free)
}

// expect is what the kernel must say where the reference says d.
func expect(d match.Decision) compile.Decision {
	out := compile.Decision{Verdict: d.Verdict.Number(), Would: d.Would.Number(), Reason: d.Reason.Number(), Ref: d.Ref}
	if d.Severity != "" {
		out.Severity = d.Severity.Number()
	}
	return out
}

// inForce compiles policies and puts them in force, also what this agent does not know yet but the
// kernel would judge by if it did.
func inForce(t testing.TB, j *judge.Judge, in policy.Input) {
	t.Helper()
	attached.InForce(t, j, compile.Enforced{Scripts: true, World: true}, in)
}

// open opens a kernel side of the test's own, with nothing attached.
func open(t testing.TB, node *pod.Node) *probes.Kernel {
	t.Helper()
	k, err := probes.Open(probes.Config{
		BPFFS: node.BPFFS, PinDir: "sallyport", CgroupRoot: node.CgroupRoot, ContainerParents: []string{node.Parent},
		TellConnect: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := k.Close(); err != nil {
			t.Error(err)
		}
	})
	return k
}

// cases is how many questions are asked in all, by how many for one policy. Emulated guests are slow.
func cases() (policies, questions int) {
	if testutil.InVM() {
		return 20, 25
	}
	return 300, 50
}

// silence makes every rules.dns match one name that nobody asks for, until the function that it returns is called.
func silence(t testing.TB, policies []*policy.Policy) (restore func()) {
	t.Helper()
	nobody, err := policy.ParseNamePattern("nobody.invalid")
	if err != nil {
		t.Fatal(err)
	}
	former := map[*policy.L7Rules][]policy.FQDNSelector{}
	for _, p := range policies {
		for i := range p.Spec.Rules {
			for _, e := range p.Spec.Rules[i].Egress {
				for _, ports := range e.ToPorts {
					if ports.Rules != nil && ports.Rules.DNS != nil {
						former[ports.Rules] = ports.Rules.DNS
						ports.Rules.DNS = []policy.FQDNSelector{{MatchName: nobody}}
					}
				}
			}
		}
	}
	return func() {
		for rules, dns := range former {
			rules.DNS = dns
		}
	}
}

// reference judges a question, as the policies say and in the numbers of the kernel. read: DNS over UDP and TCP is read.
func reference(t testing.TB, in policy.Input, q policytest.Question, read bool) (match.Decision, compile.Decision) {
	t.Helper()
	if q.Query != "" {
		d := match.JudgeQuery(in, q.Process, policy.Query{Call: q.Call, Name: q.Query})
		return d, expect(d)
	}
	d := match.Judge(in, q.Process, q.Call)
	if read && (q.Call.Protocol == unix.IPPROTO_UDP || q.Call.Protocol == unix.IPPROTO_TCP) {
		return d, expect(d)
	}
	// Queries over anything else are not read: as if no rules.dns matched what is asked for.
	defer silence(t, in.Policies)()
	unread := match.JudgeQuery(in, q.Process, policy.Query{Call: q.Call, Name: "unread"})
	out := expect(unread)
	if unread == d || unread.Verdict == policy.VerdictAllow {
		return unread, out
	}
	out.Reason = uint8(event.ReasonDNSStream)
	return unread, out
}

func ask(t testing.TB, o *oracle.Oracle, q policytest.Question, own bool) compile.Decision {
	t.Helper()
	if q.Query != "" {
		return o.AskQuery(t, q.Process, policy.Query{Call: q.Call, Name: q.Query}, own)
	}
	return o.Ask(t, q.Process, q.Call, own)
}

func TestKernelJudgesAsTheReference(t *testing.T) {
	k := open(t, pod.NewNode(t))
	j, o := judge.Open(k), oracle.New(t, k)
	outcomes := map[string]int{}
	policies, questions := cases()
	for seed := range uint64(policies) {
		c, err := policytest.Enforced(seed, questions)
		if err != nil {
			t.Fatal(err)
		}
		inForce(t, j, c.Input)
		for i, q := range c.Questions {
			o.Tell(t, q.Process.Workload.Key, q.Call.Canonical().Peer, q.Call.Names)
			want, expected := reference(t, c.Input, q, true)
			outcomes[string(want.Verdict)+" by "+string(want.Reason)]++
			got := ask(t, o, q, i%2 == 0)
			if diff := cmp.Diff(expected, got); diff != "" {
				text, _ := json.MarshalIndent(c.Input.Policies, "", " ")
				t.Fatalf("seed %d, question %d: %+v\n%+v\nreference: %+v (-reference +kernel)\n%s\n%s", seed, i, q.Process, q.Call, want, diff, text)
			}
		}
	}
	t.Logf("%d questions to %d sets of policies: %v", policies*questions, policies, outcomes)
	for _, outcome := range []string{
		"Deny by rule", "Deny by default", "Audit by rule", "Audit by default", "Drop by rule", "Drop by default", "Reset by rule",
		"Reset by default", "Kill by rule", "Kill by default", "Allow by rule", "Allow by ungoverned", "Allow by loopback",
	} {
		if !testutil.InVM() && outcomes[outcome] < 20 {
			t.Errorf("only %d cases of %s: the comparison proves little about it", outcomes[outcome], outcome)
		}
	}
}

// TestRulesAreComputedAgainForANewRevision: a label keeps the rules that select its process; the next
// revision must not be judged by them.
func TestRulesAreComputedAgainForANewRevision(t *testing.T) {
	k := open(t, pod.NewNode(t))
	j, o := judge.Open(k), oracle.New(t, k)
	process := policy.Process{Workload: policy.Workload{Key: 7, Namespace: "default"}, Origin: policy.OriginMain, Exe: "/bin/a"}
	call := policy.Call{Protocol: 6, Peer: netip.MustParseAddr("192.0.2.9"), Port: 443}
	o.Put(t, process, call, true)
	for _, binary := range []string{"/bin/a", "/bin/b", "/bin/*", "/opt/**"} {
		parsed, err := policy.Parse("p", []byte(`{"apiVersion": "sallyport.dev/v1alpha1", "kind": "ProcessPolicy", "metadata": {"name": "p"},
			"spec": {"podSelector": {}, "rules": [{"action": "Deny", "processes": [{"binaries": ["`+binary+`"]}]}]}}`))
		if err != nil {
			t.Fatal(err)
		}
		in := policy.Input{Policies: parsed, Workloads: []policy.Workload{process.Workload}}
		inForce(t, j, in)
		for range 2 {
			want := expect(match.Judge(in, process, call))
			if diff := cmp.Diff(want, o.Answer(t)); diff != "" {
				t.Errorf("binaries %s: (-reference +kernel)\n%s", binary, diff)
			}
		}
	}
}

// TestUnknownWorkloadsPass: what no table knows is for unknownWorkload to decide, which is allow here.
func TestUnknownWorkloadsPass(t *testing.T) {
	k := open(t, pod.NewNode(t))
	j, o := judge.Open(k), oracle.New(t, k)
	inForce(t, j, policy.Input{})
	want := compile.Decision{Verdict: uint8(event.VerdictAllow), Reason: uint8(event.ReasonUnknown)}
	got := o.Ask(t, policy.Process{Workload: policy.Workload{Key: 9}}, policy.Call{Protocol: 6, Peer: netip.MustParseAddr("192.0.2.9"), Port: 1}, false)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +kernel)\n%s", diff)
	}
}

// TestBrokenTablesDeny: a revision whose tables are missing must not be judged by nothing.
func TestBrokenTablesDeny(t *testing.T) {
	k := open(t, pod.NewNode(t))
	j, o := judge.Open(k), oracle.New(t, k)
	inForce(t, j, policy.Input{})
	controls := k.Maps().Map("controls")
	entry, err := controls.LookupBytes(uint32(0))
	if err != nil {
		t.Fatal(err)
	}
	binary.LittleEndian.PutUint64(entry, binary.LittleEndian.Uint64(entry)+1) // struct control begins with the revision
	if err := controls.Put(uint32(0), entry); err != nil {
		t.Fatal(err)
	}
	want := compile.Decision{Verdict: uint8(event.VerdictDeny), Reason: uint8(event.ReasonUnknown)}
	got := o.Ask(t, policy.Process{Workload: policy.Workload{Key: 9}}, policy.Call{Protocol: 6, Peer: netip.MustParseAddr("192.0.2.9"), Port: 1}, false)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +kernel)\n%s", diff)
	}
}
