package policies

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/sallyport/sallyport/tests/testutil"
)

const good = `apiVersion: sallyport.dev/v1alpha1
kind: ProcessPolicy
metadata: {name: good, namespace: shop, annotations: {example.com/note: "1"}, labels: {a: b}}
spec:
  podSelector: {}
  rules:
  - name: api
    egress: [{toEntities: [kube-apiserver]}, {toEndpoints: [{matchLabels: {app: web}}]}]
`

// broken passes the schema, and no parser.
const broken = `apiVersion: sallyport.dev/v1alpha1
kind: ClusterProcessPolicy
metadata: {name: broken}
spec:
  podSelector: {}
  rules:
  - name: names
    egress: [{toFQDNs: [{matchPattern: "a.***.example"}]}]
`

// unsupported is right, and not enforced on this kernel.
const unsupported = `apiVersion: sallyport.dev/v1alpha1
kind: HostProcessPolicy
metadata: {name: host}
spec:
  hostSelector: {}
  rules: [{name: job, processes: [{scripts: [{interpreter: /bin/sh, path: /a}]}], egress: []}]
`

const networkPolicy = `apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: netpol, namespace: shop}
spec: {podSelector: {matchLabels: {app: web}}, policyTypes: [Ingress], ingress: [{from: [{podSelector: {}}], ports: [{port: 80}]}]}
`

// TestPoliciesComeFromTheAPI has an agent that says of each policy what became of it, in the API and in its status, also
// over a time in which the API is away.
func TestPoliciesComeFromTheAPI(t *testing.T) {
	api := newAPI(t)
	a := newAgent(t, api.Kubeconfig(t, "agent", agentUser))
	a.shows(t, "kubernetes", "connected", "node-1")
	api.Apply(t, good+"---\n"+broken+"---\n"+unsupported+"---\n"+networkPolicy)
	row(t, api, "processpolicies", "good", "True", "Enforcing", "0/0")
	row(t, api, "clusterprocesspolicies", "broken", "False", "NotAccepted", "toFQDNs[0].matchPattern")
	row(t, api, "hostprocesspolicies", "host", "True", "NotCompiled")
	a.shows(t, "shop/good", "processpolicies/shop/good")
	a.shows(t, "NetworkPolicy:shop/netpol", "networkpolicies/shop/netpol")
	testutil.Eventually(t, "the node says what is wrong", func() error {
		message := api.Must(t, "get", "clusterprocesspolicies", "broken", "-o", `jsonpath={.status.nodes[0].conditions[?(@.type=="Accepted")].message}`)
		if !strings.HasPrefix(message, "clusterprocesspolicies/broken: spec.rules[0].egress[0].toFQDNs[0].matchPattern: ") {
			return fmt.Errorf("the condition says %q", message)
		}
		return nil
	})

	// What was good and is broken keeps its last good version.
	api.Apply(t, strings.Replace(good, "matchLabels: {app: web}", `matchLabels: {"io.kubernetes.pod.namespace": shop}, matchExpressions: [{key: a, operator: In}]`, 1))
	row(t, api, "processpolicies", "good", "False", "FormerVersion")
	api.Apply(t, good)
	row(t, api, "processpolicies", "good", "True", "Enforcing")

	api.Stop(t, syscall.SIGKILL)
	a.shows(t, "kubernetes", "away")
	a.shows(t, "shop/good")
	testutil.Eventually(t, "an alert", func() error { return a.told("cannot be heard") })
	api.Start(t)
	api.Must(t, "delete", "processpolicies", "-n", "shop", "good")
	a.shows(t, "kubernetes", "connected")
	testutil.Eventually(t, "the policy is gone", func() error {
		out, err := a.status()
		if err == nil && strings.Contains(out, "shop/good") {
			err = fmt.Errorf("it is in\n%s", out)
		}
		return err
	})
	testutil.Eventually(t, "an alert", func() error { return a.told("is heard again") })
}

