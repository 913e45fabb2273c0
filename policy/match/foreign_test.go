package match_test

import (
	"testing"

	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/policy/match"
)

const (
	networkPolicy = "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: n, namespace: shop, uid: x, annotations: {a: b}}\nspec: {podSelector: {matchLabels: {app: web}}, "
	ciliumPolicy  = "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {name: c, namespace: shop}\n"
	clusterwide   = "apiVersion: cilium.io/v2\nkind: CiliumClusterwideNetworkPolicy\nmetadata: {name: w}\n"
)

// TestJudgeForeign is the meaning of documents that others define.
func TestJudgeForeign(t *testing.T) {
	t.Parallel()
	web := match.Process{Origin: policy.OriginExec, Exe: "/bin/sh", Workload: policy.Workload{
		Namespace: "shop", Container: "web", Labels: map[string]string{"app": "web"}, NamespaceLabels: map[string]string{"team": "red"}, ServiceAccount: "web",
		Ports: []policy.NamedPort{{Name: "http", Protocol: policy.ProtocolTCP, Port: 8080}},
	}}
	named := call(tcp, "203.0.113.9", 443)
	named.Names = []string{"api.pay.example"}
	db, pay, out := call(tcp, "10.1.0.2", 5432), call(tcp, "10.1.0.3", 443), call(tcp, "203.0.113.9", 443)
	const (
		open             = "Allow ungoverned"
		nYes, nNo        = "Allow rule NetworkPolicy:shop/n/spec", "Deny warning default NetworkPolicy:shop/n/spec"
		cYes, cNo, cDeny = "Allow rule CiliumNetworkPolicy:shop/c/spec", "Deny warning default CiliumNetworkPolicy:shop/c/spec", "Deny warning rule CiliumNetworkPolicy:shop/c/spec-deny"
	)
	for _, tt := range []struct {
		name, text string
		c          match.Call
		want       string
	}{
		{"types default to ingress", networkPolicy + "ingress: []}", ingress(db), nNo},
		{"types default to ingress only", networkPolicy + "ingress: []}", db, open},
		{"types default to ingress without ingress", networkPolicy + "egress: []}", ingress(db), nNo},
		{"an empty egress is no type", networkPolicy + "egress: []}", db, open},
		{"an egress rule is a type", networkPolicy + "egress: [{}]}", db, nYes},
		{"deny all that leaves", networkPolicy + "policyTypes: [Egress]}", db, nNo},
		{"and not what enters", networkPolicy + "policyTypes: [Egress]}", ingress(db), open},
		{"a type without effect", networkPolicy + "policyTypes: [Egress], ingress: []}", ingress(db), open},
		{"empty rule", networkPolicy + "policyTypes: [Egress], egress: [{}]}", out, nYes},
		{"empty lists in a rule", networkPolicy + "policyTypes: [Egress], egress: [{to: [], ports: []}]}", out, nYes},
		{"pods of the namespace", networkPolicy + "egress: [{to: [{podSelector: {}}]}]}", db, nYes},
		{"pods of another namespace", networkPolicy + "egress: [{to: [{podSelector: {}}]}]}", pay, nNo},
		{"pods by label", networkPolicy + "egress: [{to: [{podSelector: {matchLabels: {app: db}}}]}]}", db, nYes},
		{"every namespace", networkPolicy + "egress: [{to: [{namespaceSelector: {}}]}]}", pay, nYes},
		{"every namespace is not the world", networkPolicy + "egress: [{to: [{namespaceSelector: {}}]}]}", out, nNo},
		{"namespace by label", networkPolicy + "egress: [{to: [{namespaceSelector: {matchLabels: {team: blue}}}]}]}", pay, nYes},
		{"namespace by name", networkPolicy + "egress: [{to: [{namespaceSelector: {matchExpressions: [{key: kubernetes.io/metadata.name, operator: NotIn, values: [shop]}]}}]}]}", pay, nYes},
		{"both must match", networkPolicy + "egress: [{to: [{namespaceSelector: {matchLabels: {team: blue}}, podSelector: {matchLabels: {app: db}}}]}]}", pay, nNo},
		{"two peers", networkPolicy + "egress: [{to: [{namespaceSelector: {matchLabels: {team: x}}}, {podSelector: {matchLabels: {app: db}}}]}]}", db, nYes},
		{"block", networkPolicy + "egress: [{to: [{ipBlock: {cidr: 10.1.0.7/16, except: [10.1.0.3/32]}}]}]}", db, nYes},
		{"except", networkPolicy + "egress: [{to: [{ipBlock: {cidr: 10.1.0.0/16, except: [10.1.0.3/32]}}]}]}", pay, nNo},
		{"protocol defaults to TCP", networkPolicy + "egress: [{ports: [{port: 443}]}]}", call(udp, "203.0.113.9", 443), nNo},
		{"protocol without port", networkPolicy + "egress: [{ports: [{protocol: UDP}]}]}", call(udp, "203.0.113.9", 9), nYes},
		{"range", networkPolicy + "egress: [{ports: [{port: 400, endPort: 500}]}]}", out, nYes},
		{"named port", networkPolicy + "egress: [{ports: [{port: sql}]}]}", db, nYes},
		{"named port of the pod", networkPolicy + "ingress: [{ports: [{port: http}]}]}", ingress(call(tcp, "203.0.113.9", 8080)), nYes},
		{"the node may", networkPolicy + "ingress: []}", ingress(call(tcp, "192.0.2.1", 8080)), nYes},
		{"another node may not", networkPolicy + "ingress: []}", ingress(call(tcp, "192.0.2.2", 8080)), nNo},
		{"another pod", "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: n, namespace: shop}\nspec: {podSelector: {matchLabels: {app: db}}, policyTypes: [Egress]}", db, open},

		{"an empty entry allows nothing", ciliumPolicy + "spec: {endpointSelector: {}, egress: [{}]}", db, cNo},
		{"an empty entry denies nothing", ciliumPolicy + "spec: {endpointSelector: {}, egressDeny: [{}], egress: [{toEntities: [all]}]}", db, cYes},
		{"empty is missing", ciliumPolicy + "spec: {endpointSelector: {}, egress: [], ingress: [{}]}", db, open},
		{"selected", ciliumPolicy + "spec: {endpointSelector: {matchLabels: {'any:app': web}}, egress: [{}]}", db, cNo},
		{"not selected", ciliumPolicy + "spec: {endpointSelector: {matchLabels: {app: db}}, egress: [{}]}", db, open},
		{"every endpoint of the namespace", ciliumPolicy + "spec: {endpointSelector: {}, egress: [{toEndpoints: [{}]}]}", db, cYes},
		{"no endpoint of another", ciliumPolicy + "spec: {endpointSelector: {}, egress: [{toEndpoints: [{}]}]}", pay, cNo},
		{"everything", ciliumPolicy + "spec: {endpointSelector: {}, egress: [{toCIDR: [0.0.0.0/0]}]}", out, cYes},
		{"CIDRs are outside", ciliumPolicy + "spec: {endpointSelector: {}, egress: [{toCIDR: [0.0.0.0/0]}]}", db, cNo},
		{"CIDRs are no nodes", ciliumPolicy + "spec: {endpointSelector: {}, egress: [{toCIDRSet: [{cidr: 0.0.0.0/0, except: [10.0.0.0/8]}]}]}", call(tcp, "192.0.2.2", 1), cNo},
		{"deny before allow", ciliumPolicy + "spec: {endpointSelector: {}, egress: [{toEntities: [all]}], egressDeny: [{toEndpoints: [{matchLabels: {app: db}}]}]}", db, cDeny},
		{"only denied, others by default", ciliumPolicy + "spec: {endpointSelector: {}, egressDeny: [{toEntities: [world]}]}", db, cNo},
		{"only denied, no default", ciliumPolicy + "spec: {endpointSelector: {}, enableDefaultDeny: {egress: false}, egressDeny: [{toEntities: [world]}]}", db, open},
		{"no default", ciliumPolicy + "spec: {endpointSelector: {}, enableDefaultDeny: {egress: false}, egress: [{toEntities: [world]}]}", db, open},
		{"default without rules", ciliumPolicy + "spec: {endpointSelector: {}, enableDefaultDeny: {egress: true}, ingress: [{}]}", db, cNo},
		{"port 0", ciliumPolicy + "spec: {endpointSelector: {}, egress: [{toPorts: [{ports: [{port: '0', protocol: TCP}]}]}]}", out, cYes},
		{"port 0 is no message", ciliumPolicy + "spec: {endpointSelector: {}, egress: [{toPorts: [{ports: [{port: '0'}]}]}]}", call(icmp, "203.0.113.9", 0), cNo},
		{"name", ciliumPolicy + "spec: {endpointSelector: {}, egress: [{toFQDNs: [{matchPattern: '*.pay.example'}]}]}", named, cYes},
		{"the node may talk to it", ciliumPolicy + "spec: {endpointSelector: {}, ingress: [{}]}", ingress(call(tcp, "192.0.2.1", 8080)), cYes},
		{"specs", ciliumPolicy + "specs: [{endpointSelector: {matchLabels: {app: x}}, egress: [{}]}, {endpointSelector: {}, egressDeny: [{toEntities: [world]}]}]", out, "Deny warning rule CiliumNetworkPolicy:shop/c/specs-1-deny"},
		{"cluster, by namespace", clusterwide + "spec: {endpointSelector: {matchLabels: {'k8s:io.kubernetes.pod.namespace': shop}}, egress: [{}]}", db, "Deny warning default CiliumClusterwideNetworkPolicy:w/spec"},
		{"cluster, by label of the namespace", clusterwide + "spec: {endpointSelector: {matchExpressions: [{key: io.cilium.k8s.namespace.labels.team, operator: In, values: [blue]}]}, egress: [{}]}", db, open},
		{"cluster, every endpoint", clusterwide + "spec: {endpointSelector: {}, egress: [{toEndpoints: [{}]}]}", pay, "Allow rule CiliumClusterwideNetworkPolicy:w/spec"},
		{"list", "apiVersion: v1\nkind: List\nmetadata: {resourceVersion: ''}\nitems:\n- {apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: n, namespace: shop}, spec: {podSelector: {}, policyTypes: [Egress]}, status: {}}\n- {apiVersion: cilium.io/v2, kind: CiliumNetworkPolicy, metadata: {name: c, namespace: shop}, spec: {endpointSelector: {}, egress: [{toEndpoints: [{}]}]}}\n", db, cYes},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			policies, err := policy.Parse("test.yaml", []byte(tt.text))
			if err != nil {
				t.Fatal(err)
			}
			in := input(t)
			in.Policies, in.World = policies, cluster()
			e := match.Explain(in, web, tt.c)
			if got := short(e.Decision); got != tt.want {
				t.Errorf("got %s, not %s\n%s\n%+v", got, tt.want, e.Why, e.Rules)
			}
		})
	}
}
