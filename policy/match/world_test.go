package match_test

import (
	"net/netip"
	"testing"

	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/policy/match"
)

// cluster is a small world: two pods, a service before one, the cluster's resolver behind another, nodes.
func cluster() policy.World {
	addr := func(list ...string) (out []netip.Addr) {
		for _, s := range list {
			out = append(out, netip.MustParseAddr(s))
		}
		return out
	}
	backend := func(s string) []netip.AddrPort { return []netip.AddrPort{netip.MustParseAddrPort(s)} }
	return policy.World{
		Namespaces: map[string]map[string]string{"shop": {"team": "red"}, "pay": {"team": "blue"}, "kube-system": nil},
		Endpoints: []policy.Endpoint{
			{Namespace: "shop", Labels: map[string]string{"app": "db"}, Addresses: addr("10.1.0.2", "2001:db8::2"), Ports: []policy.NamedPort{{Name: "sql", Protocol: policy.ProtocolTCP, Port: 5432}}},
			{Namespace: "pay", Labels: map[string]string{"app": "pay"}, ServiceAccount: "payer", Addresses: addr("10.1.0.3")},
			{Namespace: "kube-system", Labels: map[string]string{"k8s-app": "kube-dns"}, Addresses: addr("10.1.0.53"), Ports: []policy.NamedPort{{Name: "dns", Protocol: policy.ProtocolUDP, Port: 5353}}},
			{Namespace: "shop", Labels: map[string]string{"app": "node-pod"}, Addresses: addr("192.0.2.1", "192.0.2.2")}, // in the network of its node
		},
		Services: []policy.Service{
			{Namespace: "shop", Name: "db", Labels: map[string]string{"kind": "sql"}, Addresses: addr("10.96.0.2"), Ports: []policy.ServicePort{
				{Protocol: policy.ProtocolTCP, Port: 80, Backends: backend("10.1.0.2:5432")},
				{Protocol: policy.ProtocolTCP, Port: 81, Backends: append(backend("10.1.0.2:5432"), backend("10.1.0.3:5432")...)},
			}},
			{Namespace: "kube-system", Name: "kube-dns", Addresses: addr("10.96.0.10"), Ports: []policy.ServicePort{{Protocol: policy.ProtocolUDP, Port: 53, Backends: backend("10.1.0.53:5353")}}},
		},
		RemoteNodes: addr("192.0.2.2"), APIServers: addr("192.0.2.2", "198.51.100.1"), Health: addr("10.1.9.1"), Cluster: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16")},
	}
}