// told says whether an alert holds a text.
func (a *agent) told(text string) error {
	alerts, err := os.ReadFile(a.path("alerts.jsonl"))
	if err == nil && !strings.Contains(string(alerts), text) {
		err = os.ErrNotExist
	}
	return err
}

// TestStatusIsWrittenOnce has a policy whose status stays as it is while nothing changes.
func TestStatusIsWrittenOnce(t *testing.T) {
	api := newAPI(t)
	newAgent(t, api.Kubeconfig(t, "agent", agentUser))
	api.Apply(t, good+"---\n"+broken)
	row(t, api, "processpolicies", "good", "True", "Enforcing")
	row(t, api, "clusterprocesspolicies", "broken", "NotAccepted", "0/1")
	version := func() string {
		return api.Must(t, "get", "clusterprocesspolicies", "broken", "-o", "jsonpath={.metadata.resourceVersion}")
	}
	before := version()
	api.Apply(t, networkPolicy) // compiles everything again
	api.Apply(t, "apiVersion: v1\nkind: Namespace\nmetadata: {name: other}\n")
	api.Apply(t, strings.Replace(good, "name: good", "name: later", 1))
	row(t, api, "processpolicies", "later", "True", "Enforcing")
	if after := version(); after != before {
		t.Errorf("the status was written again: version %s, then %s\n%s", before, after, api.Must(t, "get", "clusterprocesspolicies", "broken", "-o", "yaml"))
	}

	// What a node has said that is gone is removed by those that are there.
	api.Apply(t, "apiVersion: v1\nkind: Node\nmetadata: {name: node-0}\n")
	r, err := api.Kubectl(t, `{"apiVersion":"sallyport.dev/v1alpha1","kind":"ClusterProcessPolicy","metadata":{"name":"broken"},
	 "status":{"nodes":[{"name":"gone","observedGeneration":1,"workloads":7,"conditions":[]}]}}`,
		"apply", "--server-side", "--subresource=status", "--field-manager=sallyport-node-gone", "-f", "-")
	if err != nil || r.Code != 0 {
		t.Fatal(err, r)
	}
	testutil.Eventually(t, "the entry is gone", func() error {
		names := api.Must(t, "get", "clusterprocesspolicies", "broken", "-o", "jsonpath={.status.nodes[*].name}")
		if names != "node-1" {
			return os.ErrExist
		}
		return nil
	})
}

// TestTheSchemaRefuses has an API server that refuses at apply what its schema can tell.
func TestTheSchemaRefuses(t *testing.T) {
	api := newAPI(t)
	for name, tc := range map[string]struct{ from, to, want string }{
		"an unknown field":      {"podSelector: {}", "podSelector: {}, podSelectr: {}", `unknown field "spec.podSelectr"`},
		"a word that is none":   {"toEntities: [kube-apiserver]", "toEntities: [moon]", "spec.rules[0].egress[0].toEntities[0]: Unsupported value"},
		"no selector":           {"podSelector: {}", "mode: Audit", "spec.podSelector: Required value"},
		"two rules of one name": {"  - name: api\n", "  - {name: api, egress: []}\n  - name: api\n", "rule names are unique"},
		"a rule about nothing":  {"egress: [{toEntities: [kube-apiserver]}, {toEndpoints: [{matchLabels: {app: web}}]}]", "description: x", "an Allow rule must name egress or ingress"},
	} {
		text := strings.Replace(good, tc.from, tc.to, 1)
		if name == "an unknown field" {
			text = strings.Replace(good, "  podSelector: {}\n", "  podSelector: {}\n  podSelectr: {}\n", 1)
		}
		r, err := api.Kubectl(t, text, "apply", "-f", "-")
		if err != nil || r.Code == 0 || !strings.Contains(r.Stderr, tc.want) {
			t.Errorf("%s: %v, exit code %d: %s", name, err, r.Code, r.Stderr)
		}
	}
}
