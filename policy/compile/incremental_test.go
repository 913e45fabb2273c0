package compile_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"runtime"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/policy/compile"
	"github.com/sallyport/sallyport/policy/policytest"
)

// fleet makes 10,000 rules in 1,000 policies over 1,000 workloads of 100 namespaces, in a cluster with
// this many endpoints.
func fleet(tb testing.TB, endpoints int) compile.Input {
	tb.Helper()
	in := compile.Input{Node: policy.Node{Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.1")}}}
	in.World = cities(endpoints)
	for ns := range 100 {
		for app := range 10 {
			in.Policies = append(in.Policies, fleetPolicy(tb, ns, app, 0))
			in.Workloads = append(in.Workloads, compile.Workload{
				Key: uint64(ns*10+app) + 1, Namespace: fmt.Sprintf("ns-%d", ns), Pod: fmt.Sprintf("app-%d", app), Container: "main", ContainerType: "App",
				Labels: map[string]string{"app": fmt.Sprint(app)},
			})
		}
	}
	return in
}

// fleetPolicy is one policy of a fleet; another version says something else.
func fleetPolicy(tb testing.TB, ns, app, version int) *policy.Policy {
	tb.Helper()
	text := fmt.Sprintf("apiVersion: sallyport.dev/v1alpha1\nkind: ProcessPolicy\nmetadata: {name: app-%d, namespace: ns-%d}\nspec:\n  podSelector: {matchLabels: {app: '%d'}}\n  rules:\n", app, ns, app)
	for r := range 9 {
		text += fmt.Sprintf("  - {name: r%d, processes: [{binaries: [/usr/bin/tool-%d-%d, /opt/app-%d/bin/*]}], egress: [{toEndpoints: [{matchLabels: {app: '%d'}}], toCIDR: [10.%d.%d.0/24], toFQDNs: [{matchPattern: '*.r%d-%d.example'}], toPorts: [{ports: [{port: %d, endPort: %d, protocol: TCP}]}]}]}\n",
			r, app, r, app, (app+r)%10, 200+app, r, r, app, 1000+r+app+version, 2000+r+app+version)
	}
	text += "  - {name: shells, processes: [{origins: [Exec]}], action: Deny}\n"
	policies, err := policy.Parse("fleet.yaml", []byte(text))
	if err != nil {
		tb.Fatal(err)
	}
	return policies[0]
}

// cities makes a world with this many endpoints, ten of an app, and a service for each hundred.
func cities(endpoints int) (w policy.World) {
	for i := range endpoints {
		a := netip.AddrFrom4([4]byte{10, 128 + byte(i>>16), byte(i >> 8), byte(i)})
		w.Endpoints = append(w.Endpoints, policy.Endpoint{
			Namespace: fmt.Sprintf("ns-%d", i/10%100), Labels: map[string]string{"app": fmt.Sprint(i % 10)}, Addresses: []netip.Addr{a},
		})
		if i%100 == 0 {
			w.Services = append(w.Services, policy.Service{
				Namespace: "ns-0", Name: fmt.Sprintf("s%d", i), Addresses: []netip.Addr{netip.AddrFrom4([4]byte{10, 96, byte(i >> 16), byte(i >> 8)})},
				Ports: []policy.ServicePort{{Protocol: policy.ProtocolTCP, Port: 80, Backends: []netip.AddrPort{netip.AddrPortFrom(a, 1050)}}},
			})
		}
	}
	return w
}

// TestCompilerMakesWhatANewOneMakes changes policies, workloads and the world again and again.
func TestCompilerMakesWhatANewOneMakes(t *testing.T) {
	t.Parallel()
	same := cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })
	steps, refused := 0, 0
	for seed := range uint64(60) {
		r := rand.New(rand.NewPCG(seed, 9))
		var cases [3]policytest.Case
		for i := range cases {
			c, err := policytest.Random(seed*3+uint64(i), 0)
			if err != nil {
				t.Fatal(err)
			}
			cases[i] = c
		}
		other := func() policy.Input { return cases[r.IntN(len(cases))].Input }
		c := compile.NewCompiler(compile.Everything())
		in := cases[0].Input
		for step := range 12 {
			switch r.IntN(6) {
			case 0:
				in.World = other().World
			case 1:
				in.Node = other().Node
			case 2:
				in.Workloads = other().Workloads
			case 3:
				in.Policies = other().Policies
			case 4:
				in.Policies = in.Policies[:r.IntN(len(in.Policies)+1)]
			case 5:
				in.World.Endpoints = slices.Clone(in.World.Endpoints)
			}
			got, err := c.Compile(in)
			want, wantErr := compile.Everything().Compile(in)
			if fmt.Sprint(err) != fmt.Sprint(wantErr) {
				t.Fatalf("seed %d, step %d: %v, not %v", seed, step, err, wantErr)
			}
			if !reflect.DeepEqual(want, got) { // of which pages are most: cmp would take long
				t.Fatalf("seed %d, step %d: (-new +old)\n%s", seed, step, cmp.Diff(want, got, same))
			}
			steps++
			if err != nil {
				refused++
			}
		}
	}
	if refused > steps/2 {
		t.Errorf("%d of %d steps are refused", refused, steps)
	}
}

