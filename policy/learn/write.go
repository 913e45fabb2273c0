package learn

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/policy/flows"
)

const (
	maxPolicyName = 200 // what a name is made of; a number may follow
	maxRuleName   = 50
	maxPods       = 8 // named in a comment
)

// write writes a policy for each group. The text need not be formatted, but every string in it is quoted:
// what stands in it came from workloads.
func write(groups map[string]*group, o Options) string {
	var b strings.Builder
	taken := map[string]bool{}
	for _, key := range slices.Sorted(maps.Keys(groups)) {
		g := groups[key]
		b.WriteString("---\n")
		g.comment(&b)
		name := strings.TrimPrefix(unique(taken, g.namespace+"/"+sanitized(g.name(), maxPolicyName)), g.namespace+"/")
		b.WriteString(g.document(name))
		fmt.Fprintf(&b, "  mode: %s\n  rules:\n", o.Mode)
		o := o
		o.Addresses = o.Addresses || !g.resolves()
		names := map[string]bool{"rest": true}
		for _, key := range g.sortedRules() {
			g.rules[key].write(&b, key, unique(names, key.name()), o)
		}
		if !o.Open {
			g.rest(&b)
		}
	}
	return b.String()
}

// document writes a policy up to its selector. That is empty where no labels are known.
func (g *group) document(name string) string {
	var b strings.Builder
	if g.host {
		fmt.Fprintf(&b, "apiVersion: %s\nkind: %s\nmetadata: {name: %q}\nspec:\n  %s\n",
			policy.APIVersion, policy.KindHostProcessPolicy, name, g.unit.selector())
		return b.String()
	}
	labels := g.labels
	fmt.Fprintf(&b, "apiVersion: %s\nkind: %s\nmetadata: {name: %q, namespace: %s}\nspec:\n  podSelector: {",
		policy.APIVersion, policy.KindProcessPolicy, name, quoted(g.namespace))
	if len(labels) > 0 {
		b.WriteString("matchLabels: {")
		for i, key := range slices.Sorted(maps.Keys(labels)) {
			if i > 0 {
				b.WriteString(", ")
			}
			b.WriteString(quoted(key) + ": " + quoted(labels[key]))
		}
		b.WriteString("}")
	}
	b.WriteString("}\n")
	return b.String()
}

// quoted writes a string of YAML. Text that is no UTF-8 has been left out.
func quoted(text string) string { return strconv.QuoteToASCII(text) }

// name is what a group's policy is called after.
func (g *group) name() string {
	if g.host {
		return path.Base(g.unit.cgroup)
	}
	for _, key := range []string{"app.kubernetes.io/name", "app", "k8s-app"} {
		if v := g.labels[key]; v != "" {
			return v
		}
	}
	if len(g.pods) == 1 {
		for pod := range g.pods {
			return pod
		}
	}
	return g.sortedRules()[0].container
}

// comment says where a policy came from, and what a reviewer has to know.
func (g *group) comment(b *strings.Builder) {
	fmt.Fprintf(b, "# Learnt from what was seen %s.\n", g.seen)
	if pods := slices.Sorted(maps.Keys(g.pods)); len(pods) > 0 {
		more := ""
		if len(pods) > maxPods {
			pods, more = pods[:maxPods], fmt.Sprintf(" and %d more", len(g.pods)-maxPods)
		}
		for i := range pods {
			pods[i] = inComment(pods[i])
		}
		what := "Pods of"
		if g.host {
			what = "Cgroups of the node"
		}
		fmt.Fprintf(b, "# %s: %s%s.\n", what, strings.Join(pods, ", "), more)
	}
	if !g.host && len(g.labels) == 0 {
		b.WriteString("# The pods' labels are not known, so that this selects every pod of the namespace with such a container:\n" +
			"# write a podSelector, or learn again with --pod-labels.\n")
	}
}

// inComment makes a text of a workload harmless in a comment.
func inComment(text string) string {
	quoted := strconv.QuoteToASCII(text)
	if len(quoted) == len(text)+len(`""`) {
		return text
	}
	return quoted
}

// String says how often and when, for comments.
func (s span) String() string {
	times := "once"
	if s.count != 1 {
		times = strconv.FormatUint(s.count, 10) + " times"
	}
	const layout = "2006-01-02 15:04:05"
	first, last := s.first.Truncate(time.Second), s.last.Truncate(time.Second)
	switch {
	case last.IsZero():
		return times
	case first.Equal(last):
		return times + ", " + last.Format(layout) + " UTC"
	}
	return times + ", " + first.Format(layout) + " to " + last.Format(layout) + " UTC"
}

// name is what a rule is called after: the origin and the program's own name.
func (k ruleKey) name() string {
	return sanitized(string(k.origin)+"-"+path.Base(k.program), maxRuleName)
}

