// Package policytest makes random policies, and processes and calls to judge by them, for
// differential tests: the tables against the reference, and the kernel against both.
//
// Its universe is small on purpose, so that rules, peers, ports and paths meet often. Only tests
// import it; it imports policy only.
package policytest

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/netip"

	"github.com/sallyport/sallyport/policy"
)

// Case is policies, the workloads and the node they apply to, and what to ask.
type Case struct {
	Input     policy.Input
	Questions []Question
}

// Question is one call of one process.
type Question struct {
	Process policy.Process
	Call    policy.Call
	Query   string          // also ask for this name in the call, if it is not empty
	Request *policy.Request // also ask for this request, if it is not nil
	Hello   *policy.Hello   // also ask for this name, if it is not nil
}

// Random makes the case of a seed, with this many questions. The policies have been written as
// JSON and parsed, so that they are what an agent could have read; the error is that of parsing
// and always a bug.
func Random(seed uint64, questions int) (Case, error) { return random(seed, questions, kernel{}) }

// Enforced makes a case with nothing in it that the kernel does not judge by: what
// compile.Compile refuses.
func Enforced(seed uint64, questions int) (Case, error) {
	return random(seed, questions, kernel{enforced: true})
}

// Requests makes such a case with rules.http and serverNames besides, and asks about requests and ClientHellos only.
func Requests(seed uint64, questions int) (Case, error) {
	return random(seed, questions, kernel{enforced: true, requests: true})
}

// kernel bounds a case to what the kernel judges by.
type kernel struct {
	enforced bool // no more than compile.Compile takes
	requests bool // with rules.http and serverNames, which say nothing of other calls
}

func random(seed uint64, questions int, k kernel) (Case, error) {
	g := &generator{rand.New(rand.NewPCG(seed, 0)), k} //nolint:gosec // a case must come again with its seed
	c := Case{Input: policy.Input{Workloads: g.workloads(), Node: policy.Node{Addresses: g.nodeAddresses()}, World: g.world()}}
	for i := range 1 + g.IntN(4) {
		text, err := json.Marshal(g.policy(i))
		if err != nil {
			return Case{}, fmt.Errorf("writing a random policy: %w", err)
		}
		parsed, err := policy.Parse("random.json", text)
		if err != nil {
			return Case{}, fmt.Errorf("parsing the random policy %s: %w", text, err)
		}
		for _, p := range parsed {
			g.external(p)
		}
		c.Input.Policies = append(c.Input.Policies, parsed...)
	}
	for range questions {
		q := Question{Process: g.process(c.Input.Workloads), Call: g.call()}
		if !g.requests && g.IntN(3) == 0 {
			q.Query = g.name()
			q.Call.Direction, q.Call.Listen, q.Call.Port = policy.Egress, false, 53
			q.Call.Protocol = pick[uint8](g, 17, 17, 6)
		}
		if g.requests || !g.enforced && q.Query == "" && g.IntN(3) == 0 {
			q.Call.Listen, q.Call.Protocol, q.Call.Port = false, 6, pick[uint16](g, 80, 443, 8080)
			if q.Request = g.request(q.Call); g.IntN(2) == 0 {
				q.Request, q.Hello = nil, &policy.Hello{Call: q.Call, ServerName: g.server()}
			}
		}
		c.Questions = append(c.Questions, q)
	}
	return c, nil
}

type generator struct {
	*rand.Rand
	kernel
}

// pick returns one of a list.
func pick[T any](g *generator, list ...T) T { return list[g.IntN(len(list))] }

// some returns a few of a list, at least one; or with the probability of one in absent nothing.
func some[T any](g *generator, absent int, list ...T) []T {
	if absent > 0 && g.IntN(absent) == 0 {
		return nil
	}
	out := make([]T, 0, 3)
	for range 1 + g.IntN(3) {
		out = append(out, pick(g, list...))
	}
	return out
}

