package truth

import (
	"fmt"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/policy/match"
)

// table is a document and what gets through under it. out and in have a column for each peer of web, in the order db,
// cache, bank, world, node, with a letter for each kind that passes: see kinds. "*" is all of them, "-" none. With a 4 or
// a 6 behind them they pass over IPv4 or IPv6 alone.
type table struct {
	name, text, out, in string
}

const open = "*|*|*|*|*"

// ping is an echo, which no server sees.
const ping = "ping"

// kinds are what is attempted: h and a are TCP to ports 80 and 8080, d is UDP to port 53, p is an echo, which the kernel of
// the pod answers: see passes.
var kinds = []kind{
	{"h", "tcp/80", [2]uint8{6, 6}, 80},
	{"a", "tcp/8080", [2]uint8{6, 6}, 8080},
	{"d", "udp/53", [2]uint8{17, 17}, 53},
	{"p", ping, [2]uint8{1, 58}, 0},
}

// cells lists a direction's cells.
func (s *scene) cells(t *testing.T, columns string, d policy.Direction) (out []*cell) {
	t.Helper()
	fields := strings.Split(columns, "|")
	if len(fields) != len(s.peers) {
		t.Fatalf("%q does not have a column for each of %d peers", columns, len(s.peers))
	}
	for i, peer := range s.peers {
		for _, k := range kinds {
			for family := range 2 {
				c := &cell{from: s.web, to: peer, family: family, kind: k}
				if d == policy.Ingress {
					c.from, c.to = peer, s.web
				}
				c.passes = passesIn(fields[i], k, family)
				out = append(out, c)
			}
		}
	}
	return out
}

// passesIn says whether a kind passes in a column.
func passesIn(column string, k kind, family int) bool {
	letters := strings.TrimRight(column, "46")
	if only := column[len(letters):]; only != "" && only != [...]string{"4", "6"}[family] {
		return false
	}
	return letters == "*" || strings.Contains(letters, k.letter)
}

// all lists the cells of a table.
func (s *scene) all(t *testing.T, tt table) []*cell {
	t.Helper()
	return append(s.cells(t, tt.out, policy.Egress), s.cells(t, tt.in, policy.Ingress)...)
}

// compare fails where the reference says something else than the table. What passes is what both ends may do.
func (s *scene) compare(t *testing.T, in policy.Input, cells []*cell) {
	t.Helper()
	for _, c := range cells {
		out := s.passes(in, c, c.from, policy.Egress)
		if into := s.passes(in, c, c.to, policy.Ingress); (out && into) != c.passes {
			t.Errorf("%s: the reference lets it out: %v, in: %v", c, out, into)
		}
	}
}

// passes says whether the reference lets a cell pass at one of its ends. What is no pod, no policy is about.
func (s *scene) passes(in policy.Input, c *cell, end *member, d policy.Direction) bool {
	other := c.from
	if d == policy.Egress {
		other = c.to
	}
	if end.workload.Pod == "" {
		return true
	}
	process := policy.Process{Workload: end.workload, Origin: policy.OriginExec, Exe: "/victim"}
	if d == policy.Ingress && c.kind.name == ping {
		process = policy.Process{Workload: end.workload, Origin: policy.OriginHost} // the pod's kernel answers
	}
	call := policy.Call{Direction: d, Protocol: c.kind.protocol[c.family], Peer: s.at(other, c.family), Port: c.kind.port}
	return match.Judge(in, process, call).Verdict == policy.VerdictAllow
}

// check makes every attempt of a table at once, and asks the reference about each.
func (s *scene) check(t *testing.T, tt table) {
	t.Helper()
	in, cells := s.input(t, tt.text), s.all(t, tt)
	s.compare(t, in, cells)
	s.enforce(t, in)
	for _, c := range cells {
		s.start(t, c)
	}
	for _, c := range cells {
		s.finish(t, c)
	}
}

