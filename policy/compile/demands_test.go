package compile

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/policy"
)

// demanding is a policy whose requests demand headers, in one rule each.
func demanding(t *testing.T, headers ...string) *policy.Policy {
	t.Helper()
	var http strings.Builder
	for _, h := range headers {
		fmt.Fprintf(&http, "        - headers: [%q]\n", h)
	}
	policies, err := policy.Parse("demands.yaml", []byte(`apiVersion: sallyport.dev/v1alpha1
kind: ProcessPolicy
metadata: {name: demands, namespace: shop}
spec:
  podSelector: {}
  rules:
  - name: api
    egress:
    - toPorts:
      - ports: [{port: "80", protocol: TCP}]
        rules:
          http:
`+strings.ReplaceAll(http.String(), "        -", "          -")))
	if err != nil {
		t.Fatal(err)
	}
	return policies[0]
}

// TestDemands: what the lines of a request meet, by the bits that the kernel reads.
func TestDemands(t *testing.T) {
	p := demanding(t, "X-Token", "X-Token: a", "x-user:b c")
	tables, err := NewCompiler(Everything()).Compile(Input{Policies: []*policy.Policy{p}, Workloads: []Workload{{Key: 1, Namespace: "shop"}}})
	if err != nil {
		t.Fatal(err)
	}
	r := tables.Rulesets[tables.Containers[1]]
	if len(r.Demands) != 3 {
		t.Fatalf("%d demands, want 3", len(r.Demands))
	}
	for _, c := range []struct {
		line       string
		met, named uint64
	}{
		{"x-token:", 1, 1},
		{"x-token:a", 3, 1},
		{"x-token:a \t", 3, 1},
		{"x-token:ab", 1, 1},
		{"x-user:b c", 4, 2},
		{"x-user:b", 0, 2},
		{"x-users:b c", 0, 0},
		{"x-token", 0, 0},
		{"", 0, 0},
	} {
		if got := tables.accepts(r.Lines, c.line); got[0] != c.met || got[1] != c.named {
			t.Errorf("%q meets %b of the names %b, want %b of %b", c.line, got[0], got[1], c.met, c.named)
		}
	}
}

// TestTooManyDemands: more than the kernel can count is an error that names the rule.
func TestTooManyDemands(t *testing.T) {
	headers := make([]string, 0, MaxDemands+1)
	for i := range MaxDemands + 1 {
		headers = append(headers, fmt.Sprintf("X-%d", i))
	}
	for _, n := range []int{MaxDemands, MaxDemands + 1} {
		p := demanding(t, headers[:n]...)
		_, err := NewCompiler(Everything()).Compile(Input{Policies: []*policy.Policy{p}, Workloads: []Workload{{Key: 1, Namespace: "shop"}}})
		if n == MaxDemands {
			if err != nil {
				t.Errorf("%d demands: %v", n, err)
			}
			continue
		}
		if err == nil || !slices.Contains(strings.Split(err.Error(), ": "), "rule shop/demands/api") || !strings.Contains(err.Error(), "64 headers") {
			t.Errorf("%d demands: %v", n, err)
		}
	}
}

// TestHostIsNoHeader: the host has a field of its own, and no line of the kernel's parser.
func TestHostIsNoHeader(t *testing.T) {
	_, err := policy.Parse("host.yaml", []byte(`apiVersion: sallyport.dev/v1alpha1
kind: ProcessPolicy
metadata: {name: host, namespace: shop}
spec:
  podSelector: {}
  rules:
  - name: api
    egress:
    - toPorts:
      - ports: [{port: "80", protocol: TCP}]
        rules: {http: [{headers: ["HOST: a"]}]}
`))
	if err == nil || !strings.Contains(err.Error(), "field of its own") {
		t.Errorf("the host as a header: %v", err)
	}
}