func (g *generator) workloads() (out []policy.Workload) {
	for i := range 1 + g.IntN(4) {
		if g.IntN(8) == 0 {
			out = append(out, policy.Workload{Key: uint64(i + 1), Host: &policy.HostUnit{
				Unit: pick(g, "ssh.service", "cron.service", ""), Cgroup: pick(g, "/system.slice/ssh.service", "/user.slice/a"),
			}})
			continue
		}
		out = append(out, policy.Workload{
			Ports: g.namedPorts(), NamespaceLabels: map[string]string{"team": pick(g, "red", "blue")}, ServiceAccount: pick(g, "payer", "other", ""),
			Key: uint64(i + 1), Namespace: pick(g, "shop", "shop", "default"), Pod: fmt.Sprintf("pod-%d", i/2),
			Container: pick(g, "web", "sidecar", "db"), ContainerType: pick(g, "App", "Init", "Sidecar", "Ephemeral", "Sandbox"),
			Labels: map[string]string{"app": pick(g, "web", "db"), pick(g, "tier", "env"): pick(g, "a", "b")},
		})
	}
	return out
}

func (g *generator) nodeAddresses() []netip.Addr {
	all := []netip.Addr{
		netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("fe80::1%eth0"),
		netip.MustParseAddr("::ffff:10.1.2.3"), netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("::1"),
	}
	return all[:g.IntN(len(all)+1)]
}

func (g *generator) policy(i int) *policy.Policy {
	p := &policy.Policy{
		APIVersion: policy.APIVersion, Kind: policy.KindProcessPolicy,
		Metadata: policy.Metadata{Name: fmt.Sprintf("p%d", 9-i), Namespace: pick(g, "shop", "shop", "default")},
		Spec: policy.Spec{
			Mode: pick(g, policy.ModeEnforce, policy.ModeEnforce, policy.ModeAudit), PodSelector: g.selector(), OnViolation: g.onViolation(),
			EnableDefaultDeny: g.defaultDeny(),
		},
	}
	switch g.IntN(8) {
	case 0:
		p.Kind, p.Metadata.Namespace = policy.KindClusterProcessPolicy, ""
		if g.IntN(2) == 0 {
			p.Spec.NamespaceSelector = &policy.LabelSelector{MatchLabels: map[string]string{"team": pick(g, "red", "blue")}}
		}
		p.Spec.ServiceAccounts = some(g, 2, "payer", "shop/payer", "default/other")
	case 1:
		p.Kind, p.Metadata.Namespace, p.Spec.PodSelector = policy.KindHostProcessPolicy, "", policy.LabelSelector{}
		p.Spec.HostSelector = &policy.HostSelector{Units: globs(some(g, 3, "ssh.service", "*.service")), Cgroups: globs(some(g, 3, "/system.slice/**", "/user.slice/*"))}
	}
	for r := range 1 + g.IntN(4) {
		p.Spec.Rules = append(p.Spec.Rules, g.rule(r))
	}
	if g.enforced && p.Spec.EnableDefaultDeny != nil {
		narrow(p.Spec.Rules)
	}
	return p
}

// narrow takes out of rules what cannot be enforced beside rules of others that make a direction default-deny, where they are
// not to.
func narrow(rules []policy.Rule) {
	for i := range rules {
		for j := range rules[i].Processes {
			s := &rules[i].Processes[j]
			s.Binaries, s.Scripts, s.Users, s.Groups = nil, nil, nil, nil
		}
	}
}

func (g *generator) defaultDeny() *policy.DefaultDeny {
	switch g.IntN(6) {
	case 0:
		return &policy.DefaultDeny{Egress: pick(g, new(true), new(false), nil), Ingress: new(false)}
	case 1:
		return &policy.DefaultDeny{Ingress: new(true)}
	}
	return nil
}

func (g *generator) selector() (s policy.LabelSelector) {
	if g.IntN(3) == 0 {
		s.MatchLabels = map[string]string{"app": pick(g, "web", "db")}
	}
	if g.IntN(4) == 0 {
		r := policy.LabelRequirement{Key: pick(g, "tier", "env", "app"), Operator: pick(g, policy.LabelIn, policy.LabelNotIn, policy.LabelExists, policy.LabelDoesNotExist)}
		if r.Operator == policy.LabelIn || r.Operator == policy.LabelNotIn {
			r.Values = some(g, 0, "a", "b", "web")
		}
		s.MatchExpressions = append(s.MatchExpressions, r)
	}
	return s
}

