package policy_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/sallyport/sallyport/policy"
)

// equal compares models; where they were read from does not count.
func equal() cmp.Option {
	return cmp.Options{
		cmpopts.IgnoreFields(policy.Policy{}, "File", "Line"), cmpopts.IgnoreFields(policy.Rule{}, "Line"),
		cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }),
	}
}

const complete = `apiVersion: sallyport.dev/v1alpha1
kind: ProcessPolicy
metadata: {name: checkout, namespace: shop, labels: {team: pay}, annotations: {example.com/why: "a b"}}
spec:
  podSelector:
    matchLabels: {app: checkout}
    matchExpressions: [{key: tier, operator: In, values: [a, b]}, {key: old, operator: DoesNotExist}]
  mode: Audit
  onViolation: {verdict: Drop}
  rules:
  - processes:
    - origins: [Main, Unknown]
      containers: [check*]
      containerTypes: [App, Sidecar]
      binaries: [/usr/bin/checkout, "memfd:*"]
    egress:
    - toCIDR: [10.0.0.0/8, 192.0.2.7, "2001:db8::/32", "::ffff:198.51.100.0/120"]
      toCIDRSet: [{cidr: 172.16.0.0/12, except: [172.16.1.0/24]}]
      toEntities: [world]
      toPorts: [{ports: [{port: "443", protocol: TCP}, {port: 8000, endPort: 8099}, {protocol: ICMP}]}]
    - {}
    ingress: []
    onViolation: {verdict: Kill, alert: critical}
  - {name: shells, processes: [{origins: [Exec]}], action: Deny}
`

func TestParse(t *testing.T) {
	t.Parallel()
	got, err := policy.Parse("a.yaml", []byte("# comment\n---\n"+complete+"---\n"))
	if err != nil {
		t.Fatal(err)
	}
	glob := func(list ...string) (out []policy.Glob) {
		for _, s := range list {
			g, err := policy.ParseGlob(s)
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, g)
		}
		return out
	}
	pfx := netip.MustParsePrefix
	want := []*policy.Policy{{
		APIVersion: policy.APIVersion, Kind: policy.KindProcessPolicy,
		Metadata: policy.Metadata{Name: "checkout", Namespace: "shop", Labels: map[string]string{"team": "pay"}, Annotations: map[string]string{"example.com/why": "a b"}},
		Spec: policy.Spec{
			PodSelector: policy.LabelSelector{
				MatchLabels: map[string]string{"app": "checkout"},
				MatchExpressions: []policy.LabelRequirement{
					{Key: "tier", Operator: policy.LabelIn, Values: []string{"a", "b"}}, {Key: "old", Operator: policy.LabelDoesNotExist},
				},
			},
			Mode: policy.ModeAudit, OnViolation: &policy.OnViolation{Verdict: policy.VerdictDrop},
			Rules: []policy.Rule{{
				Name: "rule-0", Action: policy.ActionAllow,
				Processes: []policy.ProcessSelector{{
					Origins: []policy.Origin{policy.OriginMain, policy.OriginUnknown}, Containers: glob("check*"),
					ContainerTypes: []policy.ContainerType{policy.ContainerApp, policy.ContainerSidecar}, Binaries: glob("/usr/bin/checkout", "memfd:*"),
				}},
				Egress: []policy.EgressRule{{
					ToCIDR:     []netip.Prefix{pfx("10.0.0.0/8"), pfx("192.0.2.7/32"), pfx("2001:db8::/32"), pfx("198.51.100.0/24")},
					ToCIDRSet:  []policy.CIDRSet{{CIDR: pfx("172.16.0.0/12"), Except: []netip.Prefix{pfx("172.16.1.0/24")}}},
					ToEntities: []policy.Entity{policy.EntityWorld},
					ToPorts: []policy.PortRule{{Ports: []policy.Port{
						{Port: 443, Protocol: policy.ProtocolTCP}, {Port: 8000, EndPort: 8099}, {Protocol: policy.ProtocolICMP},
					}}},
				}, {}},
				Ingress:     []policy.IngressRule{},
				OnViolation: &policy.OnViolation{Verdict: policy.VerdictKill, Alert: policy.SeverityCritical},
			}, {
				Name: "shells", Action: policy.ActionDeny, Processes: []policy.ProcessSelector{{Origins: []policy.Origin{policy.OriginExec}}},
			}},
		},
	}}
	if diff := cmp.Diff(want, got, equal()); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if got[0].Line != 3 || got[0].Spec.Rules[1].Line != 26 || got[0].File != "a.yaml" {
		t.Errorf("%s:%d, rule in line %d", got[0].File, got[0].Line, got[0].Spec.Rules[1].Line)
	}
	roundTrip(t, got)
}

