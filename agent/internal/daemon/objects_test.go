package daemon

import (
	"fmt"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/policy/compile"
	"github.com/sallyport/sallyport/probes/judge"
	"github.com/sallyport/sallyport/runtime/identity"
	"github.com/sallyport/sallyport/runtime/kube"
)

func objectOf(generation int64, rules string) *kube.Policy {
	return &kube.Policy{
		Resource: "processpolicies", Namespace: "shop", Name: "a", Generation: generation,
		Document: []byte(`{"apiVersion":"sallyport.dev/v1alpha1","kind":"ProcessPolicy","metadata":{"name":"a","namespace":"shop"},"spec":{"podSelector":{},"rules":` + rules + `}}`),
	}
}

const (
	oneRule  = `[{"name":"r","egress":[]}]`
	noRule   = `[{"name":"r","egress":[{"toCIDR":["no"]}]}]`
	twoRules = `[{"name":"r","egress":[]},{"name":"s","ingress":[]}]`
	key      = "processpolicies/shop/a"
)

func TestBrokenObjectsKeepTheirLastGoodVersion(t *testing.T) {
	t.Parallel()
	first, read := readObjects([]*kube.Policy{objectOf(1, oneRule)}, nil)
	if o := first[key]; len(read) != 1 || o.err != nil || len(o.policies) != 1 {
		t.Fatalf("read is %+v", o)
	}
	second, read := readObjects([]*kube.Policy{objectOf(1, oneRule)}, first)
	if len(read) != 0 || second[key].policies[0] != first[key].policies[0] {
		t.Error("what has not changed is read again")
	}
	broken, read := readObjects([]*kube.Policy{objectOf(2, noRule)}, second)
	o := broken[key]
	if len(read) != 1 || len(o.policies) != 1 || o.policies[0] != first[key].policies[0] {
		t.Errorf("a broken one is %+v", o)
	}
	if want := key + ": spec.rules[0].egress[0].toCIDR[0]: "; o.err == nil || !strings.HasPrefix(o.err.Error(), want) {
		t.Errorf("the error is %v, want %s", o.err, want)
	}
	if gone, _ := readObjects(nil, broken); len(gone) != 0 {
		t.Errorf("left are %+v", gone)
	}
}

func TestAFileOfTheNodeWinsOverAnObject(t *testing.T) {
	t.Parallel()
	objects, _ := readObjects([]*kube.Policy{objectOf(1, oneRule)}, nil)
	policies, err := policy.Parse("a.yaml", objectOf(1, twoRules).Document)
	if err != nil {
		t.Fatal(err)
	}
	c := &cluster{objects: objects}
	both := c.sources(map[string]policyFile{"a.yaml": {policies: policies}})
	if f := both[key]; f.err == nil || !strings.Contains(f.err.Error(), "a.yaml") || len(f.policies) != 0 {
		t.Errorf("the object is %+v", f)
	}
	if in := flatten(both); len(in) != 1 || len(in[0].Spec.Rules) != 2 {
		t.Errorf("in force is %+v", in)
	}
	if alone := c.sources(map[string]policyFile{}); len(flatten(alone)) != 1 {
		t.Errorf("without the file there is %+v", alone)
	}
}

// TestWhatBecameOfPolicies has an engine that compiles as it does with a kernel, and what it says to the API.
func TestWhatBecameOfPolicies(t *testing.T) {
	t.Parallel()
	e := &engine{a: &agent{judge: &judge.Judge{}}}
	good, err := policy.Parse("g", objectOf(1, oneRule).Document)
	if err != nil {
		t.Fatal(err)
	}
	says := func(c [3]kube.Condition) (out []string) {
		for _, one := range c {
			out = append(out, fmt.Sprint(one.True, " ", one.Reason))
		}
		return out
	}
	for what, tc := range map[string]struct {
		got  [3]kube.Condition
		want string
	}{
		"good":                 {e.becameOf(&snapshot{}, good[0], good[0]), "[true Valid true Compiled true Enforcing]"},
		"refused":              {e.becameOf(&snapshot{compileErr: errEnding}, good[0], nil), "[true Valid false Refused false NotCompiled]"},
		"refused, with former": {e.becameOf(&snapshot{compileErr: errEnding}, good[0], &policy.Policy{}), "[true Valid false Refused false FormerVersion]"},
		"broken":               {fails(0, "Invalid", "x", false), "[false Invalid false NotAccepted false NotAccepted]"},
		"broken, with former":  {fails(0, "Invalid", "x", true), "[false Invalid false NotAccepted false FormerVersion]"},
	} {
		if got := fmt.Sprint(says(tc.got)); got != tc.want {
			t.Errorf("%s: %s, want %s", what, got, tc.want)
		}
	}
}

func TestWorkloadsAreCountedOnce(t *testing.T) {
	t.Parallel()
	objects, _ := readObjects([]*kube.Policy{objectOf(1, oneRule)}, nil)
	w := newWorkloads(nil)
	for i, name := range []string{"app", "sidecar"} {
		c := container(name, uint64(i+1))
		c.Pod = identity.Pod{Namespace: "shop", Name: "web"}
		w.put(c)
	}
	tables := compileFor(t, objects[key].policies, w)
	w.covered(tables)
	covers := coverage(&snapshot{tables: tables, containers: w.list()})
	if got := fmt.Sprint(covers); got != "map[shop/a:[shop/web]]" {
		t.Errorf("covered is %s", got)
	}
}

func compileFor(t *testing.T, policies []*policy.Policy, w *workloads) *compile.Tables {
	t.Helper()
	tables, err := compile.Enforced{}.Compile(compile.Input{Policies: policies, Workloads: w.input(nil)})
	if err != nil {
		t.Fatal(err)
	}
	return tables
}
