package daemon

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/probes/event"
	"github.com/sallyport/sallyport/runtime/kube"
)

// object is a policy of the API as it was read last.
type object struct {
	policyFile
	source *kube.Policy
}

// readObjects reads the policies of the API, those anew that are not what they were. A broken one keeps what it had before,
// as a broken file does. It says whether anything is another than before, and which were read.
func readObjects(list []*kube.Policy, before map[string]object) (now map[string]object, read []string) {
	now = make(map[string]object, len(list))
	for _, p := range list {
		old, there := before[p.Key()]
		if there && old.source.Generation == p.Generation && bytes.Equal(old.source.Document, p.Document) {
			old.source = p // its status may be another
			now[p.Key()] = old
			continue
		}
		o := object{source: p}
		o.policies, o.err = policy.ParseObject(p.Key(), p.Document)
		if o.err != nil {
			o.policies = old.policies
		} else {
			o.policies = policy.Keep(old.policies, o.policies)
		}
		now[p.Key()] = o
		read = append(read, p.Key())
	}
	return now, read
}

// policies takes in the policies of the API, and says whether they are others than before.
func (c *cluster) policies(list []*kube.Policy) bool {
	now, read := readObjects(list, c.objects)
	changed := len(read) > 0 || len(now) != len(c.objects)
	for _, key := range read {
		o := now[key]
		c.reloaded(o.err)
		if o.err != nil {
			c.log.WithError(o.err).WithField("kept", len(o.policies)).Error("policy of the API is broken; its last good version stays in force")
		}
	}
	c.objects = now
	return changed
}

// sources puts the policies of the API among those of files. A policy that is in both is the file's, which only root of
// the node can write.
func (c *cluster) sources(files map[string]policyFile) map[string]policyFile {
	if c == nil || len(c.objects) == 0 {
		return files
	}
	in := map[string]string{}
	for name, f := range files {
		for _, p := range f.policies {
			in[p.Name()] = name
		}
	}
	out := maps.Clone(files)
	for key, o := range c.objects {
		f := o.policyFile
		for _, p := range f.policies {
			if file, twice := in[p.Name()]; twice {
				f = policyFile{err: fmt.Errorf("reading %s: the file %s of the node has a policy of that name, which wins", key, file)}
				break
			}
		}
		out[key] = f
	}
	return out
}

// say tells the API what has become of its policies here.
func (e *engine) say(now *snapshot) {
	if e.cluster == nil {
		return
	}
	covers := coverage(now)
	inForce := map[string]*policy.Policy{}
	for _, p := range now.accepted {
		inForce[p.Name()] = p
	}
	says := make(map[string]kube.Say, len(e.cluster.objects))
	for key, o := range e.cluster.objects {
		f := now.files[key]
		said := kube.Say{Generation: o.source.Generation}
		switch {
		case f.err != nil:
			said.Conditions = fails(0, "Invalid", f.err.Error(), len(f.policies) > 0)
		case len(f.policies) == 1:
			p := f.policies[0]
			said.Conditions = e.becameOf(now, p, inForce[p.Name()])
		}
		for _, p := range f.policies {
			said.Workloads += len(covers[p.Name()])
		}
		says[key] = said
	}
	e.cluster.source.SetStatus(says)
}

// becameOf says what has become of a policy that the parser understands, and of which inForce is in force; nil: none.
func (e *engine) becameOf(now *snapshot, p, inForce *policy.Policy) [3]kube.Condition {
	if now.compileErr != nil && !reflect.DeepEqual(p, inForce) {
		return fails(1, "Refused", refusal(now.compileErr, p.Name()), inForce != nil)
	}
	enforced := kube.Condition{True: true, Reason: "Enforcing"}
	switch {
	case !e.enforces():
		enforced = kube.Condition{Reason: "ReportOnly", Message: "this kernel only lets the agent report"}
	case p.Spec.Mode == policy.ModeAudit:
		enforced.Reason = "Audit"
	}
	return [3]kube.Condition{{True: true, Reason: "Valid"}, {True: true, Reason: "Compiled"}, enforced}
}

// enforces says whether calls to peers are stopped on this kernel.
func (e *engine) enforces() bool {
	for _, h := range e.a.judge.Hooks() {
		if h.Name == "connect" {
			return h.Step != event.StepReport && h.Step != event.StepNone
		}
	}
	return true // nothing is attached yet
}

// fails are the conditions of a policy that did not come to one of them: 0, Accepted, or 1, Compiled. former says that an
// earlier version of it is in force.
func fails(at int, reason, message string, former bool) (out [3]kube.Condition) {
	message = strings.ToValidUTF8(message, "?")
	if at > 0 {
		out[0] = kube.Condition{True: true, Reason: "Valid"}
	}
	out[at] = kube.Condition{Reason: reason, Message: message}
	for i := at + 1; i < len(out); i++ {
		out[i] = kube.Condition{Reason: [...]string{"NotAccepted", "NotCompiled"}[at], Message: message}
	}
	if former {
		out[2].Reason = "FormerVersion"
	}
	return out
}

// coverage lists for each policy the workloads that it selects.
func coverage(now *snapshot) map[string][]string {
	covers := map[string][]string{}
	for i := range now.containers {
		g := &now.containers[i]
		if !g.named || int(g.ruleset) >= len(now.tables.Rulesets) {
			continue
		}
		seen := map[string]bool{}
		for _, rule := range now.tables.Rulesets[g.ruleset].Rules {
			if !seen[rule.Policy] {
				seen[rule.Policy] = true
				covers[rule.Policy] = append(covers[rule.Policy], g.name())
			}
		}
	}
	for name, list := range covers {
		slices.SortFunc(list, cmp.Compare[string])
		covers[name] = slices.Compact(list)
	}
	return covers
}
