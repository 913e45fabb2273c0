package bench

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/policy/compile"
)

// What large makes.
const (
	rulesOfOne = 500 // rules of one ruleset
	tools      = 25  // different binaries that the rules of a ruleset name
)

// large makes rulesets with 500 rules each, one for each workload, and that many CIDRs for each rule.
func large(t testing.TB, rulesets, cidrsOfOne int) policy.Input {
	t.Helper()
	var in policy.Input
	for i := range rulesets {
		p := &policy.Policy{
			APIVersion: policy.APIVersion, Kind: policy.KindProcessPolicy, Metadata: policy.Metadata{Name: fmt.Sprintf("p%d", i), Namespace: "bench"},
			Spec: policy.Spec{Mode: policy.ModeEnforce, PodSelector: policy.LabelSelector{MatchLabels: map[string]string{"app": fmt.Sprint(i)}}},
		}
		for r := range rulesOfOne {
			glob, err := policy.ParseGlob(fmt.Sprintf("/usr/**/tool-%d", r%tools))
			if err != nil {
				t.Fatal(err)
			}
			cidrs := make([]netip.Prefix, cidrsOfOne)
			for c := range cidrs {
				cidrs[c] = cidr(i*rulesOfOne*cidrsOfOne + r*cidrsOfOne + c)
			}
			p.Spec.Rules = append(p.Spec.Rules, policy.Rule{
				Name: fmt.Sprintf("r%d", r), Action: policy.ActionAllow, Processes: []policy.ProcessSelector{{Binaries: []policy.Glob{glob}}},
				Egress: []policy.EgressRule{{ToCIDR: cidrs, ToPorts: []policy.PortRule{{Ports: []policy.Port{{Port: 443, EndPort: 450, Protocol: policy.ProtocolTCP}}}}}},
			})
		}
		in.Policies = append(in.Policies, p)
		in.Workloads = append(in.Workloads, policy.Workload{Key: uint64(i + 1), Namespace: "bench", Container: "c", Labels: map[string]string{"app": fmt.Sprint(i)}})
	}
	return in
}

// cidr is the n-th of the CIDRs: spread, so that neighbours belong to different rules. One in ten is
// wider than the others and holds some of them.
func cidr(n int) netip.Prefix {
	at := n * 40503 % (1 << 20)
	bits := 28
	if n%10 == 0 {
		bits = 24
	}
	a := netip.AddrFrom4([4]byte{10 + byte(at>>16), byte(at >> 8), byte(at), 0})
	return netip.PrefixFrom(a, bits).Masked()
}

// localnet is 127.0.0.0/8.
func localnet() netip.Prefix { return netip.PrefixFrom(netip.AddrFrom4([4]byte{127}), 8) }

// lastTool is a process that rules of the end of the first ruleset select, and a peer of the last of
// these: nothing of the tables is spared.
func lastTool(in policy.Input) (policy.Process, policy.Call) {
	rules := in.Policies[0].Spec.Rules
	last := rules[len(rules)-1]
	return policy.Process{Workload: in.Workloads[0], Origin: policy.OriginMain, Exe: fmt.Sprintf("/usr/bin/tool-%d", tools-1)},
		policy.Call{Protocol: 6, Peer: last.Egress[0].ToCIDR[1].Addr(), Port: 443}
}

// compiled compiles what is known to be right.
func compiled(t testing.TB, in policy.Input) *compile.Tables {
	t.Helper()
	tables, err := compile.Compile(in)
	if err != nil {
		t.Fatal(err)
	}
	return tables
}

// fleet makes workloads with a ruleset of ten rules each, and returns the world without any.
func fleet(t testing.TB, workloads int) policy.Input {
	t.Helper()
	var in policy.Input
	for i := range workloads {
		app := fmt.Sprint(i)
		text := fmt.Sprintf("apiVersion: %s\nkind: %s\nmetadata: {name: p%d, namespace: bench}\nspec:\n  podSelector: {matchLabels: {app: '%d'}}\n  rules:\n", policy.APIVersion, policy.KindProcessPolicy, i, i)
		for r := range 9 {
			text += fmt.Sprintf("  - {name: r%d, processes: [{binaries: [/usr/bin/tool-%d-%d, /opt/app-%d/bin/*]}], egress: [{toCIDR: [%s, %s], toFQDNs: [{matchPattern: '*.r%d-%d.example'}], toPorts: [{ports: [{port: %d, endPort: %d, protocol: TCP}]}]}]}\n",
				r, i, r, i, cidr(i*18+2*r), cidr(i*18+2*r+1), r, i, 1000+r+i, 2000+r+i)
		}
		text += "  - {name: shells, processes: [{origins: [Exec]}], action: Deny}\n"
		policies, err := policy.Parse(app, []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		in.Policies = append(in.Policies, policies...)
		in.Workloads = append(in.Workloads, policy.Workload{Key: uint64(i + 1), Namespace: "bench", Container: "c", Labels: map[string]string{"app": app}})
	}
	return in
}
