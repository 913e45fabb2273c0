// Package schema holds the generated JSON Schema and CRD manifests against the strict parser: what one
// refuses for its structure the other refuses too, and what the parser takes the schema takes.
package schema

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v3"

	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/policy/policytest"
)

const (
	root       = "../.."
	schemaFile = root + "/contrib/schema/policy.schema.json"
)

// compile reads a schema as a well-kept library does, which also checks the schema itself.
func compile(t *testing.T, doc any) *jsonschema.Schema {
	t.Helper()
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft2020)
	if err := c.AddResource("mem:schema", doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("mem:schema")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func policySchema(t *testing.T) *jsonschema.Schema {
	t.Helper()
	data, err := os.ReadFile(schemaFile)
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	return compile(t, doc)
}

// documents reads the YAML documents of a file as JSON has them.
func documents(t *testing.T, data []byte) (out []any) {
	t.Helper()
	stream := yaml.NewDecoder(bytes.NewReader(data))
	for {
		var doc any
		err := stream.Decode(&doc)
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		if doc != nil {
			out = append(out, plain(t, doc))
		}
	}
}

// plain makes of a value what reading its JSON makes.
func plain(t *testing.T, v any) any {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	out, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func examples(t *testing.T) map[string][]any {
	t.Helper()
	files, err := filepath.Glob(root + "/contrib/policies/*.yaml")
	if err != nil || len(files) < 3 {
		t.Fatalf("%d example policies, %v", len(files), err)
	}
	out := map[string][]any{}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		out[filepath.Base(file)] = documents(t, data)
	}
	return out
}

// ours says whether a document is of a kind that has a schema. Those of others keep their own.
func ours(doc any) bool {
	object, ok := doc.(map[string]any)
	return ok && object["apiVersion"] == policy.APIVersion
}

func TestExamplesAreValid(t *testing.T) {
	t.Parallel()
	s := policySchema(t)
	for file, docs := range examples(t) {
		for _, doc := range docs {
			if !ours(doc) {
				continue
			}
			if err := s.Validate(doc); err != nil {
				t.Errorf("%s: %v", file, err)
			}
		}
	}
}

func TestRandomPoliciesAreValid(t *testing.T) {
	t.Parallel()
	s := policySchema(t)
	for seed := range uint64(200) {
		c, err := policytest.Random(seed, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range c.Input.Policies {
			if doc := plain(t, p); ours(doc) && s.Validate(doc) != nil {
				t.Errorf("seed %d: %v", seed, s.Validate(doc))
			}
		}
	}
}

// structural are the messages of the parser about structure, which a schema can see as well. The others
// are about what values mean together.
var structural = regexp.MustCompile(`unknown field|is missing|is (a|an|of|empty|no) .*not |is none of|is empty: |names neither|not exactly one|is not supported|is not for|is of a|stands in`)

// complete has every field of every kind.
const complete = `apiVersion: sallyport.dev/v1alpha1
kind: ProcessPolicy
metadata: {name: checkout, namespace: shop, labels: {team: pay}, annotations: {example.com/why: "a b"}}
spec:
  description: what it is for
  podSelector:
    matchLabels: {app: checkout}
    matchExpressions: [{key: tier, operator: In, values: [a, b]}]
  mode: Audit
  onViolation: {verdict: Drop, alert: info}
  enableDefaultDeny: {egress: true, ingress: false}
  rules:
  - name: first
    description: why
    action: Allow
    processes:
    - origins: [Main, Unknown]
      containers: [check*]
      containerTypes: [App, Sidecar]
      binaries: [/usr/bin/checkout, "memfd:*"]
      scripts: [{interpreter: /usr/bin/python3, path: /app/**}]
      users: [0, 1000]
      groups: [7]
    egress:
    - toCIDR: [10.0.0.0/8, "2001:db8::/32"]
      toCIDRSet: [{cidr: 172.16.0.0/12, except: [172.16.1.0/24]}]
      toEntities: [world]
      toFQDNs: [{matchName: a.example}, {matchPattern: "*.example"}]
      toEndpoints: [{matchLabels: {"k8s:io.kubernetes.pod.namespace": shop, app: web}, matchExpressions: [{key: tier, operator: Exists}]}]
      toPorts: [{ports: [{port: "443", protocol: TCP}, {port: 8000, endPort: 8099}]}]
    - toServices: [{k8sService: {serviceName: web, namespace: shop}}, {k8sServiceSelector: {selector: {matchLabels: {app: web}}, namespace: shop}}]
    - icmps: [{fields: [{family: IPv6, type: 128}, {type: EchoRequest}]}]
    - toPorts: [{ports: [{port: "53"}], rules: {dns: [{matchPattern: "*"}]}}]
    - toPorts:
      - ports: [{port: "80", protocol: TCP}]
        rules: {http: [{method: GET, path: /a/.*, host: a, headers: [X-A], headerMatches: [{name: X-B, value: b}]}]}
      - ports: [{port: "50051", protocol: TCP}]
        rules: {grpc: [{service: a.v1.S, method: Get}]}
      - {ports: [{port: "443", protocol: TCP}], serverNames: ["*.example"]}
    ingress:
    - fromCIDR: [10.0.0.0/8]
      fromCIDRSet: [{cidr: 172.16.0.0/12, except: [172.16.1.0/24]}]
      fromEntities: [host]
      fromEndpoints: [{}]
      toPorts: [{ports: [{protocol: ICMP}]}]
    onViolation: {verdict: Kill, alert: critical}
---
apiVersion: sallyport.dev/v1alpha1
kind: ClusterProcessPolicy
metadata: {name: all}
spec:
  podSelector: {}
  namespaceSelector: {matchLabels: {team: pay}}
  serviceAccounts: [robot, shop/checkout]
  rules: [{action: Deny}]
---
apiVersion: sallyport.dev/v1alpha1
kind: HostProcessPolicy
metadata: {name: node}
spec:
  hostSelector: {units: [ssh.service], cgroups: [/system.slice/**]}
  rules: [{action: Kill}]
---
apiVersion: sallyport.dev/v1alpha1
kind: ProcessPolicyList
metadata: {resourceVersion: "1"}
items:
- {apiVersion: sallyport.dev/v1alpha1, kind: ProcessPolicy, metadata: {name: a}, spec: {podSelector: {}, rules: [{action: Deny}]}}
`

// TestSchemaAndParserAgree changes documents in every place and asks both.
func TestSchemaAndParserAgree(t *testing.T) {
	t.Parallel()
	s := policySchema(t)
	asked, refused := 0, 0
	for _, doc := range documents(t, []byte(complete)) {
		if err := s.Validate(doc); err != nil {
			t.Fatal(err)
		}
		if errs := parse(t, doc); errs != nil {
			t.Fatal(errs)
		}
		mutate(doc, func(change string) {
			asked++
			invalid, errs := s.Validate(doc), parse(t, doc)
			switch {
			case invalid != nil && errs == nil:
				t.Errorf("%s: the parser takes what the schema refuses: %v", change, invalid)
			case invalid == nil && isStructural(errs):
				t.Errorf("%s: the schema takes what the parser refuses: %v", change, errs)
			case invalid != nil:
				refused++
			}
		})
		if err := s.Validate(doc); err != nil {
			t.Fatalf("the changes were not undone: %v", err)
		}
	}
	if asked < 500 || refused < asked/2 {
		t.Errorf("only %d changes were asked about, and %d refused", asked, refused)
	}
}

// TestCompleteIsComplete demands that the documents which are changed have every field that there is.
func TestCompleteIsComplete(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile(schemaFile)
	if err != nil {
		t.Fatal(err)
	}
	there := map[string]bool{}
	for _, doc := range documents(t, []byte(complete)) {
		visit(doc, func(name string, _ any) { there[name] = true })
	}
	visit(documents(t, data)[0], func(name string, v any) {
		properties, ok := v.(map[string]any)
		if name != "properties" || !ok {
			return
		}
		for field := range properties {
			if !there[field] {
				t.Errorf("no document has the field %s", field)
			}
		}
	})
}

// visit calls see for every field of every mapping.
func visit(v any, see func(name string, v any)) {
	switch v := v.(type) {
	case map[string]any:
		for name, value := range v {
			see(name, value)
			visit(value, see)
		}
	case []any:
		for _, item := range v {
			visit(item, see)
		}
	}
}

// parse asks the strict parser about a document.
func parse(t *testing.T, doc any) policy.Errors {
	t.Helper()
	text, err := json.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	_, err = policy.Parse("p.json", text)
	var errs policy.Errors
	if err != nil && !errors.As(err, &errs) {
		t.Fatal(err)
	}
	return errs
}

// isStructural says whether there are errors and all of them are about structure.
func isStructural(errs policy.Errors) bool {
	for _, e := range errs {
		if !structural.MatchString(e.Message) {
			return false
		}
	}
	return len(errs) > 0
}

// mutate changes a document in one place after the other, and undoes each change after asking.
func mutate(doc any, ask func(change string)) { walk("", doc, func(any) {}, ask) }

func walk(path string, v any, set func(any), ask func(string)) {
	for _, other := range []any{map[string]any{}, []any{}, "text", json.Number("7"), json.Number("1.5"), true, nil, map[string]any{"x": []any{}}, []any{map[string]any{}}, []any{"text"}} {
		set(other)
		if path != "" {
			ask(fmt.Sprintf("%s: %v", path, other))
		}
	}
	set(v)
	switch v := v.(type) {
	case map[string]any:
		v["zzz"] = "unknown"
		ask(path + ".zzz")
		delete(v, "zzz")
		for name, value := range v {
			delete(v, name)
			ask("without " + path + "." + name)
			v[strings.ToUpper(name)] = value
			ask("misspelt " + path + "." + name)
			delete(v, strings.ToUpper(name))
			v[name] = value
		}
		for name, value := range v {
			walk(path+"."+name, value, func(other any) { v[name] = other }, ask)
		}
	case []any:
		for i, item := range v {
			walk(path+"["+strconv.Itoa(i)+"]", item, func(other any) { v[i] = other }, ask)
		}
	}
}
