package policy

import (
	"slices"
	"strconv"
	"strings"
)

// spec decodes spec.
func (d *decoder) spec(v value) Spec {
	s := Spec{Mode: ModeEnforce}
	fields := slices.Concat([]field{
		{name: "podSelector", parse: func(v value) { s.PodSelector = d.labelSelector(v) }},
		{name: "mode", parse: func(v value) { s.Mode = enum(d, v, []Mode{ModeEnforce, ModeAudit}, nil) }},
		{name: "onViolation", parse: func(v value) { s.OnViolation = d.onViolation(v) }},
		{name: "rules", parse: func(v value) { s.Rules = d.rules(v) }},
	},
		refused("stands inside a rule: spec.rules[].…", "egress", "ingress", "processes", "action"),
		refused("is named podSelector here", "endpointSelector", "selector"),
		refused("is an entry of rules with action: Deny here", "egressDeny", "ingressDeny"),
		refused("is not needed: a direction is governed where an Allow rule names it", "policyTypes"),
		later("namespaceSelector", "nodeSelector", "serviceAccounts", "enableDefaultDeny", "description"))
	present, ok := d.object(v, fields)
	if !ok {
		return s
	}
	d.require(v, present, "podSelector", "podSelector: {} selects every pod of the namespace")
	d.require(v, present, "rules", "a policy without rules says nothing")
	return s
}

// labelSelector decodes a Kubernetes label selector.
func (d *decoder) labelSelector(v value) LabelSelector {
	var s LabelSelector
	d.object(v, []field{
		{name: "matchLabels", parse: func(v value) { s.MatchLabels = d.labels(v) }},
		{name: "matchExpressions", parse: func(v value) { s.MatchExpressions = each(d, v, d.requirement) }},
	})
	return s
}

// requirement decodes one of matchExpressions.
func (d *decoder) requirement(v value) LabelRequirement {
	var r LabelRequirement
	present, ok := d.object(v, []field{
		{name: "key", parse: func(v value) {
			if key, ok := d.text(v); ok {
				d.labelKey(v, key)
				r.Key = key
			}
		}},
		{name: "operator", parse: func(v value) {
			r.Operator = enum(d, v, []LabelOperator{LabelIn, LabelNotIn, LabelExists, LabelDoesNotExist}, nil)
		}},
		{name: "values", parse: func(v value) {
			r.Values = each(d, v, func(v value) string { s, _ := d.text(v); return s })
		}},
	})
	if !ok {
		return r
	}
	d.require(v, present, "key", "the key of a label")
	d.require(v, present, "operator", "In, NotIn, Exists or DoesNotExist")
	at := value{d.resolve(v).node, join(v.path, "values")}
	switch r.Operator {
	case LabelIn, LabelNotIn:
		if _, there := present["values"]; !there || r.Values != nil && len(r.Values) == 0 {
			d.fail(at, "values: [x]", "operator %s needs values", r.Operator)
		}
	case LabelExists, LabelDoesNotExist:
		if len(r.Values) > 0 {
			d.fail(at, "leave them out", "operator %s takes no values", r.Operator)
		}
	}
	return r
}

// onViolation decodes onViolation.
func (d *decoder) onViolation(v value) *OnViolation {
	o := &OnViolation{}
	present, ok := d.object(v, []field{
		{name: "verdict", parse: func(v value) {
			o.Verdict = enum(d, v, []Verdict{VerdictDeny, VerdictDrop, VerdictReset, VerdictKill}, map[string]string{
				"Audit": "is a mode of the policy: spec.mode", "Allow": "would make the rule void",
			})
		}},
		{name: "alert", parse: func(v value) {
			o.Alert = enum(d, v, []Severity{SeverityInfo, SeverityWarning, SeverityCritical}, nil)
		}},
	})
	if ok && len(present) == 0 {
		d.fail(v, "verdict, alert or both", "is empty")
	}
	return o
}

// rules decodes the list of rules and names those without a name.
func (d *decoder) rules(v value) []Rule {
	rules := some(d, v, "a policy without rules says nothing", d.rule)
	named := map[string]int{}
	for i := range rules {
		r := &rules[i]
		if r.Name == "" {
			r.Name = "rule-" + strconv.Itoa(i)
		}
		if first, twice := named[r.Name]; twice {
			at := value{d.resolve(v).node.Content[i], v.path + "[" + strconv.Itoa(i) + "].name"}
			d.fail(at, "rule names are unique in a policy", "%s is also the name of rules[%d]", quote(r.Name), first)
			continue
		}
		named[r.Name] = i
	}
	return rules
}

