// Package diff says what other policies would decide about what was seen.
//
// It is pure: it imports policy, policy/flows and policy/match.
package diff

import (
	"slices"

	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/policy/flows"
	"github.com/sallyport/sallyport/policy/match"
)

// Change is one flow, and what is decided about it before and after.
type Change struct {
	Flow flows.Flow
	Was  match.Decision // of the old policies, or else as it was recorded
	Will match.Decision
	Why  string // Will in one sentence, where the flow fares otherwise
}

// Differs says whether the flow fares otherwise: the verdict changes, or what stands behind an audit.
// Another rule that decides the same is no difference.
func (c *Change) Differs() bool {
	return c.Was.Verdict != c.Will.Verdict || c.Was.Would != c.Will.Would
}

// Opens says whether what was stopped passes.
func (c *Change) Opens() bool { return c.Was.Denies() && !c.Will.Denies() }

// Closes says whether what passed is stopped.
func (c *Change) Closes() bool { return !c.Was.Denies() && c.Will.Denies() }

// Compare judges flows by new policies, and by old ones unless from is nil: then what was recorded counts.
func Compare(list []flows.Flow, from, to *policy.Input) []Change {
	out := make([]Change, 0, len(list))
	for _, f := range list {
		c := Change{Flow: f, Was: recorded(&f)}
		if from != nil {
			c.Was = match.Decide(*from, f.Process, f.Question())
		}
		c.Will = match.Decide(*to, f.Process, f.Question())
		if c.Differs() {
			c.Why = match.Ask(*to, f.Process, f.Question()).Why
		}
		out = append(out, c)
	}
	return out
}

// recorded is the decision that an event told. An event without a verdict was not stopped.
func recorded(f *flows.Flow) match.Decision {
	d := match.Decision{Verdict: f.Verdict, Would: f.Would, Rule: f.Rule}
	if d.Verdict == "" {
		d.Verdict = policy.VerdictAllow
	}
	return d
}

// Unlabelled counts the flows whose pods' labels are not known although a policy of their namespace
// selects by labels: it cannot be told whether it is about them.
func Unlabelled(list []flows.Flow, policies []*policy.Policy) int {
	selecting := map[string]bool{}
	for _, p := range policies {
		if s := p.Spec.PodSelector; len(s.MatchLabels)+len(s.MatchExpressions) > 0 {
			selecting[p.Metadata.Namespace] = true
		}
	}
	n := 0
	for i := range list {
		if w := &list[i].Process.Workload; w.Host == nil && w.Labels == nil && selecting[w.Namespace] {
			n++
		}
	}
	return n
}

// NeedsHeaders says whether policies ask for headers of requests, which events do not tell, and requests were seen.
func NeedsHeaders(list []flows.Flow, policies []*policy.Policy) bool {
	if !slices.ContainsFunc(list, func(f flows.Flow) bool { return f.Request != nil }) {
		return false
	}
	return anyEntry(policies, func(e *policy.Entry) bool {
		return slices.ContainsFunc(e.HTTP, func(r policy.HTTPRule) bool { return len(r.Demands()) > 0 })
	})
}

// NeedsCluster says whether policies select peers by what they are in the cluster, which events do not
// tell: to judge by such policies, the cluster must be known.
func NeedsCluster(policies []*policy.Policy) bool {
	return anyEntry(policies, func(e *policy.Entry) bool { return ofCluster(&e.Peers) })
}

// anyEntry says whether an entry of a rule is one that is asked for.
func anyEntry(policies []*policy.Policy, is func(*policy.Entry) bool) bool {
	for _, p := range policies {
		for i := range p.Spec.Rules {
			for _, d := range []policy.Direction{policy.Egress, policy.Ingress} {
				entries, _, _ := p.Spec.Rules[i].Entries(d)
				for e := range entries {
					if is(&entries[e]) {
						return true
					}
				}
			}
		}
	}
	return false
}

func ofCluster(p *policy.Peers) bool {
	return p.Endpoints != nil || p.Services != nil || slices.ContainsFunc(p.Entities, func(e policy.Entity) bool {
		return !slices.Contains([]policy.Entity{policy.EntityAll, policy.EntityHost, policy.EntityMetadata, policy.EntityNone}, e)
	})
}
