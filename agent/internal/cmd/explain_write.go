package cmd

import (
	"fmt"
	"strings"

	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/policy/match"
)

// writeExplanation writes columns: the rules of the call's direction in the policies that select the
// workload, and below them why the other policies do not.
func (p Program) writeExplanation(e match.Explanation, d policy.Direction) error {
	fmt.Fprintln(p.Stdout, visible(e.Why))
	rules := newSection(p.Stdout, "", "RULE", "PART", "ACTION", "WHERE", "WHY")
	others := newSection(p.Stdout, "POLICY", "WHY NOT")
	anyRule, told := false, map[string]bool{}
	for _, r := range e.Rules {
		name := policyOf(r)
		switch {
		case !r.Concerns && !told[name]:
			told[name] = true
			others.row(name, r.Why)
		case r.Concerns && r.Direction == d.String():
			anyRule = true
			rules.row(mark(r), r.Rule, part(r), action(r), fmt.Sprintf("%s:%d", r.File, r.Line), r.Why)
		}
	}
	if anyRule {
		if err := rules.flush(); err != nil {
			return err
		}
		fmt.Fprintln(p.Stdout, "\n> decides   + matches too")
	}
	if len(told) > 0 {
		return others.flush()
	}
	return nil
}

// policyOf is the name of the policy that a rule is in.
func policyOf(r match.RuleTrace) string { return r.Rule[:strings.LastIndexByte(r.Rule, '/')] }

func mark(r match.RuleTrace) string {
	switch {
	case r.Decides:
		return ">"
	case r.Matches:
		return "+"
	}
	return " "
}

// part names the combination inside a rule, as in its YAML.
func part(r match.RuleTrace) string {
	entry := fmt.Sprintf("%s[%d]", r.Direction, r.Entry)
	if r.Entry < 0 {
		entry = r.Direction + ": []"
	}
	return fmt.Sprintf("processes[%d] %s", r.Selector, entry)
}

func action(r match.RuleTrace) string {
	if r.Mode == policy.ModeAudit {
		return string(r.Action) + " (audit)"
	}
	return string(r.Action)
}
