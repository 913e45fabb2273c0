package format_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/policy/format"
	"github.com/sallyport/sallyport/policy/policytest"
)

const untidy = `# Top of the file.

# About the policy.
kind:   "ProcessPolicy"
apiVersion: 'sallyport.dev/v1alpha1'
spec:
    rules:
        # Before the first.
        - egress:
            - {toPorts: [{ports: [{"protocol": TCP, port: "443"}, {port: 8000, endPort: 8099}]}], toCIDR: ["10.0.0.0/8", '2001:db8::/32']} # two
            - {}
          name: "first"
          processes: [{binaries: ["/usr/bin/*",
             # the shell
             '/bin/sh'], origins: [Main]}]
          # After the first.
        - {action: Deny, name: second, processes: [{origins: [Exec]}]} # nobody
    podSelector: # which
        matchExpressions: [{operator: In, values: ["yes", "1", on], key: tier}]
        matchLabels: {"app.kubernetes.io/name": "checkout", a: "", b: '#1'}
metadata: {namespace: shop, name: "checkout", annotations: {why: "one\ntwo\n", very-long-annotation: "a text that does not fit behind the others on one line"}}
# End of the first.
---
{"apiVersion": "sallyport.dev/v1alpha1", "kind": "ProcessPolicy", "metadata": {"name": "json"}, "spec": {"podSelector": {}, "rules": [{"ingress": []}]}}
`

const tidy = `# Top of the file.

# About the policy.
apiVersion: sallyport.dev/v1alpha1
kind: ProcessPolicy
metadata:
  name: checkout
  namespace: shop
  annotations:
    why: |
      one
      two
    very-long-annotation: a text that does not fit behind the others on one line
spec:
  podSelector: # which
    matchLabels: {app.kubernetes.io/name: checkout, a: "", b: '#1'}
    matchExpressions: [{key: tier, operator: In, values: ["yes", "1", "on"]}]
  rules:
  # Before the first.
  - name: first
    processes:
    - origins: [Main]
      binaries:
      - /usr/bin/*
      # the shell
      - /bin/sh
    egress:
    # two
    - toCIDR: [10.0.0.0/8, '2001:db8::/32']
      toPorts:
      - ports: [{port: "443", protocol: TCP}, {port: 8000, endPort: 8099}]
    - {}
    # After the first.
  # nobody
  - name: second
    processes:
    - origins: [Exec]
    action: Deny

# End of the first.
---
apiVersion: sallyport.dev/v1alpha1
kind: ProcessPolicy
metadata:
  name: json
spec:
  podSelector: {}
  rules:
  - ingress: []
`

