// Package policy owns the policy language: its model, its strict parser and the words in which
// policies are asked a question.
//
// It is pure: it reads bytes that it is given, keeps no state, logs nothing, and imports nothing
// else of this module and nothing of a kernel or a cluster. compile turns what it parses into
// tables, match judges by it directly.
package policy

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
)

// What a document must say to be a policy of ours.
const (
	APIVersion               = "sallyport.dev/v1alpha1"
	KindProcessPolicy        = "ProcessPolicy"
	KindClusterProcessPolicy = "ClusterProcessPolicy" // of the pods of every namespace
	KindHostProcessPolicy    = "HostProcessPolicy"    // of the node's own processes
	DefaultNamespace         = "default"              // of a policy without metadata.namespace
	maxNameLength            = 253
	maxNamespaceLength       = 76 // containerd's limit; Kubernetes' is 63
	maxRuleNameLength        = 63
	maxLabelValueLength      = 4096 // containerd's limit; Kubernetes' is 63
)

// Policy is one document. In every list of the model nil means that the field is missing and an
// empty list that it is there and empty: the two mean different things.
type Policy struct {
	APIVersion string   `json:"apiVersion"`
	Kind       string   `json:"kind"`
	Metadata   Metadata `json:"metadata"`
	Spec       Spec     `json:"spec"`
	File       string   `json:"-"` // as given to Parse
	Line       int      `json:"-"` // of the document's first field, from 1
}

// Name is how people write the policy: namespace/name for a ProcessPolicy; of other kinds, whose names
// are names of their own, Kind:namespace/name or Kind:name.
func (p *Policy) Name() string {
	name := p.Metadata.Name
	if p.Metadata.Namespace != "" {
		name = p.Metadata.Namespace + "/" + name
	}
	if p.Kind == KindProcessPolicy || p.Kind == "" {
		return name
	}
	return p.Kind + ":" + name
}

// RuleName is how people write one of the policy's rules: namespace/policy/rule.
func (p *Policy) RuleName(r *Rule) string { return p.Name() + "/" + r.Name }

// Compare orders policies as they decide: by namespace, name and kind. Policies of the cluster come
// before those of a namespace.
func Compare(a, b *Policy) int {
	return cmp.Or(cmp.Compare(a.Metadata.Namespace, b.Metadata.Namespace), cmp.Compare(a.Metadata.Name, b.Metadata.Name), cmp.Compare(a.Kind, b.Kind))
}

// Selects says whether the policy is about a workload. Whether a rule selects a process in it is
// another question.
func (p *Policy) Selects(w *Workload) bool {
	s := &p.Spec
	switch {
	case (w.Host != nil) != (p.Kind == KindHostProcessPolicy):
		return false
	case p.Kind == KindHostProcessPolicy:
		return s.HostSelector != nil && s.HostSelector.Matches(w.Host)
	case p.Metadata.Namespace != "" && p.Metadata.Namespace != w.Namespace:
		return false
	}
	return s.PodSelector.Matches(w.Labels) &&
		(s.NamespaceSelector == nil || s.NamespaceSelector.Matches(NamespaceLabels(w.Namespace, w.NamespaceLabels))) &&
		(s.ServiceAccounts == nil || slices.Contains(s.ServiceAccounts, w.ServiceAccount) ||
			slices.Contains(s.ServiceAccounts, w.Namespace+"/"+w.ServiceAccount))
}

// Metadata names a policy. Labels and annotations have no meaning of their own.
type Metadata struct {
	Name        string            `json:"name"`
	Namespace   string            `json:"namespace,omitzero"` // empty: the policy is in none
	Labels      map[string]string `json:"labels,omitzero"`
	Annotations map[string]string `json:"annotations,omitzero"`
}

// Spec is what a policy demands of the workloads that it selects.
type Spec struct {
	Description       string         `json:"description,omitzero"`
	PodSelector       LabelSelector  `json:"podSelector"`                // required when written, but for a HostProcessPolicy; {} selects every pod
	NamespaceSelector *LabelSelector `json:"namespaceSelector,omitzero"` // of a ClusterProcessPolicy; nil: every namespace
	ServiceAccounts   []string       `json:"serviceAccounts,omitzero"`   // of a ClusterProcessPolicy: name or namespace/name; nil: every one
	HostSelector      *HostSelector  `json:"hostSelector,omitzero"`      // of a HostProcessPolicy
	Mode              Mode           `json:"mode"`
	OnViolation       *OnViolation   `json:"onViolation,omitzero"` // default of the rules that say nothing
	EnableDefaultDeny *DefaultDeny   `json:"enableDefaultDeny,omitzero"`
	Rules             []Rule         `json:"rules"`
}

