// Package cases owns the test files of policies: who calls whom, and what the policies shall decide.
// It reads them as strictly as policies are read and runs them against policy/match.
//
// It is pure: it imports policy and policy/match, and opens no file.
package cases

import (
	"fmt"
	"slices"
	"strings"

	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/policy/match"
)

// Kind is what a document must say to be cases. Its apiVersion is that of policies.
const Kind = "PolicyTest"

// Set is one document of a test file.
type Set struct {
	Policies []string    // files and folders, from the folder of the test file; nil: the document names none
	Node     policy.Node // what the entity host stands for
	World    policy.World
	Cases    []Case
	File     string
	Line     int
}

// Case is one call of one process, and what shall be decided about it.
type Case struct {
	Name    string
	File    string
	Line    int
	Process policy.Process
	Call    policy.Call
	Query   string          // the name that the call asks a resolver for; "" for the call itself
	Request *policy.Request // what is asked for over the call's connection, whose Call is not filled in; nil: nothing is
	// ServerName is the name that the client of a TLS connection asks for; nil: none is asked about.
	ServerName *string
	Want       Want
}

// Want is what a decision must be. What is empty may be anything.
type Want struct {
	Verdict policy.Verdict  `json:"verdict"`
	Would   policy.Verdict  `json:"would,omitzero"`
	Rule    string          `json:"rule,omitzero"` // namespace/policy/rule
	Reason  policy.Reason   `json:"reason,omitzero"`
	Alert   policy.Severity `json:"alert,omitzero"`
}

// Result is what came out of a case.
type Result struct {
	Case     *Case
	Got      match.Explanation
	Failures []string // how the decision differs from what is wanted; nil: it does not
}

// Passed says whether the decision is what is wanted.
func (r *Result) Passed() bool { return len(r.Failures) == 0 }

// Run decides the cases of a set by policies.
func (s *Set) Run(policies []*policy.Policy) []Result {
	in := policy.Input{Policies: policies, Node: s.Node, World: s.World}
	out := make([]Result, len(s.Cases))
	for i := range s.Cases {
		c := &s.Cases[i]
		got := match.Ask(in, c.Process, c.question())
		out[i] = Result{Case: c, Got: got, Failures: c.Want.differs(got.Decision)}
	}
	return out
}

// question is what a case asks.
func (c *Case) question() policy.Question {
	q := policy.Question{Call: c.Call, Request: c.Request, ServerName: c.ServerName}
	if c.Query != "" {
		q.Query = &c.Query
	}
	return q
}

// differs says how a decision is not what is wanted.
func (w *Want) differs(d match.Decision) (out []string) {
	for _, part := range []struct{ what, want, got string }{
		{"verdict", string(w.Verdict), string(d.Verdict)},
		{"would", string(w.Would), string(d.Would)},
		{"rule", w.Rule, d.Rule},
		{"reason", string(w.Reason), string(d.Reason)},
		{"alert", string(w.Alert), string(d.Severity)},
	} {
		if part.want == "" || part.want == part.got {
			continue
		}
		got := part.got
		if got == "" {
			got = "none"
		}
		out = append(out, fmt.Sprintf("%s is %s, not %s", part.what, got, part.want))
	}
	return out
}

// Who returns the process and the workload of a case as people write them.
func (c *Case) Who() string {
	p := &c.Process
	parts := []string{string(p.Origin)}
	for _, text := range []string{p.Exe, p.Script} {
		if text != "" {
			parts = append(parts, text)
		}
	}
	if p.User != (policy.IDs{}) || p.Group != (policy.IDs{}) {
		parts = append(parts, fmt.Sprintf("(user %s, group %s)", p.User, p.Group))
	}
	if len(p.Groups) > 0 {
		parts = append(parts, fmt.Sprintf("(also in groups %v)", p.Groups))
	}
	return strings.Join(append(parts, "in", where(&p.Workload)), " ")
}

// where returns a workload as people write it.
func where(w *policy.Workload) string {
	if w.Host != nil {
		return strings.Join(slices.DeleteFunc([]string{"the node", w.Host.Unit, w.Host.Cgroup}, func(s string) bool { return s == "" }), " ")
	}
	labels := make([]string, 0, len(w.Labels))
	for key, value := range w.Labels {
		labels = append(labels, key+"="+value)
	}
	slices.Sort(labels)
	if len(labels) == 0 {
		return w.Namespace + "/" + w.Container
	}
	return w.Namespace + "/" + w.Container + " (" + strings.Join(labels, ",") + ")"
}

// What returns the call of a case as people write it.
func (c *Case) What() string {
	text := "to " + c.Call.String()
	switch {
	case c.Call.Listen:
		return "listen " + c.Call.String()
	case c.Call.Direction == policy.Ingress:
		text = "from " + c.Call.String()
	}
	if c.Call.ICMPType != nil {
		text += fmt.Sprintf(" type %d", *c.Call.ICMPType)
	}
	if len(c.Call.Names) > 0 {
		text += " (" + strings.Join(c.Call.Names, ", ") + ")"
	}
	if c.Query != "" {
		text += " for " + c.Query
	}
	if c.Request != nil {
		text += " for " + c.Request.Method + " " + c.Request.Host + c.Request.Path
	}
	if c.ServerName != nil {
		text += " for the server " + *c.ServerName
	}
	return text
}
