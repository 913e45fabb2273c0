package policy

import "slices"

// LabelSelector selects workloads by their labels, as in Kubernetes: all requirements must hold,
// and an empty selector selects everything.
type LabelSelector struct {
	MatchLabels      map[string]string  `json:"matchLabels,omitzero"`
	MatchExpressions []LabelRequirement `json:"matchExpressions,omitzero"`
}

// LabelRequirement is one of a selector's matchExpressions.
type LabelRequirement struct {
	Key      string        `json:"key"`
	Operator LabelOperator `json:"operator"`
	Values   []string      `json:"values,omitzero"` // for In and NotIn; never empty there
}

// LabelOperator relates a label to the values of a LabelRequirement.
type LabelOperator string

// The operators, as in Kubernetes.
const (
	LabelIn           LabelOperator = "In"
	LabelNotIn        LabelOperator = "NotIn" // also matches where the label is missing
	LabelExists       LabelOperator = "Exists"
	LabelDoesNotExist LabelOperator = "DoesNotExist"
)

// Matches says whether the labels meet every requirement.
func (s LabelSelector) Matches(labels map[string]string) bool {
	for key, want := range s.MatchLabels {
		if got, ok := labels[key]; !ok || got != want {
			return false
		}
	}
	for _, r := range s.MatchExpressions {
		if !r.Matches(labels) {
			return false
		}
	}
	return true
}

// Matches says whether the labels meet the requirement. An operator that does not exist is met by
// nothing.
func (r LabelRequirement) Matches(labels map[string]string) bool {
	got, ok := labels[r.Key]
	switch r.Operator {
	case LabelIn:
		return ok && slices.Contains(r.Values, got)
	case LabelNotIn:
		return !ok || !slices.Contains(r.Values, got)
	case LabelExists:
		return ok
	case LabelDoesNotExist:
		return !ok
	}
	return false
}