func (g *generator) onViolation() *policy.OnViolation {
	switch g.IntN(4) {
	case 0:
		return &policy.OnViolation{Verdict: pick(g, policy.VerdictDeny, policy.VerdictDrop, policy.VerdictReset, policy.VerdictKill)}
	case 1:
		return &policy.OnViolation{Alert: pick(g, policy.SeverityInfo, policy.SeverityWarning, policy.SeverityCritical)}
	}
	return nil
}

func (g *generator) rule(i int) policy.Rule {
	r := policy.Rule{Name: fmt.Sprintf("r%d", i), Action: pick(g, policy.ActionAllow, policy.ActionAllow, policy.ActionAllow, policy.ActionAllow, policy.ActionDeny, policy.ActionDeny, policy.ActionAudit, policy.ActionKill), OnViolation: g.onViolation()}
	if r.Action == policy.ActionKill && r.OnViolation != nil {
		r.OnViolation = &policy.OnViolation{Alert: policy.SeverityInfo}
	}
	if g.IntN(3) > 0 {
		for range 1 + g.IntN(2) {
			r.Processes = append(r.Processes, g.processSelector())
		}
	}
	deny := r.Denies()
	ways := 1 + g.IntN(3) // bit 0: egress, bit 1: ingress
	if deny {
		ways = g.IntN(4)
	}
	if ways&1 != 0 {
		r.Egress = []policy.EgressRule{}
		for range g.entries(deny) {
			p := g.peers(deny)
			e := policy.EgressRule{
				ToCIDR: p.CIDRs, ToCIDRSet: p.CIDRSets, ToEntities: p.Entities, ToFQDNs: p.FQDNs, ToEndpoints: p.Endpoints, ToServices: p.Services,
				ICMPs: g.icmps(),
			}
			if e.ICMPs == nil {
				e.ToPorts = g.ports(p.FQDNs == nil, deny, true)
			}
			r.Egress = append(r.Egress, e)
		}
	}
	if ways&2 != 0 {
		r.Ingress = []policy.IngressRule{}
		for range g.entries(deny) {
			p := g.peers(deny)
			e := policy.IngressRule{FromCIDR: p.CIDRs, FromCIDRSet: p.CIDRSets, FromEntities: p.Entities, FromEndpoints: p.Endpoints, ICMPs: g.icmps()}
			if e.ICMPs == nil {
				e.ToPorts = g.ports(true, deny, false)
			}
			r.Ingress = append(r.Ingress, e)
		}
	}
	return r
}

// entries returns how many entries a list has: none is an error in a Deny rule.
func (g *generator) entries(deny bool) int {
	if deny {
		return 1 + g.IntN(2)
	}
	return g.IntN(4)
}

func (g *generator) processSelector() (s policy.ProcessSelector) {
	all := policy.Origins()
	s.Origins = some(g, 2, all[:]...)
	s.Containers = globs(some(g, 3, "web", "side*", "d?", "[w-z]*", "**"))
	s.ContainerTypes = some(g, 3, policy.ContainerApp, policy.ContainerInit, policy.ContainerSidecar, policy.ContainerEphemeral)
	s.Binaries = globs(some(g, 2, "/usr/bin/curl", "/usr/bin/*", "/usr/**", "/**/sh", "/bin/?sh", "/app/[a-c]*", "/**/lib/*.so", "memfd:*", "/**"))
	if g.IntN(3) == 0 {
		s.Users = some(g, 2, uint32(0), uint32(1000))
		s.Groups = some(g, 2, uint32(0), uint32(5))
	}
	if g.IntN(8) == 0 {
		for range 1 + g.IntN(2) {
			s.Scripts = append(s.Scripts, policy.Script{Interpreter: globs([]string{pick(g, "/usr/bin/*", "/bin/?sh")})[0], Path: globs([]string{pick(g, "/app/**", "/usr/local/bin/*.sh", "/app/a")})[0]})
		}
	}
	return s
}

