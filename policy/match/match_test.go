package match_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/policy/match"
)

// input parses policies of namespace shop that select every pod; specs are their rules and, if
// they begin with "Audit ", are audited.
func input(t *testing.T, specs ...string) match.Input {
	t.Helper()
	in := match.Input{Node: policy.Node{Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("127.0.0.1")}}}
	for i, rules := range specs {
		mode := "Enforce"
		if rest, ok := strings.CutPrefix(rules, "Audit "); ok {
			mode, rules = "Audit", rest
		}
		policies, err := policy.Parse("test.yaml", []byte("apiVersion: sallyport.dev/v1alpha1\nkind: ProcessPolicy\nmetadata: {name: p"+string(rune('0'+i))+
			", namespace: shop}\nspec: {podSelector: {}, mode: "+mode+", rules: ["+rules+"]}"))
		if err != nil {
			t.Fatal(err)
		}
		in.Policies = append(in.Policies, policies...)
	}
	return in
}

const tcp, udp, icmp, gre = 6, 17, 1, 47

func call(protocol uint8, peer string, port uint16) match.Call {
	c := match.Call{Protocol: protocol, Port: port}
	if peer != "" {
		c.Peer = netip.MustParseAddr(peer)
	}
	return c
}

func ingress(c match.Call) match.Call {
	c.Direction = policy.Ingress
	return c
}

func listen(protocol uint8, port uint16) match.Call {
	return match.Call{Protocol: protocol, Port: port, Listen: true}
}

