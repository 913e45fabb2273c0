package cmd

import (
	"maps"
	"slices"
	"strings"

	"github.com/sallyport/sallyport/policy"
)

// examples makes the workloads that policies are compiled for: for each policy one that it selects,
// with a container for each pattern of its rules that is also a name that it matches.
func examples(policies []*policy.Policy) []policy.Workload {
	var out []policy.Workload
	for _, p := range policies {
		names := map[string]bool{"app": true}
		for i := range p.Spec.Rules {
			for _, s := range p.Spec.Rules[i].Selectors() {
				for _, glob := range s.Containers {
					if glob.Match(glob.String()) {
						names[glob.String()] = true
					}
				}
			}
		}
		for _, name := range slices.Sorted(maps.Keys(names)) {
			w := example(p)
			w.Key = uint64(len(out) + 1)
			if w.Host == nil {
				w.Container = name
			}
			out = append(out, w)
		}
	}
	return out
}

// example is a workload that a policy selects, unless the policy contradicts itself.
func example(p *policy.Policy) policy.Workload {
	s := &p.Spec
	if p.Kind == policy.KindHostProcessPolicy {
		w := policy.Workload{Host: &policy.HostUnit{}}
		if s.HostSelector != nil {
			w.Host.Unit, w.Host.Cgroup = exampleOf(s.HostSelector.Units), exampleOf(s.HostSelector.Cgroups)
		}
		return w
	}
	w := policy.Workload{
		Namespace: p.Metadata.Namespace, Pod: "example", Labels: exampleLabels(s.PodSelector), ContainerType: string(policy.ContainerApp),
	}
	if w.Namespace == "" {
		w.Namespace = "example"
	}
	if s.NamespaceSelector != nil {
		w.NamespaceLabels = exampleLabels(*s.NamespaceSelector)
		if name := w.NamespaceLabels["kubernetes.io/metadata.name"]; name != "" {
			w.Namespace = name
		}
	}
	if len(s.ServiceAccounts) > 0 {
		namespace, name, qualified := strings.Cut(s.ServiceAccounts[0], "/")
		w.ServiceAccount = namespace
		if qualified {
			w.Namespace, w.ServiceAccount = namespace, name
		}
	}
	return w
}

// exampleLabels are labels that a selector matches, unless it contradicts itself.
func exampleLabels(s policy.LabelSelector) map[string]string {
	labels := map[string]string{}
	for _, r := range s.MatchExpressions {
		switch r.Operator {
		case policy.LabelIn:
			labels[r.Key] = r.Values[0]
		case policy.LabelExists:
			labels[r.Key] = ""
		case policy.LabelNotIn, policy.LabelDoesNotExist:
		}
	}
	maps.Copy(labels, s.MatchLabels)
	return labels
}

// exampleOf is a name that the first of some patterns matches; "" if there is none that is as easily made.
func exampleOf(globs []policy.Glob) string {
	for _, g := range globs {
		name := strings.NewReplacer("**", "x", "*", "x", "?", "x").Replace(g.String())
		if g.Match(name) {
			return name
		}
	}
	return ""
}
