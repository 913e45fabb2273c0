package kube

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// PolicyStatus is what the agents say about a policy, in its object.
type PolicyStatus struct {
	ObservedGeneration int64              `json:"observedGeneration,omitzero"` // that the summary is about
	Workloads          int                `json:"workloads"`                   // on all nodes
	Enforcing          string             `json:"enforcing,omitzero"`          // nodes that enforce it, of those that it is about: 2/3
	Conditions         []metav1.Condition `json:"conditions,omitzero"`
	Nodes              []NodeStatus       `json:"nodes,omitzero"`
}

// NodeStatus is what one node's agent says about a policy.
type NodeStatus struct {
	Name               string             `json:"name"` // of the node
	ObservedGeneration int64              `json:"observedGeneration"`
	Workloads          int                `json:"workloads"` // that it selects
	Conditions         []metav1.Condition `json:"conditions"`
}

// The conditions of a policy, in the order in which they come true.
const (
	Accepted = "Accepted" // the parser understands it
	Compiled = "Compiled" // it can be in force, together with the others
	Enforced = "Enforced" // it is
)

// Say is what this node says about a policy.
type Say struct {
	Generation int64
	Workloads  int
	Conditions [3]Condition // Accepted, Compiled, Enforced
}

// Condition is one of the conditions.
type Condition struct {
	True    bool
	Reason  string // one word
	Message string
}

// maxMessage bounds the message of a condition, in bytes; Kubernetes' own bound is larger.
const maxMessage = 2048

// conditions writes conditions down. What has not changed keeps the time of its last transition.
func conditions(list [3]Condition, generation int64, before []metav1.Condition, now time.Time) []metav1.Condition {
	out := make([]metav1.Condition, 0, len(list))
	for i, name := range []string{Accepted, Compiled, Enforced} {
		c := metav1.Condition{
			Type: name, Status: metav1.ConditionFalse, ObservedGeneration: generation, LastTransitionTime: metav1.NewTime(now.UTC().Truncate(time.Second)),
			Reason: list[i].Reason, Message: list[i].Message[:min(len(list[i].Message), maxMessage)],
		}
		if list[i].True {
			c.Status = metav1.ConditionTrue
		}
		at := slices.IndexFunc(before, func(b metav1.Condition) bool { return b.Type == name && b.Status == c.Status })
		if at >= 0 {
			c.LastTransitionTime = before[at].LastTransitionTime
		}
		out = append(out, c)
	}
	return out
}

// saysAll says whether conditions say what they would be replaced by.
func saysAll(a, b []metav1.Condition) bool {
	return slices.EqualFunc(a, b, func(a, b metav1.Condition) bool {
		a.LastTransitionTime, b.LastTransitionTime = metav1.Time{}, metav1.Time{}
		return a == b
	})
}

// matters says whether a node's word belongs into a policy's status: it is about workloads there, or something is wrong.
// A cluster's other nodes are left out, so that the object stays small and the agents need not write.
func (s Say) matters() bool {
	return s.Workloads > 0 || slices.ContainsFunc(s.Conditions[:], func(c Condition) bool { return !c.True })
}

// maxNodes bounds the nodes in a policy's status. Every write of one is told to all nodes.
const maxNodes = 100

// entry is what a policy's status should have of this node; false: nothing.
func (s Say) entry(node string, now *PolicyStatus, at time.Time) (NodeStatus, bool) {
	before, there := nodeOf(now, node)
	if !s.matters() || !there && len(now.Nodes) >= maxNodes {
		return NodeStatus{}, false
	}
	return NodeStatus{
		Name: node, ObservedGeneration: s.Generation, Workloads: s.Workloads,
		Conditions: conditions(s.Conditions, s.Generation, before.Conditions, at),
	}, true
}

// nodeOf returns what a status has of a node.
func nodeOf(s *PolicyStatus, node string) (NodeStatus, bool) {
	at := slices.IndexFunc(s.Nodes, func(n NodeStatus) bool { return n.Name == node })
	if at < 0 {
		return NodeStatus{}, false
	}
	return s.Nodes[at], true
}

// sameNode says whether a node's entry says what it would be replaced by.
func sameNode(a, b NodeStatus) bool {
	return a.Name == b.Name && a.ObservedGeneration == b.ObservedGeneration && a.Workloads == b.Workloads && saysAll(a.Conditions, b.Conditions)
}

// summary sums up what the nodes say of a policy that this node says own of. Nodes that are not there any more do not
// count, and of those that have not seen the newest version only that.
func summary(p *Policy, own Say, nodes map[string]bool, at time.Time) PolicyStatus {
	out := PolicyStatus{ObservedGeneration: p.Generation}
	all := own.Conditions
	enforcing, about := 0, 0
	for _, n := range p.Status.Nodes {
		if !nodes[n.Name] {
			continue
		}
		about++
		out.Workloads += n.Workloads
		if n.ObservedGeneration != p.Generation {
			worse(&all[2], Condition{Reason: "Waiting", Message: "node " + n.Name + " has not seen it"})
			continue
		}
		said := map[string]metav1.Condition{}
		for _, c := range n.Conditions {
			said[c.Type] = c
		}
		for i, name := range []string{Accepted, Compiled, Enforced} {
			if c := said[name]; c.Status != metav1.ConditionTrue {
				worse(&all[i], Condition{Reason: cmp.Or(c.Reason, "Waiting"), Message: "node " + n.Name + ": " + c.Message})
			}
		}
		if said[Enforced].Status == metav1.ConditionTrue {
			enforcing++
		}
	}
	out.Enforcing = fmt.Sprintf("%d/%d", enforcing, about)
	if all[2].True {
		all[2].Message = fmt.Sprintf("%d workloads on %d nodes", out.Workloads, about)
	}
	out.Conditions = conditions(all, p.Generation, p.Status.Conditions, at)
	return out
}

// worse takes over a condition that is not true; the first stays.
func worse(c *Condition, by Condition) {
	if c.True {
		*c = by
	}
}

// sameSummary says whether a summary says what it would be replaced by.
func sameSummary(a, b *PolicyStatus) bool {
	return a.ObservedGeneration == b.ObservedGeneration && a.Workloads == b.Workloads && a.Enforcing == b.Enforcing && saysAll(a.Conditions, b.Conditions)
}
