package compile

import (
	"cmp"
	"maps"
	"slices"

	"github.com/sallyport/sallyport/policy"
)

// ranked is a policy and where it stands among all.
type ranked struct {
	*policy.Policy
	rank uint32
}

// candidates finds the policies that may select a workload without asking all of them.
type candidates map[string]*ofNamespace

// ofNamespace is the policies of a namespace: by a label that their workloads must have, or without one.
type ofNamespace struct {
	byLabel map[[2]string][]ranked
	rest    []ranked
}

// newCandidates arranges policies, which are in their order.
func newCandidates(policies []*policy.Policy) candidates {
	c := candidates{}
	for i, p := range policies {
		n := c[p.Metadata.Namespace]
		if n == nil {
			n = &ofNamespace{byLabel: map[[2]string][]ranked{}}
			c[p.Metadata.Namespace] = n
		}
		one := ranked{p, uint32(i)}
		labels := p.Spec.PodSelector.MatchLabels
		if len(labels) == 0 {
			n.rest = append(n.rest, one)
			continue
		}
		key := slices.Min(slices.Collect(maps.Keys(labels)))
		at := [2]string{key, labels[key]}
		n.byLabel[at] = append(n.byLabel[at], one)
	}
	return c
}

// of returns those that may select a workload, in the order of all.
func (c candidates) of(w *Workload) (out []ranked) {
	out = c.in("", w, out)
	if w.Namespace != "" {
		out = c.in(w.Namespace, w, out)
	}
	slices.SortFunc(out, func(a, b ranked) int { return cmp.Compare(a.rank, b.rank) })
	return out
}

// in appends those of a namespace.
func (c candidates) in(namespace string, w *Workload, out []ranked) []ranked {
	n := c[namespace]
	if n == nil {
		return out
	}
	out = append(out, n.rest...)
	for key, value := range w.Labels {
		out = append(out, n.byLabel[[2]string{key, value}]...)
	}
	return out
}
