package compile_test

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/policy/compile"
)

// large makes 1,000 rules in 10 policies over 20,000 CIDRs, a tenth of them inside another, and 40
// workloads with 10 rulesets.
func large(tb testing.TB) compile.Input {
	tb.Helper()
	in := compile.Input{Node: policy.Node{Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.1")}}}
	n := 0
	for i := range 10 {
		p := parse(tb, fmt.Sprintf("p%d", i), "  - {egress: [{toEntities: [world], toPorts: [{ports: [{port: 443}]}]}]}")
		p.Spec.PodSelector.MatchLabels = map[string]string{"app": fmt.Sprint(i)}
		for r := range 99 {
			rule := policy.Rule{Name: fmt.Sprintf("r%d", r), Action: policy.ActionAllow}
			g, err := policy.ParseGlob(fmt.Sprintf("/usr/bin/tool-%d", r%20))
			if err != nil {
				tb.Fatal(err)
			}
			rule.Processes = []policy.ProcessSelector{{Binaries: []policy.Glob{g}}}
			cidrs := make([]netip.Prefix, 0, 20)
			for range 20 {
				at := n * 40503 % (1 << 16) // spread, so that neighbours belong to different rules
				a := netip.AddrFrom4([4]byte{10, byte(at >> 8), byte(at), 0})
				bits := 24
				if n%10 == 0 {
					bits = 20
				}
				cidrs = append(cidrs, netip.PrefixFrom(a, bits).Masked())
				n++
			}
			rule.Egress = []policy.EgressRule{{ToCIDR: cidrs, ToPorts: []policy.PortRule{{Ports: []policy.Port{{Port: uint16(1000 + r), EndPort: uint16(2000 + r), Protocol: policy.ProtocolTCP}}}}}}
			p.Spec.Rules = append(p.Spec.Rules, rule)
		}
		in.Policies = append(in.Policies, p)
		for j := range 4 {
			w := workload(uint64(10*j+i), fmt.Sprintf("c%d", j))
			w.Labels = map[string]string{"app": fmt.Sprint(i)}
			in.Workloads = append(in.Workloads, w)
		}
	}
	return in
}

func BenchmarkCompile(b *testing.B) {
	in := large(b)
	var tables *compile.Tables
	for b.Loop() {
		var err error
		if tables, err = compile.Compile(in); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(len(tables.Addresses)), "addresses")
	var peers, ports int
	for _, r := range tables.Rulesets {
		peers, ports = peers+len(r.Peers), ports+len(r.Ports)
	}
	b.ReportMetric(float64(peers), "peers")
	b.ReportMetric(float64(ports), "ports")
}