// TestCompilerForgets: what is compiled once and never again does not stay for ever, and that it has
// been forgotten does not show.
func TestCompilerForgets(t *testing.T) {
	t.Parallel()
	c := compile.NewCompiler(compile.Enforced{})
	w := []compile.Workload{workload(1, "web")}
	for i := range 1500 {
		p := parse(t, "a", fmt.Sprintf("  - {egress: [{toCIDR: [10.%d.%d.0/24]}, {toEntities: [world]}]}", i>>8, i&255))
		in := compile.Input{Policies: []*policy.Policy{p}, Workloads: w}
		got, err := c.Compile(in)
		if err != nil {
			t.Fatal(err)
		}
		if i%100 > 1 {
			continue
		}
		want, err := compile.Compile(in)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
			t.Fatalf("after %d: (-new +old)\n%s", i, diff)
		}
	}
}

func BenchmarkFleetCold(b *testing.B) {
	in := fleet(b, 1000)
	for b.Loop() {
		if _, err := (compile.Enforced{World: true}).Compile(in); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkFleetPolicy changes one policy of a fleet at a time.
func BenchmarkFleetPolicy(b *testing.B) {
	change(b, func(in *compile.Input, i int) {
		in.Policies = slices.Clone(in.Policies)
		at := i * 7 % len(in.Policies)
		in.Policies[at] = fleetPolicy(b, at/10, at%10, i)
	})
}

// BenchmarkFleetWorkload replaces a workload of a fleet by another.
func BenchmarkFleetWorkload(b *testing.B) {
	change(b, func(in *compile.Input, i int) {
		in.Workloads = slices.Clone(in.Workloads)
		in.Workloads[i*7%len(in.Workloads)].Key = uint64(1_000_000 + i)
	})
}

// BenchmarkFleetOwnRules takes a workload whose rules no other has out of a fleet, and puts it back.
func BenchmarkFleetOwnRules(b *testing.B) {
	var out compile.Workload
	change(b, func(in *compile.Input, i int) {
		in.Workloads = slices.Clone(in.Workloads)
		if i%2 == 1 {
			at := i * 7 % len(in.Workloads)
			out = in.Workloads[at]
			in.Workloads = slices.Delete(in.Workloads, at, at+1)
			return
		}
		out.Key = uint64(1_000_000 + i)
		in.Workloads = append(in.Workloads, out)
	})
}

// BenchmarkFleetEndpoint gives a pod of a fleet's cluster another address.
func BenchmarkFleetEndpoint(b *testing.B) {
	change(b, func(in *compile.Input, i int) {
		in.World.Endpoints = slices.Clone(in.World.Endpoints)
		e := &in.World.Endpoints[i*7%len(in.World.Endpoints)]
		e.Addresses = []netip.Addr{netip.AddrFrom4([4]byte{10, 192, byte(i >> 8), byte(i)})}
	})
}

// change measures what compiling costs after a small change.
func change(b *testing.B, make func(in *compile.Input, i int)) {
	b.Helper()
	in := fleet(b, 1000)
	c := compile.NewCompiler(compile.Enforced{World: true})
	if _, err := c.Compile(in); err != nil {
		b.Fatal(err)
	}
	i := 0
	for b.Loop() {
		i++
		b.StopTimer()
		make(&in, i)
		b.StartTimer()
		if _, err := c.Compile(in); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkPeers compiles what ten rules say about 100,000 endpoints and reports what the tables take.
func BenchmarkPeers(b *testing.B) {
	in := compile.Input{World: cities(100_000), Workloads: []compile.Workload{workload(1, "web")}}
	for app := range 10 {
		policies, err := policy.Parse("p.yaml", fmt.Appendf(nil, "apiVersion: sallyport.dev/v1alpha1\nkind: ClusterProcessPolicy\nmetadata: {name: p%d}\nspec: {podSelector: {}, rules: [{egress: [{toEndpoints: [{matchLabels: {app: '%d'}}]}]}]}", app, app))
		if err != nil {
			b.Fatal(err)
		}
		in.Policies = append(in.Policies, policies...)
	}
	var size float64
	var addresses int
	for b.Loop() {
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		tables, err := compile.Enforced{World: true}.Compile(in)
		if err != nil {
			b.Fatal(err)
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		size, addresses = float64(after.HeapAlloc)-float64(before.HeapAlloc), len(tables.Addresses)
		runtime.KeepAlive(tables)
	}
	b.ReportMetric(size/(1<<20), "MiB")
	b.ReportMetric(float64(addresses), "addresses")
}