func TestNetworkPolicy(t *testing.T) {
	s := newScene(t)
	const web = "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: n, namespace: shop}\nspec: {podSelector: {matchLabels: {app: web}}, %s}\n"
	const egress = "policyTypes: [Egress], egress: "
	for _, tt := range []table{
		{"default deny of what leaves", "policyTypes: [Egress]", "-|-|-|-|*", open},
		{"default deny of what enters", "policyTypes: [Ingress]", open, "-|-|-|-|*"},
		{"default deny of both", "policyTypes: [Ingress, Egress]", "-|-|-|-|*", "-|-|-|-|*"},
		{"types default to ingress", "ingress: []", open, "-|-|-|-|*"},
		{"types default to egress with a rule", "egress: [{ports: [{port: 80}]}]", "h|h|h|h|*", "-|-|-|-|*"},
		{"a rule of a direction that types do not name", "policyTypes: [Egress], ingress: [{from: [{podSelector: {}}]}]", "-|-|-|-|*", open},
		{"an empty rule", egress + "[{}]", open, open},
		{"empty lists", egress + "[{to: [], ports: []}]", open, open},
		{"every pod of the namespace", egress + "[{to: [{podSelector: {}}]}]", "*|*|-|-|*", open},
		{"pods by label", egress + "[{to: [{podSelector: {matchLabels: {app: db}}}]}]", "*|-|-|-|*", open},
		{"pods by expression", egress + "[{to: [{podSelector: {matchExpressions: [{key: app, operator: NotIn, values: [db]}]}}]}]", "-|*|-|-|*", open},
		{"every namespace", egress + "[{to: [{namespaceSelector: {}}]}]", "*|*|*|-|*", open},
		{"namespace by label", egress + "[{to: [{namespaceSelector: {matchLabels: {team: blue}}}]}]", "-|-|*|-|*", open},
		{"namespace and pod", egress + "[{to: [{namespaceSelector: {}, podSelector: {matchLabels: {app: db}}}]}]", "*|-|*|-|*", open},
		{"namespace or pod", egress + "[{to: [{namespaceSelector: {matchLabels: {team: blue}}}, {podSelector: {matchLabels: {app: cache}}}]}]", "-|*|*|-|*", open},
		{"block", egress + "[{to: [{ipBlock: {cidr: 203.0.113.0/24}}, {ipBlock: {cidr: '2001:db8::/32'}}]}]", "-|-|-|*|*", open},
		{"block except one", egress + "[{to: [{ipBlock: {cidr: 10.1.0.0/16, except: [10.1.1.2/32]}}, {ipBlock: {cidr: 'fd00:1::/32', except: ['fd00:1:1::2/128']}}]}]", "-|*|*|-|*", open},
		{"block except, allowed by another rule", egress + "[{to: [{ipBlock: {cidr: 0.0.0.0/0, except: [10.0.0.0/8]}}, {ipBlock: {cidr: '::/0', except: ['fd00::/8']}}]}, {to: [{podSelector: {matchLabels: {app: db}}}]}]", "*|-|-|*|*", open},
		{"port", egress + "[{ports: [{port: 80}]}]", "h|h|h|h|*", open},
		{"protocol defaults to TCP", egress + "[{ports: [{port: 53}]}]", "-|-|-|-|*", open},
		{"protocol without port", egress + "[{ports: [{protocol: UDP}]}]", "d|d|d|d|*", open},
		{"range", egress + "[{ports: [{port: 79, endPort: 90}]}]", "h|h|h|h|*", open},
		{"range that ends before", egress + "[{ports: [{port: 81, endPort: 8079}, {port: 53, endPort: 53, protocol: UDP}]}]", "d|d|d|d|*", open},
		{"port by the name that each pod gives it", egress + "[{ports: [{port: http}]}]", "h|-|a|-|*", open},
		{"port and peer", egress + "[{to: [{podSelector: {}}], ports: [{port: 8080}]}]", "a|a|-|-|*", open},
		{"peers and ports of different rules do not mix", egress + "[{to: [{podSelector: {matchLabels: {app: db}}}], ports: [{port: 80}]}, {to: [{podSelector: {matchLabels: {app: cache}}}], ports: [{port: 53, protocol: UDP}]}]", "h|d|-|-|*", open},
		{"in: pods of the namespace", "ingress: [{from: [{podSelector: {}}]}]", open, "*|*|-|-|*"},
		{"in: namespace and pod", "ingress: [{from: [{namespaceSelector: {matchLabels: {team: blue}}, podSelector: {matchLabels: {app: db}}}]}]", open, "-|-|*|-|*"},
		{"in: own port by its name", "ingress: [{ports: [{port: http}]}]", open, "a|a|a|a|*"},
		{"in: block except", "ingress: [{from: [{ipBlock: {cidr: 0.0.0.0/0, except: [10.1.2.0/23]}}, {ipBlock: {cidr: '::/0', except: ['fd00:1:2::/47']}}]}]", open, "*|-|-|*|*"},
		{"in: port and peer", "ingress: [{from: [{ipBlock: {cidr: 203.0.113.2/32}}, {ipBlock: {cidr: '2001:db8::2/128'}}], ports: [{port: 53, protocol: UDP}]}]", open, "-|-|-|d|*"},
	} {
		tt.text = fmt.Sprintf(web, tt.text)
		t.Run(tt.name, func(t *testing.T) { s.check(t, tt) })
	}
	const two = web + "---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: m, namespace: shop}\nspec: {podSelector: {}, %s}\n"
	for _, tt := range []table{
		{"policies add up", fmt.Sprintf(two, egress+"[{ports: [{port: 80}]}]", egress+"[{to: [{podSelector: {}}], ports: [{port: 53, protocol: UDP}]}]"), "hd|hd|h|h|*", "d|d|*|*|*"},
		{"one of another pod says nothing", fmt.Sprintf(strings.ReplaceAll(web, "app: web", "app: none"), "policyTypes: [Ingress, Egress]"), open, open},
		{"one of another namespace says nothing", fmt.Sprintf(strings.ReplaceAll(web, "shop", "pay"), "policyTypes: [Ingress, Egress]"), open, open},
	} {
		t.Run(tt.name, func(t *testing.T) { s.check(t, tt) })
	}
}