func TestFormat(t *testing.T) {
	t.Parallel()
	got, err := format.Format("f.yaml", []byte(untidy))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(tidy, string(got)); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestFormatJSON(t *testing.T) {
	t.Parallel()
	got, err := format.Format("f.json", []byte(`{"kind": "ProcessPolicy", "apiVersion": "sallyport.dev/v1alpha1", "metadata": {"name": "p", "labels": {"b": "<\"", "a": "1"}},
		"spec": {"rules": [{"egress": [{"toPorts": [{"ports": [{"protocol": "TCP", "port": 443}]}]}]}], "podSelector": {}}}`))
	if err != nil {
		t.Fatal(err)
	}
	const want = `{
  "apiVersion": "sallyport.dev/v1alpha1",
  "kind": "ProcessPolicy",
  "metadata": {
    "name": "p",
    "labels": {
      "b": "<\"",
      "a": "1"
    }
  },
  "spec": {
    "podSelector": {},
    "rules": [
      {
        "egress": [
          {
            "toPorts": [
              {
                "ports": [
                  {
                    "port": 443,
                    "protocol": "TCP"
                  }
                ]
              }
            ]
          }
        ]
      }
    ]
  }
}
`
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

const minimal = "apiVersion: sallyport.dev/v1alpha1\nkind: ProcessPolicy\nmetadata: {name: p}\nspec: {podSelector: {}, rules: [{egress: []}]}\n"

func TestFormatLeavesAnchorsInPlace(t *testing.T) {
	t.Parallel()
	got, err := format.Format("f.yaml", []byte(strings.Replace(minimal, "[{egress: []}]", "[{name: a, egress: &e [{toCIDR: [10.0.0.0/8]}]}, {ingress: [], name: b, egress: *e}]", 1)))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(got), "egress: &e\n") || !strings.Contains(string(got), "- ingress: []\n    name: b\n    egress: *e\n") {
		t.Errorf("got\n%s", got)
	}
}

func TestFormatOthersDocuments(t *testing.T) {
	t.Parallel()
	got, err := format.Format("f.yaml", []byte(`
spec: {podSelector: {}, policyTypes: ["Ingress"], ingress: [{ports: [{port: 80}], from: [{podSelector: {matchLabels: {a: b}}}]}]}
metadata: {name: net}
kind: NetworkPolicy
apiVersion: networking.k8s.io/v1
---
kind: List
items: [{spec: {rules: [{egress: []}], podSelector: {}}, kind: ProcessPolicy, metadata: {name: p}, apiVersion: sallyport.dev/v1alpha1}]
apiVersion: v1
`))
	const want = `apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: net
spec:
  podSelector: {}
  policyTypes: [Ingress]
  ingress:
  - ports: [{port: 80}]
    from:
    - {podSelector: {matchLabels: {a: b}}}
---
apiVersion: v1
kind: List
items:
- apiVersion: sallyport.dev/v1alpha1
  kind: ProcessPolicy
  metadata:
    name: p
  spec:
    podSelector: {}
    rules:
    - egress: []
`
	if diff := cmp.Diff(want, string(got)); diff != "" || err != nil {
		t.Errorf("%v (-want +got)\n%s", err, diff)
	}
}

func TestFormatTestCases(t *testing.T) {
	t.Parallel()
	got, err := format.Format("t.yaml", []byte("kind: PolicyTest\napiVersion: sallyport.dev/v1alpha1\ncases: [{expect: Deny, to: '192.0.2.1:443', name: \"a\"}]\n"))
	const want = "apiVersion: sallyport.dev/v1alpha1\nkind: PolicyTest\ncases:\n- {name: a, to: '192.0.2.1:443', expect: Deny}\n"
	if err != nil || string(got) != want {
		t.Errorf("%v\n%s", err, got)
	}
}

func TestFormatRefuses(t *testing.T) {
	t.Parallel()
	var errs policy.Errors
	if got, err := format.Format("f.yaml", []byte("kind: ProcessPolicy\n")); got != nil || !errors.As(err, &errs) {
		t.Errorf("%q, %v", got, err)
	}
	if got, err := format.Format("f.yaml", []byte(strings.Repeat("# x\n", policy.MaxFileSize/4+1))); got != nil || !errors.As(err, &errs) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}

func TestFormatExamples(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("../../contrib/policies/*.yaml")
	if err != nil || len(files) < 3 {
		t.Fatalf("%d example policies, %v", len(files), err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		check(t, data)
	}
}

func TestFormatRandomPolicies(t *testing.T) {
	t.Parallel()
	for seed := range uint64(60) {
		c, err := policytest.Random(seed, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range c.Input.Policies {
			text, err := json.Marshal(p)
			if err != nil {
				t.Fatal(err)
			}
			check(t, text)
			check(t, append([]byte("# JSON in a YAML file\n"), text...))
		}
	}
}

// check formats what parses, and fails where that changes what it means, loses a comment or does not end.
func check(t *testing.T, data []byte) {
	t.Helper()
	got, err := format.Format("f.yaml", data)
	if err != nil {
		t.Fatalf("%v\n%s", err, data)
	}
	again, err := format.Format("f.yaml", got)
	if err != nil || !bytes.Equal(got, again) {
		t.Fatalf("formatted twice: %v\n%s", err, cmp.Diff(string(got), string(again)))
	}
	same(t, data, got)
	if before, after := strings.Count(string(data), "# "), strings.Count(string(got), "# "); before != after {
		t.Errorf("%d comments became %d\n%s", before, after, got)
	}
}

// same fails where two files do not mean the same.
func same(t *testing.T, a, b []byte) {
	t.Helper()
	var texts [2]string
	for i, data := range [][]byte{a, b} {
		policies, err := policy.Parse("f.yaml", data)
		if err != nil {
			t.Fatalf("%v\n%s", err, data)
		}
		text, err := json.Marshal(policies)
		if err != nil {
			t.Fatal(err)
		}
		texts[i] = string(text)
	}
	if texts[0] != texts[1] {
		t.Errorf("%s became %s", texts[0], texts[1])
	}
}

func FuzzFormat(f *testing.F) {
	f.Add([]byte(untidy))
	f.Add([]byte(tidy))
	f.Add([]byte(minimal))
	f.Add([]byte("kind: List\napiVersion: v1\nitems: [{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: n}, spec: {podSelector: {}}}]\n"))
	f.Add([]byte("# c\napiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {name: c}\nspecs: [{endpointSelector: {}, egressDeny: [{}]}]\n"))
	f.Add([]byte(strings.Replace(minimal, "spec", "# c\n? spec\n", 1)))
	f.Add([]byte("%YAML 1.2\n---\n!!map\n" + minimal + "...\n# end\n"))
	f.Add([]byte(strings.Replace(minimal, "p}", "!!str p, annotations: {a: |+\n\n x\n\n}}", 1)))
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 1<<14 {
			return
		}
		got, err := format.Format("f.yaml", data)
		if err != nil {
			if got != nil || errors.Is(err, format.ErrMeaning) && !bytes.ContainsAny(data, "!&*") {
				t.Errorf("%v\n%s", err, data)
			}
			return
		}
		if again, err := format.Format("f.yaml", got); err != nil || !bytes.Equal(got, again) {
			t.Errorf("formatted twice: %v\n%s", err, cmp.Diff(string(got), string(again)))
		}
	})
}
