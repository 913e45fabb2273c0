package kube

import (
	"fmt"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func says(generation int64, workloads int, ok bool) Say {
	c := [3]Condition{{True: true, Reason: "Valid"}, {True: true, Reason: "Compiled"}, {True: ok, Reason: "Enforcing"}}
	return Say{Generation: generation, Workloads: workloads, Conditions: c}
}

func entryOf(t *testing.T, node string, s Say) NodeStatus {
	t.Helper()
	e, ok := s.entry(node, &PolicyStatus{}, time.Unix(1000, 0))
	if !ok {
		t.Fatalf("node %s has nothing to say", node)
	}
	return e
}

func TestNodesWithNothingToSayAreLeftOut(t *testing.T) {
	t.Parallel()
	full := &PolicyStatus{}
	for i := range maxNodes {
		full.Nodes = append(full.Nodes, NodeStatus{Name: fmt.Sprint("node-", i)})
	}
	for what, tc := range map[string]struct {
		say  Say
		node string
		now  *PolicyStatus
		want bool
	}{
		"no workloads":                 {says(1, 0, true), "a", &PolicyStatus{}, false},
		"workloads":                    {says(1, 1, true), "a", &PolicyStatus{}, true},
		"an error":                     {says(1, 0, false), "a", &PolicyStatus{}, true},
		"there are enough":             {says(1, 1, true), "a", full, false},
		"it is one of those there are": {says(1, 1, true), "node-7", full, true},
	} {
		if _, got := tc.say.entry(tc.node, tc.now, time.Now()); got != tc.want {
			t.Errorf("%s: %t, want %t", what, got, tc.want)
		}
	}
}

func TestConditionsKeepTheTimeOfTheirTransition(t *testing.T) {
	t.Parallel()
	first := entryOf(t, "a", says(1, 1, true))
	now := &PolicyStatus{Nodes: []NodeStatus{first}}
	later, _ := says(2, 3, false).entry("a", now, time.Unix(2000, 0))
	for i, want := range []int64{1000, 1000, 2000} {
		if got := later.Conditions[i].LastTransitionTime.Unix(); got != want {
			t.Errorf("%s changed at %d, want %d", later.Conditions[i].Type, got, want)
		}
	}
	if same, _ := says(1, 1, true).entry("a", now, time.Unix(3000, 0)); !sameNode(first, same) {
		t.Error("what says the same is another entry")
	}
	if sameNode(first, later) {
		t.Error("what says something else is the same entry")
	}
}

func TestSummary(t *testing.T) {
	t.Parallel()
	nodes := map[string]bool{"a": true, "b": true, "c": true}
	enforcing := func(s PolicyStatus) string {
		c := s.Conditions[2]
		return fmt.Sprint(s.Workloads, " ", s.Enforcing, " ", c.Status, " ", c.Reason)
	}
	for what, tc := range map[string]struct {
		own  Say
		said []NodeStatus
		want string
	}{
		"nobody has workloads": {says(2, 0, true), nil, "0 0/0 True Enforcing"},
		"two nodes enforce":    {says(2, 1, true), []NodeStatus{entryOf(t, "a", says(2, 1, true)), entryOf(t, "b", says(2, 3, true))}, "4 2/2 True Enforcing"},
		"one does not":         {says(2, 1, true), []NodeStatus{entryOf(t, "a", says(2, 1, true)), entryOf(t, "b", says(2, 3, false))}, "4 1/2 False Enforcing"},
		"one has not seen it":  {says(2, 1, true), []NodeStatus{entryOf(t, "a", says(2, 1, true)), entryOf(t, "b", says(1, 3, true))}, "4 1/2 False Waiting"},
		"one is gone":          {says(2, 1, true), []NodeStatus{entryOf(t, "a", says(2, 1, true)), entryOf(t, "gone", says(2, 3, false))}, "1 1/1 True Enforcing"},
	} {
		p := &Policy{Generation: 2, Status: PolicyStatus{Nodes: tc.said}}
		got := summary(p, tc.own, nodes, time.Unix(1000, 0))
		if enforcing(got) != tc.want {
			t.Errorf("%s: %s, want %s", what, enforcing(got), tc.want)
		}
		if again := summary(&Policy{Generation: 2, Status: PolicyStatus{Nodes: tc.said, Conditions: got.Conditions}}, tc.own, nodes, time.Unix(9000, 0)); !sameSummary(&got, &again) ||
			again.Conditions[0].LastTransitionTime != metav1.NewTime(time.Unix(1000, 0).UTC()) {
			t.Errorf("%s: a second summary is another: %+v", what, again)
		}
	}
}

func TestStatusesAreNotWrittenAllAtOnce(t *testing.T) {
	t.Parallel()
	w := newWriter(nil)
	now := time.Unix(1000, 0)
	wait := func() time.Duration { return time.Second }
	for _, step := range []struct {
		at      time.Duration
		differs bool
		want    bool
		what    string
	}{
		{0, true, false, "it is noted"},
		{500 * time.Millisecond, true, false, "it is not its turn"},
		{time.Second, true, true, "its turn"},
		{2 * time.Second, true, false, "again, too soon"},
		{4 * time.Second, true, false, "still too soon"},
		{6 * time.Second, true, true, "the pause is over"},
		{20 * time.Second, true, false, "noted anew"},
		{20500 * time.Millisecond, false, false, "somebody else has written it"},
		{22 * time.Second, true, false, "and another waits its turn again"},
	} {
		if got := w.ripe("a", step.differs, now.Add(step.at), wait); got != step.want {
			t.Errorf("%s: %t", step.what, got)
		}
	}
	if a, b := turn(0), turn(3); a != 0 || b != 3*rankPause {
		t.Errorf("the first waits %s, the fourth %s", a, b)
	}
	if long := managerOf(string(make([]byte, 253))); len(long) > 128 || managerOf("a") != "sallyport-node-a" {
		t.Errorf("managers are called %q", long)
	}
}
