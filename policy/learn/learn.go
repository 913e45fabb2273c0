// Package learn makes policies of what was seen: for each workload (pods with the same labels, a unit of the node), origin
// and program the peers and ports that it used, and nothing else. What it writes is for people to review.
//
// It is pure: it imports policy, policy/flows and policy/format. What it reads was chosen by workloads: a
// name that a policy cannot hold is left out and told, and never makes a rule wider.
package learn

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/policy/flows"
	"github.com/sallyport/sallyport/policy/format"
)

// Options say what is learnt from, and how.
type Options struct {
	Mode           policy.Mode // of the policies
	IncludeExec    bool        // learn from exec sessions
	IncludeDenied  bool        // learn from what was denied
	IncludeAudited bool        // learn from what would have been denied
	Open           bool        // leave what was not seen allowed
	Addresses      bool        // write addresses also where a name is known
	WidenV4        int         // two addresses or more in a prefix of this many bits become the prefix; 0: addresses stay
	WidenV6        int
}

// Result is what was learnt.
type Result struct {
	YAML     []byte            // formatted; empty if there was nothing to learn
	Policies []*policy.Policy  // the same, parsed
	Learnt   uint64            // events that are in them
	LeftOut  map[string]uint64 // why events are not, and how many each
}

// Why flows are left out.
const (
	execSession  = "it is from an exec session (--include-exec)"
	wasDenied    = "it was denied (--include-denied)"
	wasAudited   = "it would have been denied (--include-audited)"
	isListen     = "listening needs no rule"
	isLoopback   = "loopback needs no rule"
	cutPath      = "the program's path was cut"
	badPath      = "no policy can name the program"
	badContainer = "no policy can name the container"
	badWorkload  = "no policy can name the namespace or the labels"
	badUnit      = "no policy can name the unit or its cgroup"
	badProtocol  = "no policy can name the protocol and port"
	badQuery     = "no policy can name what was asked for"
	badRequest   = "no policy can name the request"
	isHello      = "names that TLS clients ask for are not learnt, their connections are"
)

// Learn makes policies of flows.
func Learn(log flows.Log, o Options) (Result, error) {
	r := Result{LeftOut: map[string]uint64{}}
	groups := map[string]*group{}
	held := map[string]bool{} // group keys whose names a policy can hold
	for i := range log.Flows {
		f := &log.Flows[i]
		key := groupKey(f)
		if _, known := held[key]; !known {
			held[key] = newGroup(f).holds()
		}
		why := o.leaveOut(f)
		switch {
		case why != "" || held[key]:
		case f.Process.Workload.Host != nil:
			why = badUnit
		default:
			why = badWorkload
		}
		if why != "" {
			r.LeftOut[why] += f.Count
			continue
		}
		r.Learnt += f.Count
		if groups[key] == nil {
			groups[key] = newGroup(f)
		}
		groups[key].add(f)
	}
	if len(groups) == 0 {
		return r, nil
	}
	text := write(groups, o)
	var err error
	if r.YAML, err = format.Format("learnt.yaml", []byte(text)); err != nil {
		return r, fmt.Errorf("writing what was learnt: %w", err)
	}
	if r.Policies, err = policy.Parse("learnt.yaml", r.YAML); err != nil {
		return r, fmt.Errorf("reading what was learnt: %w", err)
	}
	return r, nil
}

// leaveOut says why a flow is not learnt from; "" if it is.
func (o *Options) leaveOut(f *flows.Flow) string {
	p, c := &f.Process, &f.Call
	switch {
	case f.ServerName != nil:
		return isHello
	case p.Origin == policy.OriginExec && !o.IncludeExec:
		return execSession
	case f.Denied() && !o.IncludeDenied:
		return wasDenied
	case f.Verdict == policy.VerdictAudit && !o.IncludeAudited:
		return wasAudited
	case c.Listen:
		return isListen
	case policy.IsLoopback(c.Peer):
		return isLoopback
	case p.Truncated:
		return cutPath
	case program(p) == "":
		return badPath
	case p.Workload.Host == nil && container(p) == "":
		return badContainer
	case portOf(c) == nil:
		return badProtocol
	case f.Query != nil && !isName(*f.Query):
		return badQuery
	case f.Request != nil && !isRequest(f.Request):
		return badRequest
	}
	return ""
}

// isName says whether a policy can name what a query asks for. It is text of a workload.
func isName(text string) bool {
	n, err := policy.ParseName(text)
	return err == nil && policy.FQDNSelector{MatchName: n}.String() == text
}

// program returns the pattern that matches a process's script or else its executable and nothing else;
// "" if there is none.
func program(p *policy.Process) string {
	path := p.Exe
	if p.Script != "" {
		path = p.Script
	}
	if !strings.HasPrefix(path, "/") && !strings.HasPrefix(path, "memfd:") {
		return ""
	}
	return literal(path)
}

// container returns the pattern that matches a process's container only; "" if there is none, and for a process of the node.
func container(p *policy.Process) string { return literal(p.Workload.Container) }