func TestCiliumNetworkPolicy(t *testing.T) {
	s := newScene(t)
	const web = "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {name: c, namespace: shop}\nspec: {endpointSelector: {matchLabels: {app: web}}, %s}\n"
	const all = "egress: [{toEntities: [all]}], "
	for _, tt := range []table{
		{"an empty rule allows nothing", "egress: [{}]", "-|-|-|-|-", open},
		{"every endpoint of the namespace", "egress: [{toEndpoints: [{}]}]", "*|*|-|-|-", open},
		{"endpoints of another namespace", "egress: [{toEndpoints: [{matchLabels: {'k8s:io.kubernetes.pod.namespace': pay}}]}]", "-|-|*|-|-", open},
		{"endpoints of every namespace", "egress: [{toEndpoints: [{matchExpressions: [{key: io.kubernetes.pod.namespace, operator: Exists}]}]}]", "*|*|*|-|-", open},
		{"endpoints by a label of their namespace", "egress: [{toEndpoints: [{matchLabels: {io.cilium.k8s.namespace.labels.team: blue, app: db}}]}]", "-|-|*|-|-", open},
		{"world", "egress: [{toEntities: [world]}]", "-|-|-|*|-", open},
		{"world of one family", "egress: [{toEntities: [world-ipv4]}]", "-|-|-|*4|-", open},
		{"world of the other family", "egress: [{toEntities: [world-ipv6]}]", "-|-|-|*6|-", open},
		{"In", "egress: [{toEndpoints: [{matchExpressions: [{key: app, operator: In, values: [db, none]}]}]}]", "*|-|-|-|-", open},
		{"NotIn", "egress: [{toEndpoints: [{matchExpressions: [{key: app, operator: NotIn, values: [db, none]}]}]}]", "-|*|-|-|-", open},
		{"DoesNotExist", "egress: [{toEndpoints: [{matchExpressions: [{key: io.kubernetes.pod.namespace, operator: Exists}, {key: tier, operator: DoesNotExist}]}]}]", "-|-|*|-|-", open},
		{"cluster", "egress: [{toEntities: [cluster]}]", "*|*|*|-|*", open},
		{"host", "egress: [{toEntities: [host]}]", "-|-|-|-|*", open},
		{"all", "egress: [{toEntities: [all]}]", open, open},
		{"none", "egress: [{toEntities: [none]}]", "-|-|-|-|-", open},
		{"a CIDR is outside of the cluster", "egress: [{toCIDR: [0.0.0.0/0, '::/0']}]", "-|-|-|*|-", open},
		{"except", "egress: [{toCIDRSet: [{cidr: 203.0.113.0/24, except: [203.0.113.2/32]}, {cidr: '2001:db8::/32', except: ['2001:db8::2/128']}]}]", "-|-|-|-|-", open},
		{"deny before allow", all + "egressDeny: [{toEndpoints: [{matchLabels: {app: db}}]}]", "-|*|*|*|*", open},
		{"deny of ports", all + "egressDeny: [{toPorts: [{ports: [{port: '8080', protocol: TCP}]}]}]", "hdp|hdp|hdp|hdp|hdp", open},
		{"deny alone is default deny", "egressDeny: [{toEntities: [world]}]", "-|-|-|-|-", open},
		{"deny alone without default", "enableDefaultDeny: {egress: false}, egressDeny: [{toEntities: [world]}]", "*|*|*|-|*", open},
		{"allow without default", "enableDefaultDeny: {egress: false}, egress: [{toEntities: [world]}]", open, open},
		{"default without a rule", "enableDefaultDeny: {egress: true}, ingress: [{}]", "-|-|-|-|-", "-|-|-|-|*"},
		{"range", "egress: [{toPorts: [{ports: [{port: '79', endPort: 90, protocol: TCP}]}]}]", "h|h|h|h|h", open},
		{"any protocol with a port", "egress: [{toEntities: [all], toPorts: [{ports: [{port: '53'}]}]}]", "d|d|d|d|d", open},
		{"port 0 is no message", "egress: [{toPorts: [{ports: [{port: '0'}]}]}]", "had|had|had|had|had", open},
		{"port by its name", "egress: [{toEntities: [cluster], toPorts: [{ports: [{port: http, protocol: TCP}]}]}]", "h|-|a|-|-", open},
		{"in: endpoints of the namespace", "ingress: [{fromEndpoints: [{}]}]", open, "*|*|-|-|*"},
		{"in: world", "ingress: [{fromEntities: [world]}]", open, "-|-|-|*|*"},
		{"in: deny before allow", "ingress: [{fromEntities: [all]}], ingressDeny: [{fromEndpoints: [{matchLabels: {app: db}}]}]", open, "-|*|*|*|*"},
		{"in: own port", "ingress: [{fromEntities: [cluster], toPorts: [{ports: [{port: '8080', protocol: TCP}]}]}]", open, "a|a|a|-|*"},
		{"in: CIDR", "ingress: [{fromCIDR: [203.0.113.2/32, '2001:db8::/64']}]", open, "-|-|-|*|*"},
	} {
		tt.text = fmt.Sprintf(web, tt.text)
		t.Run(tt.name, func(t *testing.T) { s.check(t, tt) })
	}
	const namespaced, clusterwide = "NetworkPolicy\nmetadata: {name: %s, namespace: shop}\n", "ClusterwideNetworkPolicy\nmetadata: {name: %s}\n"
	for _, tt := range []struct {
		name      string
		documents []string // kind with metadata, and the rest
		out, in   string
	}{
		{"specs add up", []string{namespaced + "specs: [{endpointSelector: {matchLabels: {app: web}}, egress: [{toEndpoints: [{matchLabels: {app: db}}]}]}, " +
			"{endpointSelector: {matchLabels: {app: web}}, egress: [{toEntities: [host]}]}]"}, "*|-|-|-|*", open},
		{"specs of two pods", []string{namespaced + "specs: [{endpointSelector: {matchLabels: {app: web}}, egress: [{toEndpoints: [{}]}]}, " +
			"{endpointSelector: {matchLabels: {app: cache}}, ingress: [{}]}]"}, "*|-|-|-|-", open},
		{
			"subject by expression",
			[]string{namespaced + "spec: {endpointSelector: {matchExpressions: [{key: tier, operator: DoesNotExist}]}, egress: [{toEntities: [world]}]}"},
			"-|-|-|*|-", open,
		},
		{
			"subject that an expression leaves out",
			[]string{namespaced + "spec: {endpointSelector: {matchExpressions: [{key: app, operator: NotIn, values: [web]}]}, ingress: [{}]}"},
			"-|-|*|*|*", open,
		},
		{"clusterwide: endpoints of every namespace", []string{clusterwide + "spec: {endpointSelector: {matchLabels: {app: web}}, egress: [{toEndpoints: [{}]}]}"}, "*|*|*|-|-", open},
		{"clusterwide: subjects of every namespace", []string{clusterwide + "spec: {endpointSelector: {matchLabels: {app: db}}, ingress: [{}]}"}, "-|*|-|*|*", open},
		{
			"clusterwide: subjects of one namespace",
			[]string{clusterwide + "spec: {endpointSelector: {matchLabels: {'k8s:io.kubernetes.pod.namespace': shop}}, ingress: [{fromEndpoints: [{matchLabels: {app: cache}}]}]}"},
			"-|-|*|*|*", "-|*|-|-|*",
		},
		{"policies add up", []string{
			namespaced + "spec: {endpointSelector: {matchLabels: {app: web}}, egress: [{toEndpoints: [{matchLabels: {app: db}}]}]}",
			namespaced + "spec: {endpointSelector: {}, egress: [{toPorts: [{ports: [{port: '53', protocol: UDP}]}]}]}",
		}, "*|d|d|d|d", "d|d|*|*|*"},
		{"a clusterwide policy denies before a namespace's allows", []string{
			namespaced + "spec: {endpointSelector: {matchLabels: {app: web}}, egress: [{toEntities: [cluster]}]}",
			clusterwide + "spec: {endpointSelector: {matchLabels: {app: web}}, egressDeny: [{toEndpoints: [{matchLabels: {app: cache}}]}]}",
		}, "*|-|*|-|*", open},
	} {
		text := ""
		for i, d := range tt.documents {
			text += "---\napiVersion: cilium.io/v2\nkind: Cilium" + fmt.Sprintf(d, string(rune('a'+i))) + "\n"
		}
		t.Run(tt.name, func(t *testing.T) { s.check(t, table{tt.name, text, tt.out, tt.in}) })
	}
}