// globs parses patterns that are known to be good.
func globs(patterns []string) (out []policy.Glob) {
	for _, p := range patterns {
		g, err := policy.ParseGlob(p)
		if err != nil {
			panic(err) // a constant of this file is wrong
		}
		out = append(out, g)
	}
	return out
}

func (g *generator) peers(deny bool) (p policy.Peers) {
	prefixes := prefixes("10.0.0.0/8", "10.1.0.0/16", "10.1.2.0/24", "10.1.2.3/32", "192.0.2.0/24", "0.0.0.0/0", "127.0.0.0/8",
		"0.0.0.0/32", "::/0", "2001:db8::/32", "2001:db8::1/128", "::1/128", "::/64", "fe80::/10", "128.0.0.0/1", "::/128")
	p.CIDRs = some(g, 2, prefixes...)
	if g.IntN(3) == 0 {
		p.CIDRSets = []policy.CIDRSet{
			pick(g, set("10.0.0.0/8", "10.1.0.0/16"), set("10.0.0.0/8", "10.1.0.0/16", "10.1.2.3/32"), set("0.0.0.0/0", "10.0.0.0/8", "192.0.2.0/24"),
				set("::/0", "2001:db8::/32"), set("10.1.0.0/16"), set("2001:db8::/32", "2001:db8::1/128")),
		}
	}
	if g.IntN(3) == 0 {
		p.FQDNs = g.fqdns()
		if g.IntN(2) == 0 {
			return policy.Peers{FQDNs: p.FQDNs}
		}
	}
	p.Entities = some(g, 2, policy.EntityWorld, policy.EntityWorld, policy.EntityHost, policy.EntityHost, policy.EntityAll, policy.EntityWorldIPv4,
		policy.EntityWorldIPv6, policy.EntityRemoteNode, policy.EntityCluster, policy.EntityKubeAPIServer, policy.EntityHealth, policy.EntityMetadata, policy.EntityNone)
	if g.IntN(3) == 0 {
		p.Endpoints = g.endpoints()
		if g.IntN(2) == 0 {
			return policy.Peers{Endpoints: p.Endpoints}
		}
	}
	if g.IntN(5) == 0 {
		p.Services = []policy.ServiceSelector{pick(g,
			policy.ServiceSelector{K8sService: &policy.ServiceName{ServiceName: "web"}},
			policy.ServiceSelector{K8sService: &policy.ServiceName{ServiceName: "dns", Namespace: "default"}},
			policy.ServiceSelector{K8sServiceSelector: &policy.ServiceLabels{Selector: policy.LabelSelector{MatchLabels: map[string]string{"kind": "web"}}}},
		)}
	}
	if !deny && g.IntN(12) == 0 {
		return policy.Peers{CIDRs: []netip.Prefix{}} // selects no peer
	}
	return p
}