// rule decodes one rule.
func (d *decoder) rule(v value) Rule {
	r := Rule{Action: ActionAllow, Line: v.node.Line}
	fields := slices.Concat([]field{
		{name: "name", parse: func(v value) { r.Name = d.name(v, maxRuleNameLength, "-", false) }},
		{name: "processes", parse: func(v value) {
			r.Processes = some(d, v, "it would select no process", d.processSelector)
		}},
		{name: "action", parse: func(v value) {
			r.Action = enum(d, v, []Action{ActionAllow, ActionDeny}, map[string]string{
				"Audit": "is not supported yet: spec.mode audits a whole policy",
				"Kill":  "is not supported yet: action: Deny with onViolation: {verdict: Kill} does it",
			})
		}},
		{name: "egress", parse: func(v value) { r.Egress = each(d, v, d.egress) }},
		{name: "ingress", parse: func(v value) { r.Ingress = each(d, v, d.ingress) }},
		{name: "onViolation", parse: func(v value) { r.OnViolation = d.onViolation(v) }},
	},
		refused("is an entry of rules with action: Deny here", "egressDeny", "ingressDeny"),
		later("enableDefaultDeny", "description"))
	present, ok := d.object(v, fields)
	if !ok {
		return r
	}
	_, egress := present["egress"]
	_, ingress := present["ingress"]
	switch r.Action {
	case ActionAllow:
		if !egress && !ingress {
			d.fail(v, "egress: [{}] allows all that leaves, egress: [] nothing; the same for ingress",
				"an Allow rule must name egress or ingress")
		}
	case ActionDeny:
		d.denied(v, &r)
	}
	return r
}

// denied refuses Deny rules that deny less than they seem to: an empty list selects nothing, and
// where it stands in a Deny rule a template most likely went wrong.
func (d *decoder) denied(v value, r *Rule) {
	const hint = "leave the field out to deny everything, or fill it"
	for _, dir := range []Direction{Egress, Ingress} {
		entries, count, named := r.Entries(dir)
		if named && count == 0 {
			d.fail(value{v.node, join(v.path, dir.String())}, hint, "is empty: a Deny rule would deny nothing")
		}
		for _, e := range entries {
			at := value{v.node, v.path + "." + dir.String() + "[" + strconv.Itoa(e.Index) + "]"}
			if e.Peers.None() {
				d.fail(at, hint, "has an empty list of peers: a Deny rule would deny nothing")
			}
			if e.DNS != nil {
				d.fail(at, "deny the resolver, or allow the other names only", "a Deny rule cannot have rules.dns")
			}
		}
	}
}

// processSelector decodes one of a rule's processes.
func (d *decoder) processSelector(v value) ProcessSelector {
	const none = "it would select no process"
	var s ProcessSelector
	fields := slices.Concat([]field{
		{name: "origins", parse: func(v value) {
			all := Origins()
			s.Origins = some(d, v, none, func(v value) Origin { return enum(d, v, all[:], nil) })
		}},
		{name: "containers", parse: func(v value) {
			s.Containers = some(d, v, none, func(v value) Glob { return d.glob(v, "") })
		}},
		{name: "containerTypes", parse: func(v value) {
			types := []ContainerType{ContainerApp, ContainerInit, ContainerSidecar, ContainerEphemeral}
			s.ContainerTypes = some(d, v, none, func(v value) ContainerType { return enum(d, v, types, nil) })
		}},
		{name: "binaries", parse: func(v value) {
			const hint = "the path of the executable inside the container: /usr/bin/curl, /usr/**, /**/curl; memfd:* for one without a file"
			s.Binaries = some(d, v, none, func(v value) Glob { return d.glob(v, hint) })
		}},
	}, later("scripts", "users", "groups", "arguments"))
	d.object(v, fields)
	return s
}

// glob decodes a pattern. If pathHint is not empty the pattern must be one for an executable.
func (d *decoder) glob(v value, pathHint string) Glob {
	s, ok := d.text(v)
	if !ok {
		return Glob{}
	}
	if pathHint != "" && !strings.HasPrefix(s, "/") && !strings.HasPrefix(s, "memfd:") {
		d.fail(v, pathHint, "%s begins neither with / nor with memfd:", quote(s))
		return Glob{}
	}
	g, err := ParseGlob(s)
	if err != nil {
		d.fail(v, "", "%s is no pattern: %v", quote(s), err)
	}
	return g
}