// roundTrip fails where policies written as JSON are not read back as they were.
func roundTrip(t *testing.T, policies []*policy.Policy) {
	t.Helper()
	var stream strings.Builder
	for _, p := range policies {
		text, err := json.MarshalIndent(p, "", "\t")
		if err != nil {
			t.Fatal(err)
		}
		stream.WriteString("---\n" + string(text) + "\n")
	}
	again, err := policy.Parse("again.json", []byte(stream.String()))
	if err != nil {
		t.Fatalf("%v\n%s", err, stream.String())
	}
	if diff := cmp.Diff(policies, again, equal()); diff != "" {
		t.Errorf("(-first +again)\n%s", diff)
	}
}

func TestParseReadsTheExamples(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("../contrib/policies/*.yaml")
	if err != nil || len(files) < 3 {
		t.Fatalf("%d example policies, %v", len(files), err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		policies, err := policy.Parse(filepath.Base(file), data)
		if err != nil {
			t.Fatal(err)
		}
		// Documents of others are read into the model, and not written in their own form.
		roundTrip(t, slices.DeleteFunc(policies, func(p *policy.Policy) bool { return p.APIVersion != policy.APIVersion }))
	}
}

// in puts the text of one rule into a policy; the rule's first line is line 6 of the file.
func in(rule string) string {
	return "apiVersion: sallyport.dev/v1alpha1\nkind: ProcessPolicy\nmetadata: {name: p}\nspec:\n  podSelector: {}\n  rules: [" + rule + "]\n"
}

func TestParseTellsAllErrorsOfAFile(t *testing.T) {
	t.Parallel()
	text := `apiVersion: sallyport.dev/v1alpha1
kind: ProcessPolicy
metadata:
  name: Shop
  creationTimestamp: null
spec:
  mode: enforce
  rules:
  - name: a
    processes: []
    egres:
    - toCIDR: [10.0.0.0/8]
    egress:
    - toCIDR:
      - 10.0.0.0/8
      - 10.0.0.0/33
      toFQDNs: [{matchName: example.com/}]
      toPorts:
      - ports: [{port: "0", protocol: tcp}, {port: 80, endPort: 70}, {port: httpS}]
  - name: a
    ingress: [{fromEntities: [ingress]}]
    ingress: []
status: {}
---
kind: NetworkPolicy
apiVersion: networking.k8s.io/v1
`
	_, err := policy.Parse("shop.yaml", []byte(text))
	want := `shop.yaml:4:9: metadata.name: "Shop" is no name: lower case letters and digits, inside also - or ., at most 253
shop.yaml:5:3: metadata.creationTimestamp: is filled in by Kubernetes, a policy cannot set it: remove it
shop.yaml:7:3: spec.podSelector: is missing: podSelector: {} selects every pod of the namespace
shop.yaml:7:9: spec.mode: "enforce" is none of Enforce or Audit: did you mean Enforce?
shop.yaml:10:16: spec.rules[0].processes: is empty: it would select no process: leave the field out, or fill it
shop.yaml:11:5: spec.rules[0].egres: unknown field: did you mean egress?
shop.yaml:16:9: spec.rules[0].egress[0].toCIDR[1]: "10.0.0.0/33" is no CIDR: behind the / stands a number from 0 to 32
shop.yaml:17:29: spec.rules[0].egress[0].toFQDNs[0].matchName: "example.com/" is no name: a name has letters, digits, -, _ and dots; other letters are written as xn--…
shop.yaml:19:24: spec.rules[0].egress[0].toPorts[0].ports[0].port: 0 is no port: leave port out to mean every port of the protocol
shop.yaml:19:39: spec.rules[0].egress[0].toPorts[0].ports[0].protocol: "tcp" is none of TCP, UDP, SCTP, ICMP, ICMPv6 or ANY: did you mean TCP?
shop.yaml:19:65: spec.rules[0].egress[0].toPorts[0].ports[1].endPort: endPort 70 is below port 80
shop.yaml:19:77: spec.rules[0].egress[0].toPorts[0].ports[2].port: "httpS" is no port: a number from 1 to 65535
shop.yaml:20:5: spec.rules[1].name: "a" is also the name of rules[0]: rule names are unique in a policy
shop.yaml:21:31: spec.rules[1].ingress[0].fromEntities[0]: "ingress" is not supported yet: there are all, world, world-ipv4, world-ipv6, host, remote-node, cluster, kube-apiserver, health, metadata or none
shop.yaml:22:5: spec.rules[1].ingress: is there twice, first in line 21
shop.yaml:23:1: status: is filled in by Kubernetes, a policy cannot set it: remove it
shop.yaml:25:1: metadata: is missing: metadata: {name: NAME, namespace: NAMESPACE}
shop.yaml:25:1: spec: is missing: a policy without rules says nothing`
	if diff := cmp.Diff(want, fmt.Sprint(err)); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	var errs policy.Errors
	var one *policy.Error
	if !errors.As(err, &errs) || !errors.As(err, &one) || len(errs) != 18 || one != errs[0] {
		t.Errorf("%T is not the list of its errors", err)
	}
}

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct{ text, want string }{
		"no YAML":                  {"a: [", "no YAML"},
		"tab":                      {"a:\n\tb: c\n", "spaces, not tabs"},
		"empty file":               {"# nothing\n", "holds no policy"},
		"a list":                   {"[a]", "the document is a list, not a mapping"},
		"no kind":                  {"apiVersion: sallyport.dev/v1alpha1\n", "kind: is missing"},
		"other version":            {"apiVersion: sallyport.dev/v1\nkind: ProcessPolicy\n", `"sallyport.dev/v1" is not the version`},
		"misspelt kind":            {"apiVersion: a\nkind: ProcesPolicy\n", "did you mean ProcessPolicy?"},
		"cluster kind":             {"apiVersion: sallyport.dev/v1alpha1\nkind: ClusterProcessPolicy\nmetadata: {name: a, namespace: b}\n", "metadata.namespace: is not for a ClusterProcessPolicy"},
		"cluster selector":         {strings.Replace(in("{egress: []}"), "podSelector: {}", "podSelector: {}\n  namespaceSelector: {}\n  serviceAccounts: [a]", 1), "spec.namespaceSelector: is of a ClusterProcessPolicy"},
		"host selector":            {strings.Replace(in("{egress: []}"), "podSelector: {}", "hostSelector: {}", 1), "spec.hostSelector: is of a HostProcessPolicy"},
		"host's pods":              {"apiVersion: sallyport.dev/v1alpha1\nkind: HostProcessPolicy\nmetadata: {name: a}\nspec: {podSelector: {}, rules: [{egress: []}]}", "hostSelector: is missing"},
		"host's cgroup":            {"apiVersion: sallyport.dev/v1alpha1\nkind: HostProcessPolicy\nmetadata: {name: a}\nspec: {hostSelector: {cgroups: [a]}, rules: [{egress: []}]}", "cgroups[0]: \"a\" begins neither with /"},
		"kill otherwise":           {in("{action: Kill, onViolation: {verdict: Drop}}"), "action Kill and verdict Drop are two verdicts"},
		"user by name":             {in("{egress: [], processes: [{users: [root]}]}"), "users[0]: is a string, not a numeric id"},
		"user that is none":        {in("{egress: [], processes: [{users: [4294967295]}]}"), "not a numeric id"},
		"group too high":           {in("{egress: [], processes: [{groups: [4294967296]}]}"), "not a numeric id"},
		"half a script":            {in("{egress: [], processes: [{scripts: [{path: /a}]}]}"), "scripts[0].interpreter: is missing"},
		"arguments":                {in("{egress: [], processes: [{arguments: [-x]}]}"), "processes[0].arguments: is no identity"},
		"default deny":             {strings.Replace(in("{egress: []}"), "podSelector: {}", "podSelector: {}\n  enableDefaultDeny: {egress: yes please}", 1), "enableDefaultDeny.egress: is a string, not a boolean"},
		"no spec":                  {"apiVersion: sallyport.dev/v1alpha1\nkind: ProcessPolicy\nmetadata: {name: p}\n", "spec: is missing"},
		"no rules":                 {strings.Replace(in(""), "rules: []", "mode: Audit", 1), "spec.rules: is missing"},
		"empty rules":              {in(""), "spec.rules: is empty"},
		"twice":                    {complete + "---\n" + complete, "policy \"shop/checkout\" is there twice, first in line 1"},
		"allow nothing said":       {in("{name: a}"), "an Allow rule must name egress or ingress"},
		"null list":                {in("{egress: }"), "spec.rules[0].egress: is empty, not a list: write []"},
		"mapping for list":         {in("{egress: {toCIDR: [10.0.0.0/8]}}"), "is a mapping, not a list"},
		"string for list":          {in("{egress: [{toCIDR: 10.0.0.0/8}]}"), "is a string, not a list"},
		"number for string":        {in("{name: 1, egress: []}"), "is a number, not a string: put it into quotes"},
		"boolean label":            {strings.Replace(in("{egress: []}"), "podSelector: {}", "podSelector: {matchLabels: {a: true}}", 1), "is a boolean, not a string"},
		"deny empty list":          {in("{action: Deny, egress: []}"), "spec.rules[0].egress: is empty: a Deny rule would deny nothing"},
		"deny empty peers":         {in("{action: Deny, egress: [{}, {toCIDR: []}]}"), "spec.rules[0].egress[1]: has an empty list of peers"},
		"action audit":             {in("{action: Audit, egress: []}"), "a Deny rule would deny nothing"},
		"empty violation":          {in("{egress: [], onViolation: {}}"), "is empty: verdict, alert or both"},
		"relative binary":          {in("{egress: [], processes: [{binaries: [curl]}]}"), "begins neither with / nor with memfd:"},
		"bad glob":                 {in(`{egress: [], processes: [{binaries: ["/bin/{a,b}"]}]}`), "braces are not supported"},
		"misspelt origin":          {in("{egress: [], processes: [{origins: [exec]}]}"), "did you mean Exec?"},
		"http over any":            {in("{egress: [{toPorts: [{ports: [{port: 80}], rules: {http: [{}]}}]}]}"), "toPorts[0].rules.http: HTTP is read on TCP only, and a port is of ANY"},
		"http expression":          {in("{egress: [{toPorts: [{ports: [{port: 80, protocol: TCP}], rules: {http: [{path: '/(a'}]}}]}]}"), "http[0].path: \"/(a\" is no regular expression: missing closing )"},
		"http empty":               {in("{egress: [{toPorts: [{ports: [{port: 80, protocol: TCP}], rules: {http: [{method: ''}]}}]}]}"), "http[0].method: is empty: leave it out, or write .*"},
		"http header":              {in("{egress: [{toPorts: [{ports: [{port: 80, protocol: TCP}], rules: {http: [{headers: ['a b: c']}]}}]}]}"), "headers[0]: \"a b\" is no name of a header"},
		"http header value":        {in("{egress: [{toPorts: [{ports: [{port: 80, protocol: TCP}], rules: {http: [{headerMatches: [{name: a, value: \"b\\r\\nc: d\"}]}]}}]}]}"), "no control characters"},
		"http header twice":        {in("{egress: [{toPorts: [{ports: [{port: 80, protocol: TCP}], rules: {http: [{headers: ['X-A'], headerMatches: [{name: x-a, value: b}]}]}}]}]}"), "http[0]: demands the header \"x-a\" twice"},
		"http mismatch":            {in("{egress: [{toPorts: [{ports: [{port: 80, protocol: TCP}], rules: {http: [{headerMatches: [{name: a, value: b, mismatch: LOG}]}]}}]}]}"), "headerMatches[0].mismatch: is not supported yet"},
		"http denied":              {in("{action: Deny, egress: [{toPorts: [{ports: [{port: 80, protocol: TCP}], rules: {http: [{}]}}]}]}"), "a Deny rule cannot have rules or serverNames"},
		"http and dns":             {in("{egress: [{toPorts: [{ports: [{port: 80, protocol: TCP}], rules: {http: [{}], dns: [{matchName: a}]}}]}]}"), "rules: has more than one protocol"},
		"server name":              {in("{egress: [{toPorts: [{ports: [{port: 443, protocol: TCP}], serverNames: ['a/b']}]}]}"), "serverNames[0]: \"a/b\" is no name"},
		"server name and requests": {in("{egress: [{toPorts: [{ports: [{port: 443, protocol: TCP}], serverNames: [a], rules: {http: [{}]}}]}]}"), "serverNames cannot be combined with rules"},
		"server name of UDP":       {in("{egress: [{toPorts: [{ports: [{port: 443, protocol: UDP}], serverNames: [a]}]}]}"), "serverNames: TLS is read on TCP only, and a port is of UDP"},
		"no ports":                 {in("{egress: [{toPorts: []}]}"), "leave it out for every protocol and port"},
		"empty FQDN":               {in("{egress: [{toFQDNs: [{}]}]}"), "toFQDNs[0]: has not exactly one of matchName and matchPattern"},
		"two in one FQDN":          {in("{egress: [{toFQDNs: [{matchName: a, matchPattern: b}]}]}"), "has not exactly one of"},
		"pattern as name":          {in("{egress: [{toFQDNs: [{matchName: '*.a'}]}]}"), "matchPattern is for patterns"},
		"FQDN of a peer":           {in("{ingress: [{toFQDNs: [{matchName: a}]}]}"), "toFQDNs: unknown field"},
		"DNS without a port":       {in("{egress: [{toPorts: [{ports: [{protocol: UDP}], rules: {dns: [{matchName: a}]}}]}]}"), "toPorts[0].rules.dns: needs a port"},
		"DNS over SCTP":            {in("{egress: [{toPorts: [{ports: [{port: 53, protocol: SCTP}], rules: {dns: [{matchName: a}]}}]}]}"), "does not run over SCTP"},
		"DNS inwards":              {in("{ingress: [{toPorts: [{ports: [{port: 53}], rules: {dns: [{matchName: a}]}}]}]}"), "not possible for ingress"},
		"DNS denied":               {in("{action: Deny, egress: [{toPorts: [{ports: [{port: 53}], rules: {dns: [{matchName: a}]}}]}]}"), "cannot have rules or serverNames"},
		"empty DNS":                {in("{egress: [{toPorts: [{ports: [{port: 53}], rules: {dns: []}}]}]}"), "rules.dns: is empty"},
		"empty L7 rules":           {in("{egress: [{toPorts: [{ports: [{port: 53}], rules: {}}]}]}"), "toPorts[0].rules: is empty"},
		"label of a source":        {in("{egress: [{toEndpoints: [{matchLabels: {'reserved:host': ''}}]}]}"), "labels of the source \"reserved\" are not known"},
		"label of a cluster":       {in("{egress: [{toEndpoints: [{matchLabels: {io.cilium.k8s.policy.cluster: a}}]}]}"), "other clusters are not known"},
		"label, two sources":       {in("{egress: [{toEndpoints: [{matchLabels: {'k8s:a': b, 'any:a': c}}]}]}"), "is there twice, with another source"},
		"bad key":                  {in("{egress: [{toEndpoints: [{matchExpressions: [{key: 'a b', operator: Exists}]}]}]}"), "is no key of a label"},
		"source for a pod":         {strings.Replace(in("{egress: []}"), "podSelector: {}", "podSelector: {matchLabels: {'k8s:a': c}}", 1), "is no key of a label"},
		"two in one service":       {in("{egress: [{toServices: [{k8sService: {serviceName: a}, k8sServiceSelector: {selector: {}}}]}]}"), "toServices[0]: has not exactly one of"},
		"unnamed service":          {in("{egress: [{toServices: [{k8sService: {namespace: a}}]}]}"), "k8sService.serviceName: is missing"},
		"ports and icmps":          {in("{egress: [{toPorts: [{ports: [{port: 1}]}], icmps: [{fields: [{type: 8}]}]}]}"), "egress[0].icmps: an entry has toPorts or icmps, not both"},
		"icmp without type":        {in("{egress: [{icmps: [{fields: [{family: IPv6}]}]}]}"), "type: is missing"},
		"icmp of IPv6":             {in("{egress: [{icmps: [{fields: [{type: PacketTooBig}]}]}]}"), "\"PacketTooBig\" is no type of ICMP messages"},
		"range from a name":        {in("{egress: [{toPorts: [{ports: [{port: http, endPort: 90}]}]}]}"), "a port by its name begins no range"},
		"name to a name":           {in("{egress: [{toFQDNs: [{matchName: a}], toPorts: [{ports: [{port: http}]}]}]}"), "egress[0].toPorts: a port by its name is that of a pod"},
		"later peers":              {in("{egress: [{toGroups: []}]}"), "egress[0].toGroups: is not supported yet"},
		"port and protocol":        {in("{egress: [{toPorts: [{ports: [{}]}]}]}"), "names neither a port nor a protocol"},
		"icmp port":                {in("{egress: [{toPorts: [{ports: [{port: 8, protocol: ICMP}]}]}]}"), "ICMP has no ports"},
		"endPort alone":            {in("{egress: [{toPorts: [{ports: [{endPort: 8}]}]}]}"), "endPort without port"},
		"port too high":            {in("{egress: [{toPorts: [{ports: [{port: 65536}]}]}]}"), `"65536" is no port`},
		"port in hex":              {in("{egress: [{toPorts: [{ports: [{port: 0x50}]}]}]}"), `"0x50" is no port`},
		"port empty":               {in("{egress: [{toPorts: [{ports: [{port: ''}]}]}]}"), `"" is no port`},
		"host bits":                {in("{egress: [{toCIDR: [10.0.0.1/8]}]}"), "write 10.0.0.0/8 or 10.0.0.1/32"},
		"zone":                     {in("{egress: [{toCIDR: ['fe80::1%eth0']}]}"), "a zone"},
		"no address":               {in("{egress: [{toCIDR: [example.com]}]}"), "10.0.0.0/8, 2001:db8::/32"},
		"except outside":           {in("{egress: [{toCIDRSet: [{cidr: 10.0.0.0/8, except: [11.0.0.0/9]}]}]}"), "11.0.0.0/9 is not inside 10.0.0.0/8"},
		"except all":               {in("{egress: [{toCIDRSet: [{cidr: 10.0.0.0/8, except: [10.0.0.0/8]}]}]}"), "excepts all"},
		"cidr missing":             {in("{egress: [{toCIDRSet: [{}]}]}"), "cidr: is missing"},
		"Cilium's place":           {strings.Replace(in("{egress: []}"), "rules:", "egress: []\n  rules:", 1), "stands inside a rule"},
		"In without values":        {strings.Replace(in("{egress: []}"), "podSelector: {}", "podSelector: {matchExpressions: [{key: a, operator: In}]}", 1), "operator In needs values"},
		"Exists with values":       {strings.Replace(in("{egress: []}"), "podSelector: {}", "podSelector: {matchExpressions: [{key: a, operator: Exists, values: [b]}]}", 1), "takes no values"},
		"bad label key":            {strings.Replace(in("{egress: []}"), "podSelector: {}", "podSelector: {matchLabels: {'a b': c}}", 1), "is no key of a label"},
		"merge key":                {in("{<<: {name: a}, egress: []}"), "merge keys (<<) are not supported"},
		"binary tag":               {in("{name: !!binary YQ==, egress: []}"), "not a string"},
		"number as key":            {in("{1: a, egress: []}"), "the name of a field is a number"},
		"hostile field":            {in("{\"x\\e[2J\\ny\": a, egress: []}"), `spec.rules[0]["x\x1b[2J\ny"]: unknown field`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			policies, err := policy.Parse("f.yaml", []byte(tt.text))
			if err == nil || policies != nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%q does not say %q", fmt.Sprint(err), tt.want)
			}
		})
	}
}