// TestJudge is the meaning of the language, case by case. The compiler's tables are held to it by
// the differential tests.
func TestJudge(t *testing.T) {
	t.Parallel()
	shop := policy.Workload{Namespace: "shop", Container: "web", ContainerType: "App"}
	curl := match.Process{Workload: shop, Origin: policy.OriginMain, Exe: "/usr/bin/curl"}
	shell := match.Process{Workload: shop, Origin: policy.OriginExec, Exe: "/bin/sh"}
	cut := match.Process{Workload: shop, Origin: policy.OriginMain, Exe: "/usr/bin/cur", Truncated: true}
	script := match.Process{Workload: shop, Origin: policy.OriginMain, Exe: "/usr/bin/python3", Script: "/app/run"}
	other := match.Process{Workload: policy.Workload{Namespace: "other"}, Exe: "/usr/bin/curl"}
	const web = "{name: web, egress: [{toCIDR: [10.0.0.0/8], toPorts: [{ports: [{port: 443, protocol: TCP}]}]}]}"
	const deny = "{name: deny, action: Deny, onViolation: {verdict: Kill, alert: critical}}"
	for _, tt := range []struct {
		name  string
		rules []string
		p     match.Process
		c     match.Call
		want  string
	}{
		{"no policy", nil, curl, call(tcp, "10.0.0.1", 443), "Allow ungoverned"},
		{"other namespace", []string{deny}, other, call(tcp, "10.0.0.1", 443), "Allow ungoverned"},
		{"allowed", []string{web}, curl, call(tcp, "10.0.0.1", 443), "Allow rule shop/p0/web"},
		{"mapped address", []string{web}, curl, call(tcp, "::ffff:10.0.0.1", 443), "Allow rule shop/p0/web"},
		{"other peer", []string{web}, curl, call(tcp, "11.0.0.1", 443), "Deny warning default shop/p0/web"},
		{"other port", []string{web}, curl, call(tcp, "10.0.0.1", 80), "Deny warning default shop/p0/web"},
		{"other protocol", []string{web}, curl, call(udp, "10.0.0.1", 443), "Deny warning default shop/p0/web"},
		{"other direction", []string{web}, curl, ingress(call(tcp, "10.0.0.1", 80)), "Allow ungoverned"},
		{"no port", []string{web}, curl, call(tcp, "10.0.0.1", 0), "Deny warning default shop/p0/web"},
		{"loopback", []string{web}, curl, call(tcp, "127.0.0.53", 53), "Allow loopback"},
		{"loopback, unspecified", []string{web}, curl, call(tcp, "0.0.0.0", 53), "Allow loopback"},
		{"loopback, mapped", []string{web}, curl, call(tcp, "::ffff:127.0.0.1", 53), "Allow loopback"},
		{"loopback, denied", []string{deny}, curl, call(tcp, "::1", 53), "Kill critical rule shop/p0/deny"},
		{"deny before allow", []string{web, deny}, curl, call(tcp, "10.0.0.1", 443), "Kill critical rule shop/p1/deny"},
		{"deny without direction", []string{deny}, curl, ingress(call(udp, "10.0.0.1", 53)), "Kill critical rule shop/p0/deny"},
		{"deny without address", []string{deny}, curl, call(0, "", 0), "Kill critical rule shop/p0/deny"},
		{"no address is no peer", []string{web}, curl, call(tcp, "", 443), "Deny warning default shop/p0/web"},
		{"no address, any peer", []string{"{egress: [{}]}"}, curl, call(0, "", 0), "Allow rule shop/p0/rule-0"},
		{"no address, entity all", []string{"{egress: [{toEntities: [all]}]}"}, curl, call(0, "", 0), "Allow rule shop/p0/rule-0"},
		{"no address, a port", []string{"{egress: [{toPorts: [{ports: [{protocol: TCP}]}]}]}"}, curl, call(tcp, "", 0), "Deny warning default shop/p0/rule-0"},
		{"empty egress", []string{"{egress: []}"}, curl, call(tcp, "10.0.0.1", 443), "Deny warning default shop/p0/rule-0"},
		{"empty egress, ingress", []string{"{egress: []}"}, curl, ingress(call(tcp, "10.0.0.1", 443)), "Allow ungoverned"},
		{"empty peers", []string{"{egress: [{toCIDR: []}]}"}, curl, call(tcp, "10.0.0.1", 443), "Deny warning default shop/p0/rule-0"},
		{"empty peers or entity", []string{"{egress: [{toCIDR: [], toEntities: [world]}]}"}, curl, call(tcp, "10.0.0.1", 443), "Allow rule shop/p0/rule-0"},
		{"IPv6 default route is not IPv4", []string{"{egress: [{toCIDR: ['::/0']}]}"}, curl, call(tcp, "10.0.0.1", 443), "Deny warning default shop/p0/rule-0"},
		{"except", []string{"{egress: [{toCIDRSet: [{cidr: 10.0.0.0/8, except: [10.1.0.0/16]}]}]}"}, curl, call(tcp, "10.1.2.3", 1), "Deny warning default shop/p0/rule-0"},
		{"except, named again", []string{"{egress: [{toCIDRSet: [{cidr: 10.0.0.0/8, except: [10.1.0.0/16]}], toCIDR: [10.1.2.0/24]}]}"}, curl, call(tcp, "10.1.2.3", 1), "Allow rule shop/p0/rule-0"},
		{"world is not the node", []string{"{egress: [{toEntities: [world]}]}"}, curl, call(tcp, "192.0.2.1", 1), "Deny warning default shop/p0/rule-0"},
		{"host is the node", []string{"{egress: [{toEntities: [host]}]}"}, curl, call(tcp, "192.0.2.1", 1), "Allow rule shop/p0/rule-0"},
		{"host is not loopback", []string{"{action: Deny, egress: [{toEntities: [host, world]}]}"}, curl, call(tcp, "127.0.0.1", 1), "Allow ungoverned"},
		{"any protocol with a port", []string{"{egress: [{toPorts: [{ports: [{port: 53}]}]}]}"}, curl, call(udp, "10.1.2.3", 53), "Allow rule shop/p0/rule-0"},
		{"any protocol without a port", []string{"{egress: [{toPorts: [{ports: [{protocol: ANY}]}]}]}"}, curl, call(gre, "10.1.2.3", 0), "Allow rule shop/p0/rule-0"},
		{"ICMP", []string{"{egress: [{toPorts: [{ports: [{protocol: ICMP}]}]}]}"}, curl, call(icmp, "10.1.2.3", 0), "Allow rule shop/p0/rule-0"},
		{"range", []string{"{egress: [{toPorts: [{ports: [{port: 80, endPort: 90}]}]}]}"}, curl, call(tcp, "10.1.2.3", 90), "Allow rule shop/p0/rule-0"},
		{"origin", []string{"{processes: [{origins: [Exec]}], action: Deny}"}, shell, call(tcp, "10.1.2.3", 90), "Deny warning rule shop/p0/rule-0"},
		{"other origin", []string{"{processes: [{origins: [Exec]}], action: Deny}"}, curl, call(tcp, "10.1.2.3", 90), "Allow ungoverned"},
		{"container", []string{"{processes: [{containers: [w*], containerTypes: [App]}], action: Deny}"}, curl, call(tcp, "10.1.2.3", 90), "Deny warning rule shop/p0/rule-0"},
		{"container type", []string{"{processes: [{containers: [w*], containerTypes: [Init]}], action: Deny}"}, curl, call(tcp, "10.1.2.3", 90), "Allow ungoverned"},
		{"script", []string{"{processes: [{binaries: [/app/*]}], action: Deny}"}, script, call(tcp, "10.1.2.3", 90), "Deny warning rule shop/p0/rule-0"},
		{"cut path, allow", []string{"{processes: [{binaries: [/**]}], egress: []}"}, cut, call(tcp, "10.1.2.3", 90), "Allow ungoverned"},
		{"cut path, deny", []string{"{processes: [{binaries: [/opt/x]}], action: Deny}"}, cut, call(tcp, "10.1.2.3", 90), "Deny warning rule shop/p0/rule-0"},
		{"default of the first", []string{"{name: a, processes: [{origins: [Exec]}], egress: []}, {name: b, egress: [], onViolation: {verdict: Drop}}, {name: c, egress: []}"}, curl, call(tcp, "10.1.2.3", 90), "Drop warning default shop/p0/b"},
		{"audit", []string{"Audit " + web}, curl, call(tcp, "11.0.0.1", 443), "Audit(Deny) warning default shop/p0/web"},
		{"audit, allowed", []string{"Audit " + web}, curl, call(tcp, "10.0.0.1", 443), "Allow ungoverned"},
		{"audit widens nothing", []string{"{name: none, egress: []}", "Audit " + web}, curl, call(tcp, "10.0.0.1", 443), "Deny warning default shop/p0/none"},
		{"audit of a deny", []string{web, "Audit " + deny}, curl, call(tcp, "10.0.0.1", 443), "Audit(Kill) critical rule shop/p1/deny"},
		{"unspecified is loopback to rules too", []string{"{action: Deny, egress: [{toCIDR: [127.0.0.0/8]}]}"}, curl, call(tcp, "::ffff:0.0.0.0", 1), "Deny warning rule shop/p0/rule-0"},
		{"listen, no policy", nil, curl, listen(tcp, 80), "Allow ungoverned"},
		{"listen, denied", []string{deny}, curl, listen(tcp, 80), "Kill critical rule shop/p0/deny"},
		{"listen, port denied", []string{"{action: Deny, ingress: [{toPorts: [{ports: [{port: 80, protocol: TCP}]}]}]}"}, curl, listen(tcp, 80), "Deny warning rule shop/p0/rule-0"},
		{"listen, other port denied", []string{"{action: Deny, ingress: [{toPorts: [{ports: [{port: 80, protocol: TCP}]}]}]}"}, curl, listen(tcp, 81), "Allow ungoverned"},
		{"listen, some peers denied", []string{"{action: Deny, ingress: [{fromCIDR: [10.0.0.0/8]}]}"}, curl, listen(tcp, 80), "Allow ungoverned"},
		{"listen, egress denied", []string{"{action: Deny, egress: [{}]}"}, curl, listen(tcp, 80), "Allow ungoverned"},
		{"listen, nobody let in", []string{"{ingress: []}"}, curl, listen(tcp, 80), "Allow ungoverned"},
		{"listen, everybody let in", []string{"{ingress: [{}]}"}, curl, listen(tcp, 80), "Allow ungoverned"},
		{"listen, audit of a deny", []string{"Audit " + deny}, curl, listen(udp, 53), "Audit(Kill) critical rule shop/p0/deny"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			e := match.Explain(input(t, tt.rules...), tt.p, tt.c)
			if got := short(e.Decision); got != tt.want {
				t.Errorf("got %s, not %s\n%s", got, tt.want, e.Why)
			}
		})
	}
}

