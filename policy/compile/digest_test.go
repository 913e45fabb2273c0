package compile_test

import (
	"strings"
	"testing"

	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/policy/compile"
)

// TestDigest: the digest of a container's rules is another one where anything of them is, and the same after other policies, and after
// a restart, which compiles all anew.
func TestDigest(t *testing.T) {
	t.Parallel()
	const rules = "  - {name: web, egress: [{toPorts: [{ports: [{port: \"80\", protocol: TCP}], rules: {http: [{path: /chat}]}}]}]}"
	of := func(policies ...*policy.Policy) uint32 {
		t.Helper()
		tables, err := compile.Compile(compile.Input{Policies: policies, Workloads: []compile.Workload{workload(7, "web")}})
		if err != nil {
			t.Fatal(err)
		}
		return tables.Rulesets[tables.Containers[7]].Digest
	}
	was := of(parse(t, "a", rules))
	if was == 0 {
		t.Error("a digest is 0")
	}
	other := parse(t, "b", "  - {name: all, egress: []}")
	other.Spec.PodSelector.MatchLabels = map[string]string{"app": "other"}
	for name, now := range map[string]uint32{
		"again": of(parse(t, "a", rules)), "beside another policy": of(parse(t, "a", rules), other), "elsewhere in its file": of(parse(t, "a", "\n"+rules)),
	} {
		if now != was {
			t.Errorf("%s the digest is another one", name)
		}
	}
	audit := parse(t, "a", rules)
	audit.Spec.Mode = policy.ModeAudit
	for name, now := range map[string]uint32{
		"of another path":    of(parse(t, "a", strings.Replace(rules, "/chat", "/chats", 1))),
		"of another port":    of(parse(t, "a", strings.Replace(rules, "80", "81", 1))),
		"of another name":    of(parse(t, "c", rules)),
		"with a policy more": of(parse(t, "a", rules), parse(t, "b", "  - {name: all, egress: []}")),
		"in another mode":    of(audit),
		"that is empty":      of(),
	} {
		if now == was {
			t.Errorf("the digest of one %s is the same", name)
		}
	}
}
