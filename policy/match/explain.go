package match

import (
	"fmt"

	"github.com/sallyport/sallyport/policy"
)

// Explanation is a decision with what every rule had to do with it.
type Explanation struct {
	Decision Decision    `json:"decision"`
	Why      string      `json:"why"`   // the decision in one sentence
	Rules    []RuleTrace `json:"rules"` // in the order in which they decide
}

// RuleTrace says what one combination of a rule's process selectors and entries had to do with a
// decision.
type RuleTrace struct {
	Rule      string        `json:"rule"`     // namespace/policy/rule
	Selector  int           `json:"selector"` // index in spec.rules[].processes
	Entry     int           `json:"entry"`    // index in the list of the direction; -1: it is empty
	File      string        `json:"file,omitzero"`
	Line      int           `json:"line,omitzero"`
	Direction string        `json:"direction"` // egress or ingress
	Action    policy.Action `json:"action"`
	Mode      policy.Mode   `json:"mode"`
	Ref       uint64        `json:"ref,string"`
	Concerns  bool          `json:"concerns"` // the policy selects the workload
	Selects   bool          `json:"selects"`  // the process
	Matches   bool          `json:"matches"`  // the process and the call
	Decides   bool          `json:"decides"`
	Why       string        `json:"why"`
}

// Decide decides about a question.
func Decide(in Input, p Process, asked policy.Question) Decision {
	c := asked.Call.Canonical()
	q := question{process: &p, call: &c, query: asked.Query, request: asked.Request, server: asked.ServerName}
	d, _ := judgement(candidates(in, p, c), q)
	return d
}

// Ask decides about a question, and says for every rule of every policy why it matched or did not.
func Ask(in Input, p Process, asked policy.Question) Explanation {
	c := asked.Call.Canonical()
	q := question{process: &p, call: &c, query: asked.Query, request: asked.Request, server: asked.ServerName}
	return explain(candidates(in, p, c), q)
}

// Explain decides as Judge does and explains as Ask does.
func Explain(in Input, p Process, c Call) Explanation { return Ask(in, p, policy.Question{Call: c}) }

// ExplainQuery decides as JudgeQuery does and explains as Ask does.
func ExplainQuery(in Input, p Process, q policy.Query) Explanation {
	return Ask(in, p, policy.Question{Call: q.Call, Query: &q.Name})
}

// ExplainRequest decides as JudgeRequest does and explains as Ask does.
func ExplainRequest(in Input, p Process, r policy.Request) Explanation {
	return Ask(in, p, policy.Question{Call: r.Call, Request: &r})
}

// ExplainHello decides as JudgeHello does and explains as Ask does.
func ExplainHello(in Input, p Process, h policy.Hello) Explanation {
	return Ask(in, p, policy.Question{Call: h.Call, ServerName: &h.ServerName})
}

// saidInside shows what is said inside of a call; "" where the call alone is asked about.
func saidInside(q question) string {
	switch {
	case q.query != nil:
		return "query for " + show(*q.query)
	case q.request != nil:
		said := "request " + show(q.request.Method) + " "
		if q.request.Host != "" {
			said += show(q.request.Host)
		}
		return said + show(q.request.Path)
	case q.server != nil:
		return "server name " + show(*q.server)
	}
	return ""
}

// whyNotInside says why a candidate that allows a call does not allow what is said inside.
func whyNotInside(cand *candidate, q question) string {
	switch e := cand.inside; {
	case q.query != nil:
		return fmt.Sprintf("allows the resolver, but the name %s is none of %s", show(*q.query), join(e.DNS))
	case q.server != nil:
		return fmt.Sprintf("allows the peer, but the server name %s is none of %s", show(*q.server), join(e.ServerNames))
	case !allowsServer(e, q.request.Server):
		return fmt.Sprintf("allows the peer, but the server name %s is none of %s", show(q.request.Server), join(e.ServerNames))
	}
	return "allows the peer, but the " + saidInside(q) + " matches none of rules.http"
}

func explain(all []candidate, q question) Explanation {
	d, by := judgement(all, q)
	e := Explanation{Decision: d, Why: sentence(d, q), Rules: make([]RuleTrace, 0, len(all))}
	for i := range all {
		e.Rules = append(e.Rules, trace(&all[i], q, d, &all[i] == by))
	}
	return e
}

// trace explains one candidate.
func trace(cand *candidate, q question, d Decision, decides bool) RuleTrace {
	c := q.call
	allows := cand.denies() || !c.Listen && cand.allows(q)
	t := RuleTrace{
		Rule: cand.rule, Selector: cand.selector, Entry: cand.entry, File: cand.policy.File, Line: cand.yaml.Line,
		Direction: cand.dir.String(), Action: cand.yaml.Action, Mode: cand.policy.Spec.Mode, Ref: cand.ref,
		Concerns: cand.policy.Selects(&q.process.Workload), Selects: cand.who == "", Matches: cand.dir == c.Direction && cand.hits() && allows, Decides: decides,
	}
	switch {
	case cand.who != "":
		t.Why = cand.who
	case cand.dir != c.Direction:
		t.Why = fmt.Sprintf("is about %s, the call is %s", cand.dir, c.Direction)
	case cand.peer != "":
		t.Why = cand.peer
	case cand.port != "":
		t.Why = cand.port
	case c.Listen && !cand.denies():
		t.Why = "allows peers: whether it lets one in is asked when one comes"
	case !allows:
		t.Why = whyNotInside(cand, q)
	default:
		t.Why = "matches the process, the peer and the port"
	}
	if t.Decides && d.Reason == policy.ReasonDefault {
		t.Why += "; it is the first Allow rule that selects the process, so that it sets the default"
	}
	return t
}

// sentence says a decision in one sentence.
func sentence(d Decision, q question) string {
	c := q.call
	var because string
	switch d.Reason {
	case policy.ReasonRule:
		because = "rule " + d.Rule + " matches"
		if said := saidInside(q); said != "" && (d.Denies() || d.Would != "") {
			because = "rule " + d.Rule + " denies the " + said
		}
	case policy.ReasonDefault:
		because = "rules select the process for " + c.Direction.String() + " and none allows the call; the first is " + d.Rule
	case policy.ReasonUngoverned:
		because = "no Allow rule selects the process for " + c.Direction.String() + ", and no Deny rule matches"
		if c.Listen {
			because = "no Deny rule of every peer matches; whom Allow rules let in is asked when a peer comes"
		}
	case policy.ReasonLoopback:
		because = "the peer is the pod's own loopback, which default-deny leaves alone"
	}
	if d.Verdict == policy.VerdictAudit {
		return fmt.Sprintf("%s (would be %s): %s", d.Verdict, d.Would, because)
	}
	return fmt.Sprintf("%s: %s", d.Verdict, because)
}