// TestJudgeWorld is the meaning of peers that are more than addresses.
func TestJudgeWorld(t *testing.T) {
	t.Parallel()
	web := match.Process{Origin: policy.OriginMain, Exe: "/web", Workload: policy.Workload{
		Namespace: "shop", Container: "web", Ports: []policy.NamedPort{{Name: "http", Protocol: policy.ProtocolTCP, Port: 8080}},
	}}
	typed := func(c match.Call, kind uint8) match.Call {
		c.ICMPType = &kind
		return c
	}
	const yes, no = "Allow rule shop/p0/rule-0", "Deny warning default shop/p0/rule-0"
	for _, tt := range []struct {
		name, rule string
		c          match.Call
		want       string
	}{
		{"endpoint of the namespace", "{egress: [{toEndpoints: [{matchLabels: {app: db}}]}]}", call(tcp, "10.1.0.2", 1), yes},
		{"its other address", "{egress: [{toEndpoints: [{matchLabels: {'k8s:app': db}}]}]}", call(tcp, "2001:db8::2", 1), yes},
		{"endpoint of another namespace", "{egress: [{toEndpoints: [{matchLabels: {app: pay}}]}]}", call(tcp, "10.1.0.3", 1), no},
		{"every endpoint is of the namespace", "{egress: [{toEndpoints: [{}]}]}", call(tcp, "10.1.0.3", 1), no},
		{"named namespace", "{egress: [{toEndpoints: [{matchLabels: {'k8s:io.kubernetes.pod.namespace': pay}}]}]}", call(tcp, "10.1.0.3", 1), yes},
		{"label of a namespace", "{egress: [{toEndpoints: [{matchLabels: {io.cilium.k8s.namespace.labels.team: blue}}]}]}", call(tcp, "10.1.0.3", 1), yes},
		{"name as a label of a namespace", "{egress: [{toEndpoints: [{matchExpressions: [{key: io.cilium.k8s.namespace.labels.kubernetes.io/metadata.name, operator: In, values: [pay]}]}]}]}", call(tcp, "10.1.0.3", 1), yes},
		{"service account", "{egress: [{toEndpoints: [{matchLabels: {io.kubernetes.pod.namespace: pay, io.cilium.k8s.policy.serviceaccount: payer}}]}]}", call(tcp, "10.1.0.3", 1), yes},
		{"no endpoint at a node", "{egress: [{toEndpoints: [{matchLabels: {app: node-pod}}]}]}", call(tcp, "192.0.2.2", 1), no},
		{"from an endpoint", "{ingress: [{fromEndpoints: [{matchLabels: {app: db}}]}]}", ingress(call(tcp, "10.1.0.2", 1)), yes},
		{"no endpoints", "{egress: [{toEndpoints: []}]}", call(tcp, "10.1.0.2", 1), no},
		{"service of an endpoint", "{egress: [{toEndpoints: [{matchLabels: {app: db}}], toPorts: [{ports: [{port: 5432}]}]}]}", call(tcp, "10.96.0.2", 80), yes},
		{"by the port of the service", "{egress: [{toEndpoints: [{matchLabels: {app: db}}], toPorts: [{ports: [{port: 80}]}]}]}", call(tcp, "10.96.0.2", 80), no},
		{"service with another endpoint", "{egress: [{toEndpoints: [{matchLabels: {app: db}}]}]}", call(tcp, "10.96.0.2", 81), no},
		{"deny one of a service's endpoints", "{action: Deny, egress: [{toEndpoints: [{matchLabels: {app: db}}]}]}", call(tcp, "10.96.0.2", 81), "Deny warning rule shop/p0/rule-0"},
		{"no port of the service", "{egress: [{toEndpoints: [{matchLabels: {app: db}}]}]}", call(tcp, "10.96.0.2", 82), no},
		{"service by name", "{egress: [{toServices: [{k8sService: {serviceName: db}}]}]}", call(tcp, "10.96.0.2", 82), yes},
		{"what is behind a service", "{egress: [{toServices: [{k8sServiceSelector: {selector: {matchLabels: {kind: sql}}}}]}]}", call(tcp, "10.1.0.3", 82), yes},
		{"service of another namespace", "{egress: [{toServices: [{k8sService: {serviceName: kube-dns}}]}]}", call(udp, "10.96.0.10", 53), no},
		{"service, its namespace named", "{egress: [{toServices: [{k8sService: {serviceName: kube-dns, namespace: kube-system}}]}]}", call(udp, "10.96.0.10", 53), yes},
		{"named port", "{egress: [{toPorts: [{ports: [{port: sql, protocol: TCP}]}]}]}", call(tcp, "10.1.0.2", 5432), yes},
		{"named port of another protocol", "{egress: [{toPorts: [{ports: [{port: sql, protocol: UDP}]}]}]}", call(udp, "10.1.0.2", 5432), no},
		{"named port elsewhere", "{egress: [{toPorts: [{ports: [{port: sql}]}]}]}", call(tcp, "10.1.0.3", 5432), no},
		{"named port behind a service", "{egress: [{toPorts: [{ports: [{port: dns}]}]}]}", call(udp, "10.96.0.10", 53), yes},
		{"named port of the workload", "{ingress: [{toPorts: [{ports: [{port: http}]}]}]}", ingress(call(tcp, "10.1.0.3", 8080)), yes},
		{"other port of the workload", "{ingress: [{toPorts: [{ports: [{port: http}]}]}]}", ingress(call(tcp, "10.1.0.3", 80)), no},
		{"listening on a named port", "{action: Deny, ingress: [{toPorts: [{ports: [{port: http}]}]}]}", listen(tcp, 8080), "Deny warning rule shop/p0/rule-0"},
		{"world is outside", "{egress: [{toEntities: [world]}]}", call(tcp, "203.0.113.1", 1), yes},
		{"an API server can be outside", "{egress: [{toEntities: [world-ipv4]}]}", call(tcp, "198.51.100.1", 1), yes},
		{"IPv6 only", "{egress: [{toEntities: [world-ipv6]}]}", call(tcp, "203.0.113.1", 1), no},
		{"a pod is not outside", "{egress: [{toEntities: [world]}]}", call(tcp, "10.1.0.2", 1), no},
		{"a prefix of pods is not outside", "{egress: [{toEntities: [world]}]}", call(tcp, "10.1.200.2", 1), no},
		{"a service is not outside", "{egress: [{toEntities: [world]}]}", call(tcp, "10.96.0.2", 82), no},
		{"a node is not outside", "{egress: [{toEntities: [world]}]}", call(tcp, "192.0.2.2", 1), no},
		{"cluster", "{egress: [{toEntities: [cluster]}]}", call(tcp, "10.1.200.2", 1), yes},
		{"cluster has nodes", "{egress: [{toEntities: [cluster]}]}", call(tcp, "192.0.2.2", 1), yes},
		{"cluster has services before pods", "{egress: [{toEntities: [cluster]}]}", call(tcp, "10.96.0.2", 81), yes},
		{"cluster ends", "{egress: [{toEntities: [cluster]}]}", call(tcp, "203.0.113.1", 1), no},
		{"remote node", "{egress: [{toEntities: [remote-node]}]}", call(tcp, "192.0.2.2", 1), yes},
		{"this node is not remote", "{egress: [{toEntities: [remote-node]}]}", call(tcp, "192.0.2.1", 1), no},
		{"API server", "{egress: [{toEntities: [kube-apiserver]}]}", call(tcp, "198.51.100.1", 1), yes},
		{"health", "{egress: [{toEntities: [health]}]}", call(tcp, "10.1.9.1", 1), yes},
		{"metadata", "{action: Deny, egress: [{toEntities: [metadata]}]}", call(tcp, "169.254.169.254", 80), "Deny warning rule shop/p0/rule-0"},
		{"metadata, IPv6", "{egress: [{toEntities: [metadata]}]}", call(tcp, "fd00:ec2::254", 80), yes},
		{"none", "{egress: [{toEntities: [none]}]}", call(tcp, "203.0.113.1", 1), no},
		{"message", "{egress: [{icmps: [{fields: [{type: EchoRequest, family: IPv4}]}]}]}", typed(call(icmp, "203.0.113.1", 0), 8), yes},
		{"other message", "{egress: [{icmps: [{fields: [{type: 8}]}]}]}", typed(call(icmp, "203.0.113.1", 0), 13), no},
		{"unknown message", "{egress: [{icmps: [{fields: [{type: 8}]}]}]}", call(icmp, "203.0.113.1", 0), no},
		{"no message", "{egress: [{icmps: [{fields: [{type: 8}]}]}]}", call(tcp, "203.0.113.1", 8), no},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			in := input(t, tt.rule)
			in.World = cluster()
			e := match.Explain(in, web, tt.c)
			if got := short(e.Decision); got != tt.want {
				t.Errorf("got %s, not %s\n%s\n%+v", got, tt.want, e.Why, e.Rules)
			}
		})
	}
}