// write writes one rule.
func (r *rule) write(b *strings.Builder, key ruleKey, name string, o Options) {
	containers := ""
	if key.container != "" {
		containers = "containers: [" + quoted(key.container) + "], "
	}
	fmt.Fprintf(b, "  - name: %q\n    processes:\n    - {origins: [%s], %sbinaries: [%s]}\n", name, key.origin, containers, quoted(key.program))
	for _, d := range []policy.Direction{policy.Egress, policy.Ingress} {
		list := entries(r.peers[d], o)
		if len(list) == 0 {
			continue
		}
		fmt.Fprintf(b, "    %s:\n", d)
		for i := range list {
			var names []string
			if d == policy.Egress && !o.Addresses {
				names = r.names()
			}
			list[i].write(b, d, names)
		}
	}
}

// names lists the names of the rule's peers.
func (r *rule) names() (out []string) {
	for p := range r.peers[policy.Egress] {
		if p.name != "" {
			out = append(out, p.name)
		}
	}
	return out
}

// write writes one entry, with a comment that says how often and when it was seen. Where there are names the
// kernel is to learn them from what the resolvers among the peers answer.
func (e *entry) write(b *strings.Builder, d policy.Direction, names []string) {
	fmt.Fprintf(b, "    # %s\n    - ", e.seen)
	if len(e.names) > 0 {
		parts := make([]string, len(e.names))
		for i, name := range e.names {
			parts[i] = "{matchName: " + quoted(name) + "}"
		}
		fmt.Fprintf(b, "toFQDNs: [%s]\n", strings.Join(parts, ", "))
	} else {
		field := map[policy.Direction]string{policy.Egress: "toCIDR", policy.Ingress: "fromCIDR"}[d]
		parts := make([]string, len(e.prefixes))
		for i, p := range e.prefixes {
			parts[i] = quoted(address(p))
		}
		fmt.Fprintf(b, "%s: [%s]\n", field, strings.Join(parts, ", "))
	}
	var dns, others []string
	for _, p := range e.ports {
		if isDNS(p) && (len(names) > 0 || len(e.queries) > 0) {
			dns = append(dns, portText(p))
		} else if e.requests[p] == nil {
			others = append(others, portText(p))
		}
	}
	b.WriteString("      toPorts:\n")
	if len(dns) > 0 {
		e.asked(b, names)
		fmt.Fprintf(b, "      - ports: [%s]\n        rules: {dns: [%s]}\n", strings.Join(dns, ", "), e.patterns(names))
	}
	if len(others) > 0 {
		fmt.Fprintf(b, "      - ports: [%s]\n", strings.Join(others, ", "))
	}
	for _, p := range e.ports {
		if seen := e.requests[p]; seen != nil {
			fmt.Fprintf(b, "      - ports: [%s]\n        rules: {http: [%s]}\n", portText(p), requestRules(seen))
		}
	}
}

// asked says in a comment what may be asked for.
func (e *entry) asked(b *strings.Builder, names []string) {
	switch {
	case len(e.queries) == 0:
		b.WriteString("      # Every name may be asked for; the answers tell which addresses the names below have.\n")
	case len(names) > 0:
		b.WriteString("      # What was asked for; the answers tell which addresses the names below have.\n")
	}
}

// patterns writes what may be asked for: what was, and the names of peers, which somebody asked for; every name where no query was
// seen.
func (e *entry) patterns(names []string) string {
	if len(e.queries) == 0 {
		return `{matchPattern: "*"}`
	}
	asked := maps.Clone(e.queries)
	for _, name := range names {
		asked[name] = true
	}
	var out []string
	for _, name := range slices.Sorted(maps.Keys(asked)) {
		out = append(out, "{matchName: "+quoted(name)+"}")
	}
	return strings.Join(out, ", ")
}

// portText writes a port.
func portText(p policy.Port) string {
	switch {
	case p.Port == 0:
		return fmt.Sprintf("{protocol: %s}", p.Protocol)
	case p.EndPort == 0:
		return fmt.Sprintf("{port: %q, protocol: %s}", strconv.Itoa(int(p.Port)), p.Protocol)
	}
	return fmt.Sprintf("{port: %q, endPort: %d, protocol: %s}", strconv.Itoa(int(p.Port)), p.EndPort, p.Protocol)
}

// rest writes the rule that makes every process of what was learnt about default-deny, in both directions.
func (g *group) rest(b *strings.Builder) {
	b.WriteString("  # What was not seen is not allowed.\n  - name: rest\n")
	if !g.host && len(g.labels) == 0 {
		var containers []string
		for _, key := range g.sortedRules() {
			if text := quoted(key.container); !slices.Contains(containers, text) {
				containers = append(containers, text)
			}
		}
		fmt.Fprintf(b, "    processes: [{containers: [%s]}]\n", strings.Join(containers, ", "))
	}
	b.WriteString("    egress: []\n    ingress: []\n")
}

// Unseen lists why events are not in the result, most often first.
func (r *Result) Unseen(log flows.Log) []string {
	counts := maps.Clone(r.LeftOut)
	for why, n := range log.Skipped {
		counts[why] += uint64(n)
	}
	out := make([]string, 0, len(counts))
	for why, n := range counts {
		out = append(out, fmt.Sprintf("%d: %s", n, why))
	}
	slices.Sort(out)
	return out
}
