package compile

import (
	"slices"

	"github.com/sallyport/sallyport/policy"
)

// Enforced says which parts of the language an agent can judge by: what its kernel side asks for, and
// what it knows of the workloads and the cluster. What is false is refused where a policy uses it: a
// rule that is only half enforced, or asks for what nobody knows, is worse than none (fails closed, the
// caller keeps the tables it had). The zero value is what every kernel side of this version and an agent
// without a cluster's API can do.
type Enforced struct {
	Scripts bool // the kernel tells which file a script is: see LABEL_SCRIPTLESS
	World   bool // Input.World is filled in, and what Workload says of a pod's namespace, account and ports
}

// Everything is what (*Tables).Judge judges by.
func Everything() Enforced {
	return Enforced{Scripts: true, World: true}
}

// refusals gathers what of one policy is refused, each field once a rule.
type refusals struct {
	policy *policy.Policy
	rule   *policy.Rule
	seen   map[string]bool
	errs   Errors
}

// unlessKnown refuses a field that asks for the cluster, if nobody knows that.
func (r *refusals) unlessKnown(world, used bool, field string) {
	r.refuse(used && !world, field, "asks for the cluster, which only an agent that reads its API knows (kube.enabled)")
}

// refuse refuses a field for a reason.
func (r *refusals) refuse(refused bool, field, why string) {
	if refused && !r.seen[field] {
		r.seen[field] = true
		r.errs = append(r.errs, policyError(r.policy, r.rule, field+" "+why))
	}
}

// unsupported refuses what a policy says and nobody would enforce.
func (e Enforced) unsupported(p *policy.Policy) Errors {
	r := &refusals{policy: p, seen: map[string]bool{}}
	r.unlessKnown(e.World, p.Spec.NamespaceSelector != nil, "namespaceSelector")
	r.unlessKnown(e.World, p.Spec.ServiceAccounts != nil, "serviceAccounts")
	for i := range p.Spec.Rules {
		r.rule, r.seen = &p.Spec.Rules[i], map[string]bool{}
		e.rule(r)
	}
	return r.errs
}

// rule refuses what a rule says.
func (e Enforced) rule(r *refusals) {
	r.unlessKnown(e.World, r.rule.Subject != nil && asksForNamespace(&r.rule.Subject.LabelSelector), "endpointSelector by labels of the namespace or service account")
	for _, s := range r.rule.Selectors() {
		r.refuse(s.Scripts != nil && !e.Scripts, "processes[].scripts", "is enforced only on kernels with BPF LSM or fmod_ret, which tell which file a script is")
	}
	for _, d := range []Direction{Egress, Ingress} {
		entries, _, _ := r.rule.Entries(d)
		for i := range entries {
			n := &entries[i]
			at := d.String() + "[]."
			r.unlessKnown(e.World, hasNamed(n.Ports), at+"toPorts[].ports[].port by its name")
			r.unlessKnown(e.World, n.Peers.Endpoints != nil, at+endpointsField(r.policy.Kind, d))
			r.unlessKnown(e.World, n.Peers.Services != nil, at+"toServices")
			r.unlessKnown(e.World, n.Peers.External && len(n.Peers.CIDRs)+len(n.Peers.CIDRSets) > 0, at+"a CIDR that Cilium takes for what is outside of the cluster")
			for _, entity := range n.Peers.Entities {
				r.unlessKnown(e.World, slices.Contains(ofCluster(), entity), at+"entity "+string(entity))
			}
		}
	}
}

// endpointsField is how policies spell peers that are endpoints.
func endpointsField(kind string, d Direction) string {
	switch {
	case kind == policy.KindNetworkPolicy:
		return [...]string{"to", "from"}[d] + "[].podSelector or namespaceSelector"
	case d == Ingress:
		return "fromEndpoints"
	}
	return "toEndpoints"
}

// ofCluster are the entities that only the cluster's API can tell.
func ofCluster() []policy.Entity {
	return []policy.Entity{policy.EntityRemoteNode, policy.EntityCluster, policy.EntityKubeAPIServer, policy.EntityHealth}
}

// asksForNamespace says whether a selector of endpoints asks for more than the pod's own labels and the
// name of its namespace.
func asksForNamespace(s *policy.LabelSelector) bool {
	asks := func(key string) bool {
		return key == policy.LabelServiceAccount || len(key) > len(policy.LabelOfNamespace) && key[:len(policy.LabelOfNamespace)] == policy.LabelOfNamespace
	}
	for key := range s.MatchLabels {
		if asks(key) {
			return true
		}
	}
	return slices.ContainsFunc(s.MatchExpressions, func(r policy.LabelRequirement) bool { return asks(r.Key) })
}
