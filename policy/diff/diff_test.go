package diff_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/policy/diff"
	"github.com/sallyport/sallyport/policy/flows"
)

const seen = `{"kind":"connect","call":"connect","namespace":"shop","container":"a","podLabels":"app=a","origin":"Main","peer":"192.0.2.1:443/TCP","verdict":"Allow"}
{"kind":"connect","call":"connect","namespace":"shop","container":"a","podLabels":"app=a","origin":"Main","peer":"192.0.2.1:80/TCP"}
{"kind":"connect","call":"connect","namespace":"shop","container":"a","podLabels":"app=a","origin":"Exec","peer":"192.0.2.1:443/TCP","verdict":"Deny","rule":"shop/old/x"}
{"kind":"connect","call":"connect","namespace":"shop","container":"b","origin":"Main","peer":"192.0.2.1:443/TCP","verdict":"Audit","would":"Deny"}
`

func input(t *testing.T, rules string) *policy.Input {
	t.Helper()
	policies, err := policy.Parse("p.yaml", []byte("apiVersion: sallyport.dev/v1alpha1\nkind: ProcessPolicy\nmetadata: {name: p, namespace: shop}\n"+
		"spec: {podSelector: {matchLabels: {app: a}}, rules: ["+rules+"]}\n"))
	if err != nil {
		t.Fatal(err)
	}
	return &policy.Input{Policies: policies}
}

func TestCompare(t *testing.T) {
	t.Parallel()
	log, err := flows.Read(strings.NewReader(seen), flows.Options{})
	if err != nil {
		t.Fatal(err)
	}
	show := func(changes []diff.Change) (out []string) {
		for _, c := range changes {
			out = append(out, fmt.Sprint(c.Flow.Process.Workload.Container, c.Flow.Process.Origin, c.Flow.Call.Port, " ", c.Was.Verdict, " ", c.Was.Rule, " > ",
				c.Will.Verdict, " ", c.Will.Rule, " differs ", c.Differs(), " opens ", c.Opens(), " closes ", c.Closes()))
		}
		return out
	}
	only443 := input(t, "{name: r, egress: [{toPorts: [{ports: [{port: 443}]}]}]}")
	want := []string{
		"aExec443 Deny shop/old/x > Allow shop/p/r differs true opens true closes false",
		"aMain80 Allow  > Deny shop/p/r differs true opens false closes true",
		"aMain443 Allow  > Allow shop/p/r differs false opens false closes false",
		"bMain443 Audit  > Allow  differs true opens false closes false",
	}
	if diff := cmp.Diff(want, show(diff.Compare(log.Flows, nil, only443))); diff != "" {
		t.Errorf("from what was recorded (-want +got)\n%s", diff)
	}
	want = []string{
		"aExec443 Allow shop/p/r > Deny shop/p/s differs true opens false closes true",
		"aMain80 Deny shop/p/r > Allow  differs true opens true closes false",
		"aMain443 Allow shop/p/r > Allow  differs false opens false closes false",
		"bMain443 Allow  > Allow  differs false opens false closes false",
	}
	if diff := cmp.Diff(want, show(diff.Compare(log.Flows, only443, input(t, "{name: s, action: Deny, processes: [{origins: [Exec]}]}")))); diff != "" {
		t.Errorf("from policies (-want +got)\n%s", diff)
	}
	if n := diff.Unlabelled(log.Flows, only443.Policies); n != 1 {
		t.Errorf("%d flows without labels", n)
	}
}

