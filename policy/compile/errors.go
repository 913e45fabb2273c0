package compile

import (
	"strings"

	"github.com/sallyport/sallyport/policy"
)

// Error is one reason why policies cannot be compiled. The fields that do not apply are empty.
type Error struct {
	Policy   string // namespace/policy
	Rule     string // namespace/policy/rule
	Workload string // namespace/pod/container
	File     string // where the policy is from
	Line     int    // of the rule, or else of the policy; 0: unknown
	Reason   string
}

// Error returns policy or rule: workload: reason.
func (e *Error) Error() string {
	var parts []string
	switch {
	case e.Rule != "":
		parts = append(parts, "rule "+e.Rule)
	case e.Policy != "":
		parts = append(parts, "policy "+e.Policy)
	}
	if e.Workload != "" {
		parts = append(parts, "workload "+e.Workload)
	}
	return strings.Join(append(parts, e.Reason), ": ")
}

// placed gives errors that have no place the one of the rule or policy that they name. Those that it changes are
// copies: the others may be told again by another compilation.
func placed(errs Errors, policies []*policy.Policy) Errors {
	byName := make(map[string]*policy.Policy, len(policies))
	for _, p := range policies {
		byName[p.Name()] = p
	}
	out := make(Errors, len(errs))
	for i, e := range errs {
		out[i] = e
		p := byName[e.Policy]
		if e.File != "" || p == nil {
			continue
		}
		found := *e
		found.File, found.Line = p.File, p.Line
		for r := range p.Spec.Rules {
			if rule := &p.Spec.Rules[r]; p.RuleName(rule) == e.Rule {
				found.Line = rule.Line
			}
		}
		out[i] = &found
	}
	return out
}

// Errors is everything that stops a compilation, in the order of policies and workloads.
type Errors []*Error

// Error returns one line for each error.
func (e Errors) Error() string {
	lines := make([]string, len(e))
	for i, err := range e {
		lines[i] = err.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap returns the errors one by one.
func (e Errors) Unwrap() []error {
	out := make([]error, len(e))
	for i, err := range e {
		out[i] = err
	}
	return out
}