// literal returns the pattern that matches a text only; "" if there is none. YAML holds no bytes that are
// no UTF-8.
func literal(text string) string {
	if !utf8.ValidString(text) {
		return ""
	}
	pattern := strings.NewReplacer(`*`, `\*`, `?`, `\?`, `[`, `\[`, `{`, `\{`, `}`, `\}`, `\`, `\\`).Replace(text)
	glob, err := policy.ParseGlob(pattern)
	if err != nil || !glob.Match(text) {
		return ""
	}
	return pattern
}

// holds says whether a policy can be of the group's namespace and select by its labels or unit.
func (g *group) holds() bool {
	if text := g.namespace + flows.LabelText(g.labels); strings.ToValidUTF8(text, "") != text || g.host && g.unit.cgroup == "" {
		return false
	}
	_, err := policy.Parse("", []byte(g.document("x")+"  rules: [{egress: []}]\n"))
	return err == nil
}

// stable returns the labels that all pods of a workload share.
func stable(labels map[string]string) map[string]string {
	if labels == nil {
		return nil
	}
	out := maps.Clone(labels)
	maps.DeleteFunc(out, func(key, _ string) bool {
		return slices.Contains([]string{
			"pod-template-hash", "controller-revision-hash", "pod-template-generation", "statefulset.kubernetes.io/pod-name",
			"apps.kubernetes.io/pod-index", "controller-uid", "job-name",
		}, key) || strings.HasPrefix(key, "batch.kubernetes.io/")
	})
	return out
}

// groupKey is what the flows of one policy share. Where labels are not known a policy can tell containers
// apart by their names only.
func groupKey(f *flows.Flow) string {
	w := &f.Process.Workload
	if w.Host != nil {
		return fmt.Sprintf("node %q", unitOf(w.Host))
	}
	if w.Labels == nil {
		return fmt.Sprintf("%q container %q", w.Namespace, w.Container)
	}
	return fmt.Sprintf("%q labels %q", w.Namespace, flows.LabelText(stable(w.Labels)))
}

// group is what becomes one policy.
type group struct {
	host      bool              // of units of the node
	unit      unit              // with host
	namespace string            // the rest: of pods
	labels    map[string]string // nil: not known
	pods      map[string]bool   // names of the owners; with host the paths of the cgroups
	rules     map[ruleKey]*rule
	seen      span
}

// ruleKey is what becomes one rule.
type ruleKey struct {
	container string // pattern; "" of the node
	origin    policy.Origin
	program   string // pattern
}

// rule is what one program of one container was seen to do.
type rule struct {
	peers [2]map[peer]*ports // by direction
}

// span is how often and when something was seen.
type span struct {
	count       uint64
	first, last time.Time
}

func (s *span) add(other span) {
	if s.count == 0 || other.first.Before(s.first) {
		s.first = other.first
	}
	if s.count == 0 || other.last.After(s.last) {
		s.last = other.last
	}
	s.count += other.count
}

func newGroup(f *flows.Flow) *group {
	w := &f.Process.Workload
	g := &group{host: w.Host != nil, namespace: w.Namespace, labels: stable(w.Labels), pods: map[string]bool{}, rules: map[ruleKey]*rule{}}
	if g.host {
		g.unit = unitOf(w.Host)
	}
	return g
}

// add takes in a flow.
func (g *group) add(f *flows.Flow) {
	p := &f.Process
	seen := span{f.Count, f.First, f.Last}
	g.seen.add(seen)
	if g.host {
		g.pods[p.Workload.Host.Cgroup] = true
	} else if p.Workload.Pod != "" {
		g.pods[p.Workload.Pod] = true
	}
	key := ruleKey{container(p), p.Origin, program(p)}
	if g.rules[key] == nil {
		g.rules[key] = &rule{peers: [2]map[peer]*ports{{}, {}}}
	}
	peers := g.rules[key].peers[f.Call.Direction]
	to := peer{f.PeerName, f.Call.Peer}
	if peers[to] == nil {
		peers[to] = newPorts()
	}
	peers[to].used[*portOf(&f.Call)] = true
	peers[to].said(f)
	peers[to].seen.add(seen)
}

// resolves says whether the workload was seen asking a resolver. Without a resolver that its policy lets it
// ask, the kernel learns no name's addresses, and a rule with names would match nothing.
func (g *group) resolves() bool {
	for _, r := range g.rules {
		for _, used := range r.peers[policy.Egress] {
			for p := range used.used {
				if isDNS(p) {
					return true
				}
			}
		}
	}
	return false
}

// sortedRules lists a group's rules by container, origin and program.
func (g *group) sortedRules() []ruleKey {
	return slices.SortedFunc(maps.Keys(g.rules), func(a, b ruleKey) int {
		return cmp.Or(cmp.Compare(a.container, b.container), cmp.Compare(a.origin.Number(), b.origin.Number()), cmp.Compare(a.program, b.program))
	})
}
