package policy_test

import (
	"testing"

	"github.com/sallyport/sallyport/policy"
)

func TestKeep(t *testing.T) {
	t.Parallel()
	parse := func(a, b string) []*policy.Policy {
		policies, err := policy.Parse("f.yaml", []byte(in("{name: "+a+", egress: [{toPorts: [{ports: [{port: 80, protocol: TCP}], rules: {http: [{path: '/a.*'}]}}]}]}")+
			"---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: n}\nspec: {podSelector: {matchLabels: {app: "+b+"}}}\n"))
		if err != nil {
			t.Fatal(err)
		}
		return policies
	}
	before, now := parse("a", "x"), parse("a", "y")
	kept := policy.Keep(before, now)
	if kept[0] != before[0] || kept[1] != now[1] || now[0] == before[0] {
		t.Errorf("%p %p of %p %p and %p %p", kept[0], kept[1], before[0], before[1], now[0], now[1])
	}
	if kept := policy.Keep(nil, now); kept[0] != now[0] {
		t.Error("a policy is lost")
	}
}
