package daemon

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/policy/compile"
)

// version is a policy with one rule. What is not enforced yet cannot be compiled.
func version(t *testing.T, name, rule string, compiles bool) *policy.Policy {
	t.Helper()
	text := policyNamed(name, rule)
	if !compiles {
		text = strings.ReplaceAll(text, "action: Deny", "action: Deny, egress: [{toEntities: [cluster]}]")
	}
	parsed, err := policy.Parse(name, []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return parsed[0]
}

func rulesIn(t *compile.Tables) (out []string) {
	for i := range t.Rulesets {
		for _, r := range t.Rulesets[i].Rules {
			if name := r.Name + " " + r.Direction.String(); r.Direction == compile.Egress {
				out = append(out, strings.TrimSuffix(strings.TrimPrefix(name, "shop/"), " egress"))
			}
		}
	}
	return out
}

// One policy that cannot be compiled must not hold back the others, and never takes away what was in force.
func TestCompileSet(t *testing.T) {
	a1, a2, aBad := version(t, "a", "one", true), version(t, "a", "two", true), version(t, "a", "bad", false)
	b1, b2, bBad := version(t, "b", "one", true), version(t, "b", "two", true), version(t, "b", "bad", false)
	type set = []*policy.Policy
	for name, tc := range map[string]struct {
		policies, accepted set
		want               []string
		refused            string // the policy that is
	}{
		"all right":                    {set{a1, b1}, nil, []string{"a/one", "b/one"}, ""},
		"a new one is wrong":           {set{a1, bBad}, nil, []string{"a/one"}, "shop/b"},
		"a changed one is wrong":       {set{a2, bBad}, set{a1, b1}, []string{"a/two", "b/one"}, "shop/b"},
		"all are wrong":                {set{aBad, bBad}, nil, nil, "shop/a"},
		"all are wrong, and were not":  {set{aBad, bBad}, set{a1, b2}, []string{"a/one", "b/two"}, "shop/b"},
		"a former one is wrong by now": {set{a2, bBad}, set{a1, bBad}, nil, "shop/b"},
	} {
		t.Run(name, func(t *testing.T) {
			in := compile.Input{Policies: tc.policies, Workloads: []compile.Workload{{Key: 1, Namespace: "shop", Container: "c"}}}
			tables, refused, err := compileSet(compile.NewCompiler(compile.Enforced{}), &in, tc.accepted)
			if name == "a former one is wrong by now" {
				if err == nil || tables != nil {
					t.Fatalf("got tables without what was in force: %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, rulesIn(tables)); diff != "" {
				t.Errorf("rules (-want +got):\n%s", diff)
			}
			if (refused != nil) != (tc.refused != "") {
				t.Errorf("refused %v", refused)
			}
			if text := refusal(refused, tc.refused); tc.refused != "" && !strings.Contains(text, "entity cluster") {
				t.Errorf("status says of %s: %q", tc.refused, text)
			}
			if text := refusal(refused, "shop/other"); text != "" {
				t.Errorf("status says of a policy that is right: %q", text)
			}
		})
	}
}

// An error of no policy leaves everything as it was.
func TestCompileSetOfNoPolicy(t *testing.T) {
	twice := []compile.Workload{{Key: 1, Namespace: "shop"}, {Key: 1, Namespace: "shop"}}
	in := compile.Input{Policies: []*policy.Policy{version(t, "a", "one", true)}, Workloads: twice}
	_, refused, err := compileSet(compile.NewCompiler(compile.Enforced{}), &in, nil)
	if refused == nil || err == nil || refusal(refused, "shop/a") == "" || refusal(fmt.Errorf("reading: %w", err), "x") == "" {
		t.Errorf("got %v, %v", refused, err)
	}
}
