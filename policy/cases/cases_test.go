package cases_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/policy/cases"
)

const good = `apiVersion: sallyport.dev/v1alpha1
kind: PolicyTest
policies: [checkout.yaml, ../shared]
node: {addresses: [192.0.2.1]}
workload: {namespace: shop, podLabels: {app: checkout}, container: checkout}
cases:
- {name: pays, binary: /usr/bin/checkout, to: "203.0.113.9:443/TCP", expect: Allow, rule: shop/checkout/pay}
- name: shells
  origin: Exec
  binary: /bin/sh
  to: ["203.0.113.9:443", "[2001:db8::1]:53/UDP"]
  expect: Deny
  reason: default
  alert: critical
- {name: kubelet, from: "192.0.2.1:8081", expect: Allow}
- {name: serves, listen: 8080/TCP, workload: {container: other, containerType: Sidecar}, expect: Allow, reason: ungoverned}
---
apiVersion: sallyport.dev/v1alpha1
kind: PolicyTest
cases:
- {name: elsewhere, to: 192.0.2.7/ICMP, expect: Audit, would: Kill}
- {name: by name, user: 7, group: 8, to: [API.example.com:443, "192.0.2.1:443"], names: [www.example.com], expect: Allow}
- {name: asks, to: "10.96.0.10:53/UDP", query: WWW.example.com., expect: Allow}
- {name: node, workload: {host: {unit: ssh.service, cgroup: /system.slice/ssh.service}}, to: 192.0.2.1:22, expect: Allow}
- {name: cluster, workload: {namespace: a, namespaceLabels: {team: x}, serviceAccount: robot}, to: 192.0.2.1:22, expect: Allow, rule: "ClusterProcessPolicy:a/b"}
`

const shop = `apiVersion: sallyport.dev/v1alpha1
kind: ProcessPolicy
metadata: {name: checkout, namespace: shop}
spec:
  podSelector: {matchLabels: {app: checkout}}
  onViolation: {alert: critical}
  rules:
  - name: pay
    processes: [{containers: [checkout]}]
    egress: [{toCIDR: [203.0.113.0/24]}]
    ingress: [{fromEntities: [host]}]
  - {name: exec, action: Deny, processes: [{origins: [Exec]}], egress: [{toPorts: [{ports: [{port: 53}]}]}]}
`