// TestCompareWhatWasSaid: a change of rules.dns, rules.http or serverNames is one of recorded queries, requests and names, the calls
// staying as they are.
func TestCompareWhatWasSaid(t *testing.T) {
	t.Parallel()
	const head = `"namespace":"shop","container":"a","podLabels":"app=a","origin":"Main",`
	const said = `{"kind":"connect","call":"connect",` + head + `"peer":"10.0.0.10:53/UDP"}
{"kind":"dns",` + head + `"peer":"10.0.0.10:53/UDP","query":"a.example","answer":true,"verdict":"Allow"}
{"kind":"dns",` + head + `"peer":"10.0.0.10:53/UDP","query":"b.example","verdict":"Deny"}
{"kind":"dns",` + head + `"peer":"10.0.0.10:53/UDP","query":"forged.example","answer":true,"verdict":"Deny"}
{"kind":"request","call":"packet-out",` + head + `"peer":"192.0.2.1:80/TCP","method":"GET","path":"/a\\u0062","host":"h","verdict":"Allow"}
{"kind":"request","call":"packet-in",` + head + `"peer":"192.0.2.1:999/TCP","local":"10.0.0.2:8080/TCP","method":"PUT","path":"/","verdict":"Allow"}
{"kind":"request","call":"packet-out",` + head + `"peer":"192.0.2.1:80/TCP","flaw":"syntax","verdict":"Deny"}
{"kind":"hello","call":"packet-out",` + head + `"peer":"192.0.2.1:443/TCP","serverName":"tls.example","verdict":"Allow"}
`
	long := `{"kind":"request","call":"packet-out",` + head + `"peer":"192.0.2.1:80/TCP","method":"GET","path":"/` + strings.Repeat("a", 255) + `","verdict":"Allow"}`
	log, err := flows.Read(strings.NewReader(said+long), flows.Options{})
	if err != nil {
		t.Fatal(err)
	}
	skipped := map[string]int{
		"it is an answer to nothing, which no policy judges": 1, "what was said cannot be read, which no policy judges": 1, "what was said may be cut": 1,
	}
	if diff := cmp.Diff(skipped, log.Skipped); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	to := input(t, `{name: dns, egress: [{toPorts: [{ports: [{port: "53", protocol: UDP}], rules: {dns: [{matchName: b.example}]}}]}]},
{name: web, egress: [{toPorts: [{ports: [{port: "80", protocol: TCP}], rules: {http: [{path: /ab}]}}, {ports: [{port: "443", protocol: TCP}], serverNames: [other.example]}]}],
ingress: [{toPorts: [{ports: [{port: "8080", protocol: TCP}], rules: {http: [{method: GET, headers: [X-A]}]}}]}]}`)
	var got []string
	for _, c := range diff.Compare(log.Flows, nil, to) {
		got = append(got, fmt.Sprintf("%s %s: %s > %s", c.Flow.Call, c.Flow.Said(), c.Was.Verdict, c.Will.Verdict))
	}
	want := []string{
		"10.0.0.10:53/UDP : Allow > Allow",
		"10.0.0.10:53/UDP query a.example: Allow > Deny",
		"10.0.0.10:53/UDP query b.example: Deny > Allow",
		"192.0.2.1:80/TCP request GET h/ab: Allow > Allow",
		"192.0.2.1:443/TCP server name tls.example: Allow > Deny",
		"192.0.2.1:8080/TCP request PUT /: Allow > Deny",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if !diff.NeedsHeaders(log.Flows, to.Policies) || diff.NeedsHeaders(nil, to.Policies) || diff.NeedsHeaders(log.Flows, nil) {
		t.Error("whether headers are missing is told wrongly")
	}
}

func TestNeedsCluster(t *testing.T) {
	t.Parallel()
	for rules, want := range map[string]bool{
		"{egress: [{toCIDR: [10.0.0.0/8]}, {toEntities: [host, all]}]}": false,
		"{action: Deny}":                                             false,
		"{egress: [{}, {toEndpoints: [{}]}]}":                        true,
		"{ingress: [{fromEntities: [host, cluster]}]}":               true,
		"{egress: [{toServices: [{k8sService: {serviceName: a}}]}]}": true,
	} {
		if got := diff.NeedsCluster(input(t, rules).Policies); got != want {
			t.Errorf("%s: %v", rules, got)
		}
	}
}

// TestCompareUnits: flows of the node's units are judged by the policies for those, and lack no labels.
func TestCompareUnits(t *testing.T) {
	t.Parallel()
	log, err := flows.Read(strings.NewReader(`{"kind":"connect","call":"connect","container":"nginx.service","containerID":"/system.slice/nginx.service","containerType":"Unit","origin":"Main","peer":"192.0.2.1:443/TCP","verdict":"Allow"}
{"kind":"connect","call":"connect","container":"ssh.service","containerID":"/system.slice/ssh.service","containerType":"Unit","origin":"Main","peer":"192.0.2.1:443/TCP","verdict":"Allow"}
`), flows.Options{})
	if err != nil {
		t.Fatal(err)
	}
	policies, err := policy.Parse("p.yaml", []byte(`
apiVersion: sallyport.dev/v1alpha1
kind: HostProcessPolicy
metadata: {name: web}
spec: {hostSelector: {units: [nginx.service]}, rules: [{name: r, egress: [{toPorts: [{ports: [{port: 80}]}]}]}]}
---
apiVersion: sallyport.dev/v1alpha1
kind: ClusterProcessPolicy
metadata: {name: pods}
spec: {podSelector: {matchLabels: {app: a}}, rules: [{name: r, action: Deny}]}
`))
	if err != nil {
		t.Fatal(err)
	}
	if n := diff.Unlabelled(log.Flows, policies); n != 0 {
		t.Errorf("%d flows of units lack labels", n)
	}
	var got []string
	for _, c := range diff.Compare(log.Flows, nil, &policy.Input{Policies: policies}) {
		got = append(got, fmt.Sprint(c.Flow.Process.Workload.Host.Unit, " ", c.Will.Verdict, " ", c.Will.Rule, " closes ", c.Closes()))
	}
	if diff := cmp.Diff([]string{"nginx.service Deny HostProcessPolicy:web/r closes true", "ssh.service Allow  closes false"}, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}
