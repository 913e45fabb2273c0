package compile_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/policy/compile"
	"github.com/sallyport/sallyport/policy/policytest"
)

// parse reads a policy of namespace default that selects every pod.
func parse(tb testing.TB, name, rules string) *policy.Policy {
	tb.Helper()
	policies, err := policy.Parse(name+".yaml", []byte("apiVersion: sallyport.dev/v1alpha1\nkind: ProcessPolicy\nmetadata: {name: "+name+
		"}\nspec:\n  podSelector: {}\n  rules:\n"+rules))
	if err != nil {
		tb.Fatal(err)
	}
	return policies[0]
}

func workload(key uint64, container string) compile.Workload {
	return compile.Workload{Key: key, Namespace: "default", Pod: "pod", Container: container, ContainerType: "App"}
}

func TestCompileSharesRulesets(t *testing.T) {
	t.Parallel()
	tables, err := compile.Compile(compile.Input{
		Policies: []*policy.Policy{
			parse(t, "b", "  - {name: all, egress: []}"),
			parse(t, "a", "  - {name: web, processes: [{containers: [web*]}, {containers: [web-2]}], egress: [{}, {}], ingress: []}"),
		},
		Workloads: []compile.Workload{workload(7, "web-1"), workload(3, "db"), workload(5, "web-3"), workload(6, "web-2"), {Key: 9, Namespace: "other"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[uint64]uint32{3: 3, 5: 2, 6: 1, 7: 2, 9: 0}, tables.Containers); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if diff := cmp.Diff(compile.Ruleset{Digest: tables.Rulesets[0].Digest}, *tables.Rulesets[0]); diff != "" {
		t.Errorf("ruleset 0 selects something (-want +got)\n%s", diff)
	}
	got := make([]string, 0, len(tables.Rulesets[1].Rules))
	for _, r := range tables.Rulesets[1].Rules {
		got = append(got, fmt.Sprintf("%s %s %d", r.Name, r.Direction, r.Index))
		if want := policy.Ref(r.Name, r.Direction, r.Index); r.Ref != want {
			t.Errorf("ref %d, not %d", r.Ref, want)
		}
	}
	want := []string{
		"default/a/web egress 0", "default/a/web egress 1", "default/a/web ingress 0", // selector 0
		"default/a/web egress 2", "default/a/web egress 3", "default/a/web ingress 1", // selector 1
		"default/b/all egress 0",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if ref := policy.Ref("default/a/web", policy.Egress, 0); ref != 0x34b946e09c2957aa {
		t.Errorf("the ref of a rule has changed to %#x: recorded alerts name it by the old one", ref)
	}
}

func TestCompileIsDeterministic(t *testing.T) {
	t.Parallel()
	for seed := range uint64(50) {
		c, err := policytest.Random(seed, 0)
		if err != nil {
			t.Fatal(err)
		}
		want, err := compile.Everything().Compile(c.Input)
		if err != nil && strings.Contains(err.Error(), "enableDefaultDeny: false is not enforced") {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		r := rand.New(rand.NewPCG(seed, 1))
		for range 3 {
			in := c.Input
			r.Shuffle(len(in.Policies), func(i, j int) { in.Policies[i], in.Policies[j] = in.Policies[j], in.Policies[i] })
			r.Shuffle(len(in.Workloads), func(i, j int) { in.Workloads[i], in.Workloads[j] = in.Workloads[j], in.Workloads[i] })
			got, err := compile.Everything().Compile(in)
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(want, got) {
				diff := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }))
				t.Fatalf("seed %d: the same input in another order (-want +got)\n%s", seed, diff)
			}
		}
	}
}

func TestCompileRefuses(t *testing.T) {
	t.Parallel()
	entries := func(n int) string { return "[" + strings.TrimSuffix(strings.Repeat("{},", n), ",") + "]" }
	var many strings.Builder
	for i := range 400 {
		fmt.Fprintf(&many, "  - {processes: [{binaries: [/usr/bin/%x/%x]}], egress: []}\n", i*7919, i*104729)
	}
	all := []compile.Workload{workload(1, "web")}
	for name, tt := range map[string]struct {
		policies  []*policy.Policy
		workloads []compile.Workload
		want      string
	}{
		"too many rules": {
			[]*policy.Policy{parse(t, "a", "  - {name: x, egress: "+entries(400)+"}"), parse(t, "b", "  - {name: y, egress: "+entries(113)+"}")},
			all,
			"rule default/b/y: workload default/pod/web: goes over the 512 rules that a container can have: it would have 513",
		},
		"too many patterns":   {[]*policy.Policy{parse(t, "a", many.String())}, all, "workload default/pod/web: binaries: \"/usr/bin/0/0\", "},
		"exponential pattern": {[]*policy.Policy{parse(t, "a", "  - {name: x, processes: [{binaries: [/bin/ls, '/**a"+strings.Repeat("?", 20)+"']}], egress: []}")}, all, "rule default/a/x: workload default/pod/web: binaries: \"/**a?"},
		"policy twice":        {[]*policy.Policy{parse(t, "a", "  - {egress: []}"), parse(t, "a", "  - {egress: []}")}, nil, "policy default/a: is there twice"},
		"workload twice":      {nil, append(all, all...), "workload default/pod/web: the key 1 is there twice"},
		"scripts":             {[]*policy.Policy{parse(t, "a", "  - {processes: [{scripts: [{interpreter: /bin/sh, path: /a}]}], egress: []}")}, nil, "processes[].scripts is enforced only on kernels with BPF LSM or fmod_ret, which tell which file a script is"},
		"namespaces":          {kindOf(t, "ClusterProcessPolicy", "podSelector: {}, namespaceSelector: {}, serviceAccounts: [a]"), nil, "policy ClusterProcessPolicy:a: namespaceSelector asks for the cluster, which only an agent that reads its API knows (kube.enabled)\npolicy ClusterProcessPolicy:a: serviceAccounts asks"},
		"peers of the cluster": {
			[]*policy.Policy{parse(t, "a", "  - {egress: [{toEndpoints: [{}], toEntities: [cluster, health], toPorts: [{ports: [{port: http}]}]}, {toServices: [{k8sService: {serviceName: a}}]}], ingress: [{fromEndpoints: []}]}")},
			nil,
			"egress[].toPorts[].ports[].port by its name asks for the cluster, which only an agent that reads its API knows (kube.enabled)\nrule default/a/rule-0: egress[].toEndpoints asks for the cluster, which only an agent that reads its API knows (kube.enabled)\n" +
				"rule default/a/rule-0: egress[].entity cluster asks for the cluster, which only an agent that reads its API knows (kube.enabled)\nrule default/a/rule-0: egress[].entity health asks for the cluster, which only an agent that reads its API knows (kube.enabled)\n" +
				"rule default/a/rule-0: egress[].toServices asks for the cluster, which only an agent that reads its API knows (kube.enabled)\nrule default/a/rule-0: ingress[].fromEndpoints asks for the cluster",
		},
		"a default for some":    {[]*policy.Policy{optional(parse(t, "a", "  - {processes: [{binaries: [/a]}], egress: [{}]}")), parse(t, "b", "  - {processes: [{binaries: [/b]}], egress: []}")}, all, "rule default/a/rule-0: workload default/pod/web: enableDefaultDeny: false is not enforced"},
		"a model nobody parsed": {[]*policy.Policy{broken(t)}, all, "rule default/a/rule-0: the prefix invalid Prefix is not valid"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tables, err := compile.Compile(compile.Input{Policies: tt.policies, Workloads: tt.workloads})
			var errs compile.Errors
			if tables != nil || !errors.As(err, &errs) || len(errs) == 0 || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v does not say %q", err, tt.want)
			}
			for _, e := range errs {
				if e.Policy != "" && name != "a model nobody parsed" && (e.File == "" || e.Line == 0) {
					t.Errorf("%v has no place", e)
				}
			}
		})
	}
}