func TestParse(t *testing.T) {
	t.Parallel()
	sets, err := cases.Parse("t.yaml", []byte(good))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, s := range sets {
		got = append(got, fmt.Sprintf("%d %q %v", s.Line, s.Policies, s.Node.Addresses))
		for _, c := range s.Cases {
			got = append(got, fmt.Sprintf("%d %s | %s | %s | %s", c.Line, c.Name, c.Who(), c.What(), c.Process.Workload.ContainerType))
		}
	}
	want := []string{
		`1 ["checkout.yaml" "../shared"] [192.0.2.1]`,
		`7 pays | Main /usr/bin/checkout in shop/checkout (app=checkout) | to 203.0.113.9:443/TCP | App`,
		`8 shells: to 203.0.113.9:443/TCP | Exec /bin/sh in shop/checkout (app=checkout) | to 203.0.113.9:443/TCP | App`,
		`8 shells: to [2001:db8::1]:53/UDP | Exec /bin/sh in shop/checkout (app=checkout) | to [2001:db8::1]:53/UDP | App`,
		`15 kubelet | Main in shop/checkout (app=checkout) | from 192.0.2.1:8081/TCP | App`,
		`16 serves | Main in shop/other (app=checkout) | listen 8080/TCP | Sidecar`,
		`18 [] []`,
		`21 elsewhere | Main in default/app | to 192.0.2.7/ICMP | App`,
		`22 by name: to 192.0.0.8:443/TCP (api.example.com, www.example.com) | Main (user 7, group 8) in default/app | to 192.0.0.8:443/TCP (api.example.com, www.example.com) | App`,
		`22 by name: to 192.0.2.1:443/TCP (www.example.com) | Main (user 7, group 8) in default/app | to 192.0.2.1:443/TCP (www.example.com) | App`,
		`23 asks | Main in default/app | to 10.96.0.10:53/UDP for www.example.com | App`,
		`24 node | Main in the node ssh.service /system.slice/ssh.service | to 192.0.2.1:22/TCP | `,
		`25 cluster | Main in a/app | to 192.0.2.1:22/TCP | App`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestRun(t *testing.T) {
	t.Parallel()
	sets, err := cases.Parse("t.yaml", []byte(good))
	if err != nil {
		t.Fatal(err)
	}
	policies, err := policy.Parse("shop.yaml", []byte(shop))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for i := range sets {
		for _, r := range sets[i].Run(policies) {
			got = append(got, fmt.Sprint(r.Passed(), " ", strings.Join(r.Failures, ", ")))
		}
	}
	want := []string{
		"true ",
		"false verdict is Allow, not Deny, reason is rule, not default, alert is none, not critical", // the program's rule covers every origin
		"false reason is rule, not default",
		"true ",
		"true ",
		"false verdict is Allow, not Audit, would is none, not Kill",
		"true ", "true ", "true ", "true ",
		"false rule is none, not ClusterProcessPolicy:a/b",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestCluster(t *testing.T) {
	t.Parallel()
	const text = `apiVersion: sallyport.dev/v1alpha1
kind: PolicyTest
node: {addresses: [192.0.2.1]}
cluster:
  namespaces: [{name: shop, labels: {team: pay}}]
  pods:
  - {name: web-1, namespace: shop, labels: {app: web}, serviceAccount: web, addresses: [10.0.0.5], ports: [{name: http, port: 8080}]}
  - {addresses: [10.0.0.6]}
  services:
  - {name: web, namespace: shop, labels: {app: web}, addresses: [10.96.0.1], ports: [{port: 80, backends: ["10.0.0.7:8080"]}]}
  remoteNodes: [192.0.2.2]
  apiServers: [192.0.2.3]
  health: [10.0.0.99]
  podCIDRs: [10.0.0.0/16]
workload: {namespace: shop}
cases:
- {name: pod by namespace, to: "10.0.0.5:8080", expect: Allow}
- {name: another port, to: "10.0.0.5:8081", expect: Deny}
- {name: other pod, to: "10.0.0.6:8080", expect: Deny}
- {name: service, to: "10.96.0.1:80", expect: Allow}
- {name: remote node, to: "192.0.2.2:1", expect: Allow}
- {name: API, to: "192.0.2.3:6443", expect: Allow}
- {name: health, to: "10.0.0.99:1", expect: Deny}
- {name: world, to: "203.0.113.1:1", expect: Deny}
`
	const cluster = `apiVersion: sallyport.dev/v1alpha1
kind: ProcessPolicy
metadata: {name: p, namespace: shop}
spec:
  podSelector: {}
  rules:
  - egress:
    - toEndpoints: [{matchLabels: {app: web, "k8s:io.cilium.k8s.namespace.labels.team": pay}}]
      toPorts: [{ports: [{port: http}]}]
    - toServices: [{k8sService: {serviceName: web, namespace: shop}}]
    - toEntities: [remote-node, kube-apiserver]
`
	sets, err := cases.Parse("t.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	policies, err := policy.Parse("p.yaml", []byte(cluster))
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range sets[0].Run(policies) {
		if !r.Passed() {
			t.Errorf("%s: %v: %s", r.Case.Name, r.Failures, r.Got.Why)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	in := func(one string) string {
		return "apiVersion: sallyport.dev/v1alpha1\nkind: PolicyTest\ncases:\n- " + one + "\n"
	}
	for name, tt := range map[string]struct{ text, want string }{
		"nothing":          {"# nothing\n", "t.yaml: holds no cases: a document begins with kind: PolicyTest"},
		"a policy":         {shop, `kind: "ProcessPolicy" is none of PolicyTest`},
		"no cases":         {"apiVersion: sallyport.dev/v1alpha1\nkind: PolicyTest\n", "cases: is missing"},
		"empty cases":      {"apiVersion: sallyport.dev/v1alpha1\nkind: PolicyTest\ncases: []\n", "cases: is empty: it would say nothing"},
		"misspelt field":   {in("{name: a, bniary: /x, to: 192.0.2.1/ICMP, expect: Deny}"), "t.yaml:4:13: cases[0].bniary: unknown field: did you mean binary?"},
		"no expectation":   {in("{name: a, to: 192.0.2.1/ICMP}"), "cases[0].expect: is missing: Allow, Deny, …"},
		"no name":          {in("{to: 192.0.2.1/ICMP, expect: Deny}"), "cases[0].name: is missing"},
		"empty name":       {in(`{name: "", to: 192.0.2.1/ICMP, expect: Deny}`), "cases[0].name: is empty"},
		"no target":        {in("{name: a, expect: Deny}"), "a case has one of to, from and listen"},
		"two targets":      {in("{name: a, to: 192.0.2.1/ICMP, from: 192.0.2.1/ICMP, expect: Deny}"), "a case has one of to, from and listen"},
		"no address":       {in("{name: a, from: example.com:443, expect: Deny}"), `"example.com:443" is no address with a port`},
		"no port":          {in("{name: a, listen: http, expect: Deny}"), `"http" is no port: write it as 8080/TCP`},
		"misspelt verdict": {in("{name: a, to: 192.0.2.1/ICMP, expect: deny}"), `cases[0].expect: "deny" is none of Allow, Audit, Deny, Drop, Reset or Kill: did you mean Deny?`},
		"would of nothing": {in("{name: a, to: 192.0.2.1/ICMP, expect: Deny, would: Kill}"), "cases[0].would: is only decided for an audited call"},
		"half a rule":      {in("{name: a, to: 192.0.2.1/ICMP, expect: Deny, rule: pay}"), `"pay" is no name of a rule: NAMESPACE/POLICY/RULE`},
		"names of nobody":  {in("{name: a, from: 192.0.2.1/ICMP, names: [a.example], expect: Deny}"), "cases[0].names: is about a call that leaves"},
		"query of nobody":  {in("{name: a, listen: 80/TCP, query: a.example, expect: Deny}"), "cases[0].query: is about a call that leaves"},
		"no name of DNS":   {in("{name: a, to: 192.0.2.1/ICMP, names: ['a b'], expect: Deny}"), `cases[0].names[0]: "a b" is no name`},
		"pod on the node":  {in("{name: a, workload: {host: {}, namespace: a}, to: 192.0.2.1/ICMP, expect: Deny}"), "a process of the node is in no pod"},
		"two ids":          {in("{name: a, user: [1, 2], to: 192.0.2.1/ICMP, expect: Deny}"), "the real, the saved and the effective id are three"},
		"user by name":     {in("{name: a, user: nobody, to: 192.0.2.1/ICMP, expect: Deny}"), "cases[0].user: is a string, not a numeric id"},
		"type of TCP":      {in("{name: a, to: '192.0.2.1:1', icmpType: 8, expect: Deny}"), "only messages of ICMP and ICMPv6 have a type of it"},
		"no type":          {in("{name: a, to: 192.0.2.1/ICMP, icmpType: Ping, expect: Deny}"), `cases[0].icmpType: "Ping" is no type of ICMP messages`},
		"server of UDP":    {in("{name: a, to: '192.0.2.1:1/UDP', serverName: a.example, expect: Deny}"), "about a connection over TCP"},
		"two questions":    {in("{name: a, to: '192.0.2.1:1', serverName: a.example, request: {method: GET, path: /}, expect: Deny}"), "are three questions"},
		"twice":            {in("{name: a, to: 192.0.2.1/ICMP, expect: Deny}\n- {name: a, to: 192.0.2.1/ICMP, expect: Deny}"), `"a" is also the name of the case in line 4`},
		"node":             {"node: {addresses: [here]}\n" + in("{name: a, to: 192.0.2.1/ICMP, expect: Deny}"), `node.addresses[0]: "here" is no address`},
		"a pod of nowhere": {"cluster: {pods: [{name: a}]}\n" + in("{name: a, to: 192.0.2.1/ICMP, expect: Deny}"), "cluster.pods[0].addresses: is missing"},
		"a backend":        {"cluster: {services: [{name: a, addresses: [10.0.0.1], ports: [{port: 1, backends: [x]}]}]}\n" + in("{name: a, to: 192.0.2.1/ICMP, expect: Deny}"), `"x" is no address with a port`},
		"a port":           {"workload: {ports: [{name: a, port: 70000}]}\n" + in("{name: a, to: 192.0.2.1/ICMP, expect: Deny}"), `"70000" is no port`},
		"pod CIDRs":        {"cluster: {podCIDRs: [10.0.0.0/33]}\n" + in("{name: a, to: 192.0.2.1/ICMP, expect: Deny}"), `is no CIDR`},
		"policies":         {"policies: ['']\n" + in("{name: a, to: 192.0.2.1/ICMP, expect: Deny}"), `policies[0]: "" names no file`},
		"twins":            {in("{name: a, to: [], expect: Deny}"), "cases[0].to: is empty"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sets, err := cases.Parse("t.yaml", []byte(tt.text))
			var errs policy.Errors
			if sets != nil || !errors.As(err, &errs) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%d sets and %v, which does not say %s", len(sets), err, tt.want)
			}
		})
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(good))
	f.Add([]byte(shop))
	f.Add([]byte("kind: PolicyTest\ncases: &c [*c, {to: *c}]\n"))
	f.Add([]byte(`{"apiVersion": "sallyport.dev/v1alpha1", "kind": "PolicyTest", "cases": [{"name": "a", "to": "192.0.2.1:1/255", "expect": "Deny"}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		sets, err := cases.Parse("f.yaml", data)
		var errs policy.Errors
		switch {
		case err == nil:
			for i := range sets {
				if got := sets[i].Run(nil); len(got) != len(sets[i].Cases) {
					t.Errorf("%d results of %d cases", len(got), len(sets[i].Cases))
				}
			}
		case sets != nil || !errors.As(err, &errs):
			t.Fatalf("%d sets and the error %v", len(sets), err)
		default:
			for _, e := range errs {
				if strings.ContainsAny(e.Error(), "\n\r\x1b\x00") {
					t.Errorf("error %q", e.Error())
				}
			}
		}
	})
}

// TestInside: the type of a message and the name that a TLS client asks for are judged as rules ask for them.
func TestInside(t *testing.T) {
	t.Parallel()
	const text = `apiVersion: sallyport.dev/v1alpha1
kind: PolicyTest
cases:
- {name: echo, to: [192.0.2.1/ICMP, "[2001:db8::1]/ICMPv6"], icmpType: EchoRequest, expect: Allow}
- {name: timestamp, to: 192.0.2.1/ICMP, icmpType: 13, expect: Deny}
- {name: not known, to: 192.0.2.1/ICMP, expect: Deny}
- {name: server, to: "192.0.2.1:443", serverName: API.example., expect: Allow}
- {name: another, to: "192.0.2.1:443", serverName: evil.example, expect: Deny, rule: default/p/tls}
`
	policies, err := policy.Parse("p.yaml", []byte(`apiVersion: sallyport.dev/v1alpha1
kind: ProcessPolicy
metadata: {name: p}
spec:
  podSelector: {}
  rules:
  - {name: ping, egress: [{icmps: [{fields: [{type: 8}, {family: IPv6, type: EchoRequest}]}]}]}
  - {name: tls, egress: [{toPorts: [{ports: [{port: "443", protocol: TCP}], serverNames: [api.example]}]}]}
`))
	if err != nil {
		t.Fatal(err)
	}
	sets, err := cases.Parse("t.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	var calls []string
	for _, r := range sets[0].Run(policies) {
		calls = append(calls, r.Case.What())
		if !r.Passed() {
			t.Errorf("%s: %v: %s", r.Case.Name, r.Failures, r.Got.Why)
		}
	}
	want := []string{
		"to 192.0.2.1/ICMP type 8", "to [2001:db8::1]/ICMPv6 type 128", "to 192.0.2.1/ICMP type 13", "to 192.0.2.1/ICMP",
		"to 192.0.2.1:443/TCP for the server api.example", "to 192.0.2.1:443/TCP for the server evil.example",
	}
	if diff := cmp.Diff(want, calls); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestFacts(t *testing.T) {
	t.Parallel()
	const head = "apiVersion: sallyport.dev/v1alpha1\nkind: PolicyTest\n"
	const said = head + "node: {addresses: [192.0.2.1]}\ncluster: {remoteNodes: [192.0.2.2]}\n"
	const asked = head + "cases: [{name: a, to: 192.0.2.1/ICMP, expect: Allow}]\n"
	for _, text := range []string{said, asked + "---\n" + said} {
		node, world, err := cases.Facts("t.yaml", []byte(text))
		if err != nil || len(node.Addresses) != 1 || len(world.RemoteNodes) != 1 {
			t.Errorf("%q says %v and %v: %v", text, node, world, err)
		}
	}
	for text, want := range map[string]string{
		asked:                 "says nothing of a node or a cluster",
		said + "---\n" + said: "another document has said what is known of the cluster",
		said + "odd: 1\n":     "odd: unknown field",
	} {
		if _, _, err := cases.Facts("t.yaml", []byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}
