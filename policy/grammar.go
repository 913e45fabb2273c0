package policy

import (
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// spec decodes the spec of a policy of ours.
func (d *decoder) spec(v value, kind string) Spec {
	s := Spec{Mode: ModeEnforce}
	present, ok := d.object(v, slices.Concat([]field{
		{name: "description", parse: func(v value) { s.Description, _ = d.text(v) }},
		{name: "mode", parse: func(v value) { s.Mode = enum(d, v, []Mode{ModeEnforce, ModeAudit}, nil) }},
		{name: "onViolation", parse: func(v value) { s.OnViolation = d.onViolation(v) }},
		{name: "enableDefaultDeny", parse: func(v value) { s.EnableDefaultDeny = d.defaultDeny(v) }},
		{name: "rules", parse: func(v value) { s.Rules = d.rules(v) }},
	}, d.subject(&s, kind),
		refused("stands inside a rule: spec.rules[].…", "egress", "ingress", "processes", "action"),
		refused("is named podSelector here", "endpointSelector", "selector"),
		refused("is an entry of rules with action: Deny here", "egressDeny", "ingressDeny"),
		refused("is not needed: a direction is governed where an Allow rule names it", "policyTypes"),
		later("nodeSelector")))
	if !ok {
		return s
	}
	if kind == KindHostProcessPolicy {
		d.require(v, present, "hostSelector", "hostSelector: {} selects every unit of the node")
	} else {
		d.require(v, present, "podSelector", "podSelector: {} selects every pod of the namespace")
	}
	d.require(v, present, "rules", "a policy without rules says nothing")
	d.applyDefaultDeny(v, &s)
	return s
}

// subject lists the fields by which a kind says which workloads it is about.
func (d *decoder) subject(s *Spec, kind string) []field {
	pods := []field{{name: "podSelector", parse: func(v value) { s.PodSelector = d.labelSelector(v) }}}
	cluster := []field{
		{name: "namespaceSelector", parse: func(v value) {
			selector := d.labelSelector(v)
			s.NamespaceSelector = &selector
		}},
		{name: "serviceAccounts", parse: func(v value) {
			s.ServiceAccounts = some(d, v, "it would select no pod", func(v value) string {
				return d.name(v, maxNameLength+1+maxNamespaceLength, "-./", false)
			})
		}},
	}
	host := []field{{name: "hostSelector", parse: func(v value) { s.HostSelector = d.hostSelector(v) }}}
	switch kind {
	case KindClusterProcessPolicy:
		return slices.Concat(pods, cluster, refused("is of a "+KindHostProcessPolicy, "hostSelector"))
	case KindHostProcessPolicy:
		return slices.Concat(host, refused("is not for processes of the node: hostSelector is", "podSelector", "namespaceSelector", "serviceAccounts"))
	}
	return slices.Concat(pods, refused("is of a "+KindClusterProcessPolicy, "namespaceSelector", "serviceAccounts"),
		refused("is of a "+KindHostProcessPolicy, "hostSelector"))
}

// hostSelector decodes which workloads of the node a policy is about.
func (d *decoder) hostSelector(v value) *HostSelector {
	const none = "it would select nothing"
	s := &HostSelector{}
	d.object(v, []field{
		{name: "units", parse: func(v value) {
			s.Units = some(d, v, none, func(v value) Glob { return d.glob(v, "") })
		}},
		{name: "cgroups", parse: func(v value) {
			s.Cgroups = some(d, v, none, func(v value) Glob { return d.glob(v, "the path below the root of the hierarchy: /system.slice/**") })
		}},
	})
	return s
}

// defaultDeny decodes enableDefaultDeny.
func (d *decoder) defaultDeny(v value) *DefaultDeny {
	out := &DefaultDeny{}
	present, ok := d.object(v, []field{
		{name: "egress", parse: func(v value) { out.Egress = d.boolean(v) }},
		{name: "ingress", parse: func(v value) { out.Ingress = d.boolean(v) }},
	})
	if ok && len(present) == 0 {
		d.fail(v, "egress, ingress or both", "is empty")
	}
	return out
}

// defaultDenyRule is the name of the rule that enableDefaultDeny: true stands for.
const defaultDenyRule = "enable-default-deny"

// applyDefaultDeny writes enableDefaultDeny into the rules, and where a direction is to be
// default-deny that no Allow rule names for every process, adds the rule that makes it so.
func (d *decoder) applyDefaultDeny(v value, s *Spec) {
	if s.EnableDefaultDeny == nil {
		return
	}
	extra := Rule{Name: defaultDenyRule, Action: ActionAllow, Line: v.node.Line}
	for dir, want := range []*bool{s.EnableDefaultDeny.Egress, s.EnableDefaultDeny.Ingress} {
		switch {
		case want == nil:
		case !*want:
			for i := range s.Rules {
				s.Rules[i].Optional[dir] = true
			}
		case Direction(dir) == Egress:
			extra.Egress = []EgressRule{}
		default:
			extra.Ingress = []IngressRule{}
		}
	}
	for i := range s.Rules {
		if s.Rules[i].Name == defaultDenyRule {
			d.fail(value{v.node, join(v.path, "rules")}, "give the rule another name", "%s is the name of what enableDefaultDeny adds", defaultDenyRule)
		}
	}
	if extra.Egress != nil || extra.Ingress != nil {
		s.Rules = append(s.Rules, extra)
	}
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
				if r.Key = key; d.sources {
					r.Key = d.sourceKey(v, key)
				} else {
					d.labelKey(v, key)
				}
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
		{name: "description", parse: func(v value) { r.Description, _ = d.text(v) }},
		{name: "processes", parse: func(v value) {
			r.Processes = some(d, v, "it would select no process", d.processSelector)
		}},
		{name: "action", parse: func(v value) {
			r.Action = enum(d, v, []Action{ActionAllow, ActionDeny, ActionAudit, ActionKill}, nil)
		}},
		{name: "egress", parse: func(v value) { r.Egress = each(d, v, d.egress) }},
		{name: "ingress", parse: func(v value) { r.Ingress = each(d, v, d.ingress) }},
		{name: "onViolation", parse: func(v value) { r.OnViolation = d.onViolation(v) }},
	},
		refused("is an entry of rules with action: Deny here", "egressDeny", "ingressDeny"),
		refused("stands in spec", "enableDefaultDeny"))
	present, ok := d.object(v, fields)
	if !ok {
		return r
	}
	_, egress := present["egress"]
	_, ingress := present["ingress"]
	if !r.Denies() {
		if !egress && !ingress {
			d.fail(v, "egress: [{}] allows all that leaves, egress: [] nothing; the same for ingress",
				"an Allow rule must name egress or ingress")
		}
		return r
	}
	d.denied(v, &r)
	if r.Action == ActionKill && r.OnViolation != nil && r.OnViolation.Verdict != "" && r.OnViolation.Verdict != VerdictKill {
		d.fail(value{v.node, join(v.path, "onViolation")}, "leave verdict out, or write action: Deny", "action Kill and verdict %s are two verdicts", r.OnViolation.Verdict)
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
			if e.DNS != nil || e.HTTP != nil || e.ServerNames != nil {
				d.fail(at, "deny all of the port, or allow the rest only", "a Deny rule cannot have rules or serverNames")
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
		{name: "scripts", parse: func(v value) { s.Scripts = some(d, v, none, d.script) }},
		{name: "users", parse: func(v value) { s.Users = some(d, v, none, d.id) }},
		{name: "groups", parse: func(v value) { s.Groups = some(d, v, none, d.id) }},
	}, refused("is no identity: a program writes its own arguments; alerts report them", "arguments"))
	d.object(v, fields)
	return s
}

// script decodes one of scripts.
func (d *decoder) script(v value) Script {
	const hint = "a path inside the container: /usr/bin/python3*, /app/**"
	var s Script
	present, ok := d.object(v, []field{
		{name: "interpreter", parse: func(v value) { s.Interpreter = d.glob(v, hint) }},
		{name: "path", parse: func(v value) { s.Path = d.glob(v, hint) }},
	})
	if ok {
		d.require(v, present, "interpreter", "interpreter: /usr/bin/python3*")
		d.require(v, present, "path", "path: /app/**")
	}
	return s
}

// id decodes a numeric user or group id.
func (d *decoder) id(v value) uint32 {
	v = d.resolve(v)
	n, err := strconv.ParseUint(v.node.Value, 10, 32)
	if v.node.Kind != yaml.ScalarNode || v.node.ShortTag() != "!!int" || err != nil || uint32(n) == NoID {
		d.fail(v, "the number: names are a matter of each image's /etc/passwd", "is %s, not a numeric id", kind(v.node))
	}
	return uint32(n)
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