// kindOf makes a policy of another kind.
func kindOf(tb testing.TB, kind, subject string) []*policy.Policy {
	tb.Helper()
	policies, err := policy.Parse("a.yaml", []byte("apiVersion: sallyport.dev/v1alpha1\nkind: "+kind+"\nmetadata: {name: a}\nspec: {"+subject+", rules: [{egress: []}]}"))
	if err != nil {
		tb.Fatal(err)
	}
	return policies
}

// optional makes a policy's rules make nothing default-deny, as enableDefaultDeny: {egress: false} does.
func optional(p *policy.Policy) *policy.Policy {
	for i := range p.Spec.Rules {
		p.Spec.Rules[i].Optional[policy.Egress] = true
	}
	return p
}

// broken makes a policy that the parser would have refused.
func broken(tb testing.TB) *policy.Policy {
	tb.Helper()
	p := parse(tb, "a", "  - {egress: [{toCIDR: [10.0.0.0/8]}]}")
	p.Spec.Rules[0].Egress[0].ToCIDR[0] = netip.Prefix{}
	return p
}

func TestTooManyPrefixes(t *testing.T) {
	t.Parallel()
	p := parse(t, "a", "  - {name: few, egress: [{toCIDR: [10.0.0.0/8]}]}\n  - {name: many, egress: [{}]}")
	cidrs := make([]netip.Prefix, compile.MaxPrefixes)
	for i := range cidrs {
		cidrs[i] = netip.PrefixFrom(netip.AddrFrom4([4]byte{byte(i >> 16), byte(i >> 8), byte(i), 1}), 32)
	}
	p.Spec.Rules[1].Egress[0].ToCIDR = cidrs
	_, err := compile.Compile(compile.Input{Policies: []*policy.Policy{p}, Workloads: []compile.Workload{workload(1, "web")}})
	if want := fmt.Sprintf("rule default/a/many: the policies of the node need %d prefixes of addresses, more than", compile.MaxPrefixes+3); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("%v does not say %q", err, want)
	}
}