func prefixes(list ...string) (out []netip.Prefix) {
	for _, s := range list {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

func set(cidr string, except ...string) policy.CIDRSet {
	return policy.CIDRSet{CIDR: netip.MustParsePrefix(cidr), Except: prefixes(except...)}
}

func (g *generator) fqdns() (out []policy.FQDNSelector) {
	for range 1 + g.IntN(3) {
		if g.IntN(2) == 0 {
			out = append(out, policy.FQDNSelector{MatchName: name(g.name())})
			continue
		}
		out = append(out, policy.FQDNSelector{MatchPattern: name(pick(g, "*", "*.example", "**.example", "a*.example", "*.b.example", "**.b*.example", "*-1.*.example"))})
	}
	return out
}

func (g *generator) name() string {
	return pick(g, "example", "a.example", "b.example", "a.b.example", "c.a.b.example", "x-1.b.example", "other.test")
}

// name parses a name or pattern that is known to be good.
func name(text string) policy.NamePattern {
	p, err := policy.ParseNamePattern(text)
	if err != nil {
		panic(err) // a constant of this file is wrong
	}
	return p
}

func (g *generator) ports(named, deny, egress bool) []policy.PortRule {
	list := []policy.Port{
		{Port: 443, Protocol: policy.ProtocolTCP},
		{Port: 53},
		{Port: 53, Protocol: policy.ProtocolUDP},
		{Port: 80, EndPort: 8080, Protocol: policy.ProtocolAny},
		{Protocol: policy.ProtocolTCP},
		{Protocol: policy.ProtocolICMP},
		{Protocol: policy.ProtocolICMPv6},
		{Port: 1, EndPort: 65535, Protocol: policy.ProtocolSCTP},
		{Port: 8000, EndPort: 8099, Protocol: policy.ProtocolTCP},
		{Protocol: policy.ProtocolAny},
		{Port: 1, EndPort: 1023, Protocol: policy.ProtocolUDP},
	}
	if named {
		list = append(list, policy.Port{Name: "http"}, policy.Port{Name: "http", Protocol: policy.ProtocolTCP}, policy.Port{Name: "dns", Protocol: policy.ProtocolUDP})
	}
	var out []policy.PortRule
	if g.IntN(3) > 0 {
		for range 1 + g.IntN(2) {
			r := policy.PortRule{Ports: some(g, 0, list...)}
			if !deny && egress && g.IntN(3) == 0 {
				r = policy.PortRule{Ports: some(g, 0, list[1], list[2], list[3]), Rules: &policy.L7Rules{DNS: g.fqdns()}}
			}
			if !deny && (g.requests && g.IntN(4) > 0 || !g.enforced && g.IntN(3) == 0) {
				r = g.inside()
			}
			out = append(out, r)
		}
	}
	return out
}

func (g *generator) process(workloads []policy.Workload) policy.Process {
	all := policy.Origins()
	p := policy.Process{
		Workload: pick(g, workloads...), Origin: pick(g, all[:]...), Truncated: g.IntN(12) == 0,
		User: g.ids(0, 1000, 7, policy.NoID), Group: g.ids(0, 5, 0, 5, 9, policy.NoID),
		Exe: pick(g, "/usr/bin/curl", "/usr/bin/sh", "/bin/bash", "/bin/ash", "/app/a", "/app/b/c", "/opt/lib/x.so", "memfd:x", "memfd:a/b", "/usr"),
	}
	for range g.IntN(4) - 1 {
		p.Groups = append(p.Groups, pick[uint32](g, 0, 5, 6, 7, 8, 9))
	}
	p.Scriptless = g.IntN(12) == 0
	if g.IntN(4) == 0 {
		p.Script = pick(g, "/app/a", "/usr/local/bin/run.sh", "/bin/sh")
	}
	return p
}

// ids makes the ids of a process: most have one only.
func (g *generator) ids(list ...uint32) policy.IDs {
	if g.IntN(3) > 0 {
		return policy.OneID(pick(g, list...))
	}
	return policy.IDs{pick(g, list...), pick(g, list...), pick(g, list...)}
}

func (g *generator) call() policy.Call {
	c := policy.Call{
		Direction: pick(g, policy.Egress, policy.Egress, policy.Ingress), Protocol: pick[uint8](g, 6, 6, 17, 132, 1, 58, 47),
		Peer: netip.MustParseAddr(pick(g, "10.1.2.3", "10.1.2.4", "10.1.9.9", "10.9.9.9", "192.0.2.1", "192.0.2.2", "203.0.113.7", "::ffff:10.1.2.3",
			"127.0.0.1", "127.9.9.9", "::1", "0.0.0.0", "::", "::ffff:0.0.0.0", "::ffff:127.0.0.1", "2001:db8::1", "2001:db8::2", "2001:db9::1", "10.96.0.1", "10.96.0.1", "10.96.0.2", "10.96.0.2", "169.254.169.254", "fe80::1", "fe80::1%eth1", "::5")),
	}
	if g.IntN(12) == 0 {
		c.Peer = netip.Addr{}
	}
	for range g.IntN(4) - 1 {
		c.Names = append(c.Names, g.name())
	}
	if c.IsICMP() && g.IntN(4) > 0 {
		c.ICMPType = new(pick[uint8](g, 0, 8, 128, 255))
	}
	c.Listen = g.IntN(8) == 0
	if c.Protocol == 6 || c.Protocol == 17 || c.Protocol == 132 {
		c.Port = pick[uint16](g, 443, 53, 80, 8080, 80, 79, 8080, 8081, 8050, 1, 1024, 65535, 0)
	}
	return c
}