// TestJudgeNames is the meaning of toFQDNs and rules.dns.
func TestJudgeNames(t *testing.T) {
	t.Parallel()
	p := match.Process{Workload: policy.Workload{Namespace: "shop"}, Origin: policy.OriginMain, Exe: "/web"}
	const resolver = "{name: dns, egress: [{toCIDR: [10.96.0.10], toPorts: [{ports: [{port: 53}], rules: {dns: [{matchPattern: '*.shop.example'}]}}]}]}"
	named := func(peer string, names ...string) match.Call {
		c := call(tcp, peer, 443)
		c.Names = names
		return c
	}
	for _, tt := range []struct {
		name  string
		rules []string
		c     match.Call
		query string
		want  string
	}{
		{"told", []string{"{egress: [{toFQDNs: [{matchPattern: '*.example'}]}]}"}, named("203.0.113.1", "x.test", "a.example"), "", "Allow rule shop/p0/rule-0"},
		{"not told", []string{"{egress: [{toFQDNs: [{matchPattern: '*.example'}]}]}"}, named("203.0.113.1"), "", "Deny warning default shop/p0/rule-0"},
		{"told another", []string{"{egress: [{toFQDNs: [{matchPattern: '*.example'}]}]}"}, named("203.0.113.1", "example"), "", "Deny warning default shop/p0/rule-0"},
		{"or an address", []string{"{egress: [{toFQDNs: [{matchName: a}], toCIDR: [203.0.113.0/24]}]}"}, named("203.0.113.1"), "", "Allow rule shop/p0/rule-0"},
		{"denied by name", []string{"{action: Deny, egress: [{toFQDNs: [{matchName: a}]}]}"}, named("203.0.113.1", "a"), "", "Deny warning rule shop/p0/rule-0"},
		{"inwards", []string{"{action: Deny, egress: [{toFQDNs: [{matchName: a}]}]}"}, ingress(named("203.0.113.1", "a")), "", "Allow ungoverned"},
		{"the resolver", []string{resolver}, call(udp, "10.96.0.10", 53), "", "Allow rule shop/p0/dns"},
		{"a good name", []string{resolver}, call(udp, "10.96.0.10", 53), "a.shop.example", "Allow rule shop/p0/dns"},
		{"a bad name", []string{resolver}, call(tcp, "10.96.0.10", 53), "evil.example", "Deny warning rule shop/p0/dns"},
		{"another resolver", []string{resolver}, call(udp, "10.96.0.11", 53), "a.shop.example", "Deny warning default shop/p0/dns"},
		{"another port of the resolver", []string{resolver}, call(udp, "10.96.0.10", 54), "", "Deny warning default shop/p0/dns"},
		{"a rule without names allows all", []string{resolver, "{name: all, egress: [{toPorts: [{ports: [{port: 53}]}]}]}"}, call(udp, "10.96.0.10", 53), "evil.example", "Allow rule shop/p1/all"},
		{"only one of two ports", []string{"{egress: [{toPorts: [{ports: [{port: 53}], rules: {dns: [{matchName: a}]}}, {ports: [{port: 5353}]}]}]}"}, call(udp, "10.96.0.10", 5353), "b", "Allow rule shop/p0/rule-0"},
		{"audited", []string{"Audit " + resolver}, call(udp, "10.96.0.10", 53), "evil.example", "Audit(Deny) warning rule shop/p0/dns"},
		{"denied resolver", []string{resolver, "{name: no, action: Deny, egress: [{toCIDR: [10.96.0.0/16]}]}"}, call(udp, "10.96.0.10", 53), "a.shop.example", "Deny warning rule shop/p1/no"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			e := match.Explain(input(t, tt.rules...), p, tt.c)
			if tt.query != "" {
				e = match.ExplainQuery(input(t, tt.rules...), p, policy.Query{Call: tt.c, Name: tt.query})
			}
			if got := short(e.Decision); got != tt.want {
				t.Errorf("got %s, not %s\n%s", got, tt.want, e.Why)
			}
		})
	}
	e := match.ExplainQuery(input(t, resolver), p, policy.Query{Call: call(udp, "10.96.0.10", 53), Name: "evil.example"})
	if e.Why != "Deny: rule shop/p0/dns denies the query for evil.example" || e.Rules[0].Why != "allows the resolver, but the name evil.example is none of [*.shop.example]" {
		t.Errorf("%s; %s", e.Why, e.Rules[0].Why)
	}
}