func TestMaxRulesFit(t *testing.T) {
	t.Parallel()
	var rules strings.Builder
	for i := range compile.MaxRules {
		fmt.Fprintf(&rules, "  - {name: r%d, egress: [{toPorts: [{ports: [{port: %d}]}]}]}\n", i, 1000+i)
	}
	w := workload(1, "web")
	tables, err := compile.Compile(compile.Input{Policies: []*policy.Policy{parse(t, "a", rules.String())}, Workloads: []compile.Workload{w}})
	if err != nil {
		t.Fatal(err)
	}
	for i := range compile.MaxRules {
		d := tables.Judge(policy.Process{Workload: w}, policy.Call{Protocol: 17, Peer: netip.MustParseAddr("10.0.0.1"), Port: uint16(1000 + i)})
		if want := policy.Ref(fmt.Sprintf("default/a/r%d", i), policy.Egress, 0); d.Verdict != 1 || d.Ref != want {
			t.Fatalf("port %d: %+v, not rule r%d", 1000+i, d, i)
		}
	}
}

// TestAddressesAgainstNetip classifies random prefixes and compares with containment, one by one.
func TestAddressesAgainstNetip(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(3, 4))
	address := func() netip.Addr {
		if r.IntN(2) == 0 {
			return netip.AddrFrom4([4]byte{10, byte(r.IntN(2)), byte(r.IntN(4)), byte(r.IntN(256))})
		}
		var a [16]byte
		a[0], a[1], a[10], a[11], a[12], a[15] = byte(r.IntN(2)), byte(r.IntN(2)), byte(r.IntN(2)*255), byte(r.IntN(2)*255), byte(r.IntN(2)*10), byte(r.IntN(4))
		return netip.AddrFrom16(a).Unmap()
	}
	for range 100 {
		p := parse(t, "a", "  - {egress: [{}]}")
		p.Spec.Rules[0].Egress = nil
		for range 1 + r.IntN(20) {
			cidrs := make([]netip.Prefix, 1+r.IntN(4))
			for i := range cidrs {
				a := address()
				cidrs[i] = netip.PrefixFrom(a, r.IntN(a.BitLen()+1)).Masked()
			}
			p.Spec.Rules[0].Egress = append(p.Spec.Rules[0].Egress, policy.EgressRule{ToCIDR: cidrs})
		}
		w := workload(1, "web")
		tables, err := compile.Compile(compile.Input{Policies: []*policy.Policy{p}, Workloads: []compile.Workload{w}})
		if err != nil {
			t.Fatal(err)
		}
		bits := map[compile.Identity]compile.Bitset{}
		for _, e := range tables.Rulesets[tables.Containers[w.Key]].Peers {
			bits[e.Identity] = e.Bits
		}
		for range 200 {
			a := address()
			var want compile.Bitset
			for i, e := range p.Spec.Rules[0].Egress {
				for _, c := range e.ToCIDR {
					if c.Contains(a) {
						want.Set(i)
					}
				}
			}
			if got := bits[tables.Identity(a)]; got != want {
				t.Fatalf("%s: rules %v, not %v, of %v", a, got, want, p.Spec.Rules[0].Egress)
			}
		}
	}
}

func TestAddressesAreSmall(t *testing.T) {
	t.Parallel()
	p := parse(t, "a", "  - {egress: [{toCIDR: [10.0.0.0/8, 10.1.0.0/16, 10.2.0.0/16]}, {toCIDR: [10.1.2.0/24]}]}")
	tables, err := compile.Compile(compile.Input{Policies: []*policy.Policy{p}, Workloads: []compile.Workload{workload(1, "web")}})
	if err != nil {
		t.Fatal(err)
	}
	one, two := tables.Identity(netip.MustParseAddr("10.9.9.9")), tables.Identity(netip.MustParseAddr("10.1.2.3"))
	if one == two || one == 0 || two == 0 {
		t.Errorf("the identities are %d and %d", one, two)
	}
	want := []compile.AddressEntry{
		{Prefix: netip.MustParsePrefix("::/0"), Identity: 0},
		{Prefix: netip.MustParsePrefix("::ffff:0.0.0.0/96"), Identity: 0},
		{Prefix: netip.MustParsePrefix("::ffff:10.0.0.0/104"), Identity: one},
		{Prefix: netip.MustParsePrefix("::ffff:10.1.2.0/120"), Identity: two}, // 10.1/16 and 10.2/16 say nothing new
	}
	if diff := cmp.Diff(want, tables.Addresses, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}
