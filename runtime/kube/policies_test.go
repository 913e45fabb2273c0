package kube

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sallyport/sallyport/runtime/identity"
	"github.com/sallyport/sallyport/tests/testutil/fakeapi"
)

const processPolicies = "/apis/sallyport.dev/v1alpha1/processpolicies"

// TestPoliciesOfCRDsThatComeAndGo has a cluster without CRDs, in which one is installed later.
func TestPoliciesOfCRDsThatComeAndGo(t *testing.T) {
	t.Parallel()
	api := fakeapi.New(t)
	s := start(t, api, func(s *Source) { s.lookAgain = 50 * time.Millisecond })
	now := eventually(t, s, "a cluster without policies", func(Snapshot) bool { return true })
	if len(now.Policies) != 0 || s.Health().Away {
		t.Errorf("known are %+v, and the API is %s", now.Policies, s.Health())
	}
	api.Serve(processPolicies, "ProcessPolicy")
	api.Put(t, processPolicies, `{"metadata":{"namespace":"shop","name":"a","uid":"u","generation":3,"labels":{"x":"y"},"annotations":{"z":"z"},"managedFields":[{}]},
	 "spec":{"podSelector":{},"rules":[]},"status":{"workloads":4,"nodes":[{"name":"n","observedGeneration":3,"workloads":4,"conditions":[]}]}}`)
	now = eventually(t, s, "a policy", func(s Snapshot) bool { return len(s.Policies) == 1 })
	want := `{"apiVersion":"sallyport.dev/v1alpha1","kind":"ProcessPolicy","metadata":{"name":"a","namespace":"shop"},"spec":{"podSelector":{},"rules":[]}}`
	p := now.Policies[0]
	if diff := cmp.Diff(want, string(p.Document)); diff != "" || p.Key() != "processpolicies/shop/a" || p.Generation != 3 || p.Status.Workloads != 4 || len(p.Status.Nodes) != 1 {
		t.Errorf("the policy is %+v, its document (-want +got):\n%s", p, diff)
	}
	api.Unserve(processPolicies)
	eventually(t, s, "no policy", func(s Snapshot) bool { return len(s.Policies) == 0 })
}

func TestNetworkPoliciesAreReadWhereThatIsAsked(t *testing.T) {
	t.Parallel()
	api := fakeapi.New(t)
	api.Put(t, "/apis/networking.k8s.io/v1/networkpolicies", `{"metadata":{"namespace":"shop","name":"a"},"spec":{}}`)
	s := start(t, api, func(*Source) {})
	if now := eventually(t, s, "a cluster", func(Snapshot) bool { return true }); len(now.Policies) != 0 {
		t.Errorf("known are %+v", now.Policies)
	}
	of := func(c Config) (names []string) {
		for _, r := range policyResources(c, func() {}) {
			names = append(names, r.Resource)
		}
		return names
	}
	if got := strings.Join(of(Config{NetworkPolicies: true, CiliumPolicies: true}), " "); got != "processpolicies clusterprocesspolicies hostprocesspolicies networkpolicies ciliumnetworkpolicies ciliumclusterwidenetworkpolicies" {
		t.Errorf("followed are %s", got)
	}
}

func TestCallsTravelAsEvents(t *testing.T) {
	t.Parallel()
	call := Call{Kind: "exec", Caller: identity.Caller{
		Time: time.Now().Round(time.Second).UTC(), User: "alice\n", Namespace: "shop", Pod: "web", Container: "app", Args: []string{"sh", "-c", "\x00\xff"},
	}}
	event, err := callEvent("sallyport", call)
	if err != nil {
		t.Fatal(err)
	}
	event.UID = "u"
	var got []Call
	sink := callSink{func(c Call) { got = append(got, c) }}
	old := event.DeepCopy()
	old.Annotations[callAnnotation] = strings.Replace(old.Annotations[callAnnotation], `"Time":"2`, `"Time":"1`, 1)
	broken := event.DeepCopy()
	broken.Annotations = nil
	if err := sink.Replace([]any{old, broken, event}, ""); err != nil {
		t.Fatal(err)
	}
	call.Caller.ID, call.Caller.Args[2] = "u", "\x00�" // JSON has no other bytes
	if diff := cmp.Diff([]Call{call}, got); diff != "" {
		t.Errorf("heard (-want +got):\n%s", diff)
	}
	call.Caller.Args = []string{strings.Repeat("x", maxCall)}
	if _, err := callEvent("sallyport", call); err == nil {
		t.Error("a call without bounds is written down")
	}
}