// short writes a decision down.
func short(d match.Decision) string {
	words := []string{string(d.Verdict)}
	if d.Would != "" {
		words[0] += "(" + string(d.Would) + ")"
	}
	for _, w := range []string{string(d.Severity), string(d.Reason), d.Rule} {
		if w != "" {
			words = append(words, w)
		}
	}
	return strings.Join(words, " ")
}

func TestExplainSaysWhy(t *testing.T) {
	t.Parallel()
	in := input(t, `{name: program, processes: [{origins: [Main]}], egress: [{toCIDR: [10.0.0.0/8]}]}, {name: shells, processes: [{binaries: [/bin/*sh]}], egress: [{toCIDRSet: [{cidr: 192.0.2.0/24, except: [192.0.2.7]}]}, {toPorts: [{ports: [{port: 80, endPort: 90, protocol: TCP}, {protocol: ICMP}]}]}], ingress: []}`)
	p := match.Process{Workload: policy.Workload{Namespace: "shop"}, Origin: policy.OriginExec, Exe: "/bin/sh"}
	e := match.Explain(in, p, call(tcp, "192.0.2.7", 443))
	got := make([]string, 0, 1+len(e.Rules))
	got = append(got, e.Why)
	for _, r := range e.Rules {
		got = append(got, r.Rule+" "+r.Direction+": "+r.Why)
	}
	want := []string{
		"Deny: rules select the process for egress and none allows the call; the first is shop/p0/shells",
		"shop/p0/program egress: origin Exec is none of [Main]",
		"shop/p0/shells egress: peer 192.0.2.7 is in 192.0.2.0/24, but excepted by 192.0.2.7/32; it is the first Allow rule that selects the process, so that it sets the default",
		"shop/p0/shells egress: TCP/443 is none of [TCP/80-90, ICMP]",
		"shop/p0/shells ingress: is about ingress, the call is egress",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	p.Exe = "/tmp/\x1b[2J\n"
	if why := match.Explain(in, p, call(tcp, "192.0.2.7", 443)).Rules[1].Why; why != `binary "/tmp/\x1b[2J\n" matches none of [/bin/*sh]` {
		t.Errorf("hostile path: %q", why)
	}
	in = input(t, "{processes: [{scripts: [{interpreter: /bin/sh, path: /app/*}]}], egress: []}")
	p.Exe, p.Script = "/bin/sh", "/tmp/x"
	if why := match.Explain(in, p, call(tcp, "192.0.2.7", 443)).Rules[0].Why; why != "binary /bin/sh with script /tmp/x is none of the scripts" {
		t.Errorf("another script: %q", why)
	}
	p.Scriptless = true
	if why := match.Explain(in, p, call(tcp, "192.0.2.7", 443)).Rules[0].Why; why != "which script it runs is not known, so that it matches no scripts of an Allow rule" {
		t.Errorf("an unknown script: %q", why)
	}
}

func TestExplainSaysWhyListeningPasses(t *testing.T) {
	t.Parallel()
	in := input(t, "{name: clients, ingress: [{}]}, {name: shells, processes: [{origins: [Exec]}], action: Deny}, {name: some, action: Deny, ingress: [{fromCIDR: [10.0.0.0/8]}]}")
	p := match.Process{Workload: policy.Workload{Namespace: "shop"}, Origin: policy.OriginMain, Exe: "/web"}
	e := match.Explain(in, p, listen(tcp, 80))
	got := []string{e.Why}
	for _, r := range e.Rules {
		if r.Matches || r.Decides {
			t.Errorf("rule %s matches: %t, decides: %t", r.Rule, r.Matches, r.Decides)
		}
		got = append(got, r.Rule+" "+r.Direction+": "+r.Why)
	}
	want := []string{
		"Allow: no Deny rule of every peer matches; whom Allow rules let in is asked when a peer comes",
		"shop/p0/clients ingress: allows peers: whether it lets one in is asked when one comes",
		"shop/p0/shells egress: origin Main is none of [Exec]",
		"shop/p0/shells ingress: origin Main is none of [Exec]",
		"shop/p0/some ingress: nobody is at the other end yet, and the entry names peers",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}