// MarshalJSON leaves podSelector out where a policy is about the node, and the rule that
// enableDefaultDeny stands for.
func (s Spec) MarshalJSON() ([]byte, error) {
	type plain Spec
	s.Rules = slices.DeleteFunc(slices.Clone(s.Rules), func(r Rule) bool { return r.Name == defaultDenyRule })
	var v any = plain(s)
	if s.HostSelector != nil {
		v = struct {
			plain
			PodSelector *LabelSelector `json:"podSelector,omitzero"`
		}{plain: plain(s)}
	}
	text, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("writing a spec: %w", err)
	}
	return text, nil
}

// DefaultDeny says for each direction whether the Allow rules of a policy make it default-deny, as
// they do where nothing is said. With false they allow what other policies' default would deny, and
// no more. With true the direction is default-deny for all processes of the workloads, also if no
// rule names it.
type DefaultDeny struct {
	Egress  *bool `json:"egress,omitzero"`
	Ingress *bool `json:"ingress,omitzero"`
}

// Mode says whether a policy acts or only tells.
type Mode string

// The modes. Without one a policy enforces.
const (
	ModeEnforce Mode = "Enforce"
	ModeAudit   Mode = "Audit" // report what Enforce would have done
)

// Action is what a rule does with a call that it matches.
type Action string

// The actions. Without one a rule allows.
const (
	ActionAllow Action = "Allow"
	ActionDeny  Action = "Deny"
	ActionAudit Action = "Audit" // tells what Deny would have denied
	ActionKill  Action = "Kill"  // as Deny, with the verdict Kill
)

// Rule says what the processes it selects may, or unless its action is Allow may not, reach. An Allow
// rule makes every direction it names default-deny for those processes. A rule that is not Allow and
// names no direction is about both.
type Rule struct {
	Name        string            `json:"name"`
	Description string            `json:"description,omitzero"`
	Processes   []ProcessSelector `json:"processes,omitzero"` // OR-ed; nil: every process
	Action      Action            `json:"action"`
	Egress      []EgressRule      `json:"egress,omitzero"`  // OR-ed; empty: nothing leaves
	Ingress     []IngressRule     `json:"ingress,omitzero"` // OR-ed; empty: nothing enters
	OnViolation *OnViolation      `json:"onViolation,omitzero"`
	Line        int               `json:"-"`
	// Optional says by direction that the rule, though it allows, makes nothing default-deny. It
	// comes from enableDefaultDeny.
	Optional [2]bool `json:"-"`
	// Subject, if it is not nil, also must select the workload. It comes from Cilium's documents.
	Subject *EndpointSelector `json:"-"`
}

// Concerns says whether a rule of the policy is about a workload.
func (p *Policy) Concerns(r *Rule, w *Workload) bool {
	return p.Selects(w) && (r.Subject == nil || w.Host == nil && r.Subject.Matches(EndpointLabels(w.Labels, w.Namespace, w.ServiceAccount, w.NamespaceLabels)))
}

// Denies says whether what the rule matches is denied, or for Audit told as if it were.
func (r *Rule) Denies() bool { return r.Action != ActionAllow && r.Action != "" }

// Audits says whether a rule of the policy only tells.
func (p *Policy) Audits(r *Rule) bool { return p.Spec.Mode == ModeAudit || r.Action == ActionAudit }

// OnViolation says what a call gets that a Deny rule matches or that an Allow rule's default-deny
// stops. An empty field is the spec's, and else the default: Deny, warning.
type OnViolation struct {
	Verdict Verdict  `json:"verdict,omitzero"`
	Alert   Severity `json:"alert,omitzero"`
}

// Violation returns what a violation of a rule gets, defaults filled in.
func (s *Spec) Violation(r *Rule) OnViolation {
	v := OnViolation{Verdict: VerdictDeny, Alert: SeverityWarning}
	for _, o := range []*OnViolation{s.OnViolation, r.OnViolation} {
		if o == nil {
			continue
		}
		if o.Verdict != "" {
			v.Verdict = o.Verdict
		}
		if o.Alert != "" {
			v.Alert = o.Alert
		}
	}
	if r.Action == ActionKill {
		v.Verdict = VerdictKill
	}
	return v
}
