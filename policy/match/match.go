// Package match judges calls by the policies themselves, slowly and obviously: no bits, no tables,
// no cleverness. It is what the tables of compile and the programs in the kernel are measured
// against, and what explains a verdict to people.
//
// It is pure and imports policy only. It must never import compile: the two would then be wrong
// together.
package match

import (
	"slices"

	"github.com/sallyport/sallyport/policy"
)

type (
	// Input is what calls are judged by. compile turns the same into tables.
	Input = policy.Input
	// Process is who makes a call.
	Process = policy.Process
	// Call is what is judged.
	Call = policy.Call
)

// Decision is what the policies say about a call.
type Decision struct {
	Verdict  policy.Verdict  `json:"verdict"`
	Would    policy.Verdict  `json:"would,omitzero"`    // for Audit: what Enforce would have done
	Severity policy.Severity `json:"severity,omitzero"` // of a denial, also of one that is only audited
	Reason   policy.Reason   `json:"reason"`
	Rule     string          `json:"rule,omitzero"`       // namespace/policy/rule that decided; "": none
	Ref      uint64          `json:"ref,omitzero,string"` // of the combination in it that decided, see policy.Ref
}

// Denies says whether the call is stopped.
func (d Decision) Denies() bool {
	return d.Verdict != policy.VerdictAllow && d.Verdict != policy.VerdictAudit
}

// Judge decides about a call. Of in it uses the policies, the node and the world; the workload is the
// process's own.
func Judge(in Input, p Process, c Call) Decision {
	c = c.Canonical()
	d, _ := judgement(candidates(in, p, c), question{call: &c})
	return d
}

// JudgeQuery decides about a DNS query: by the call that carries it, and where a rule allows that,
// also by the name that is asked for.
func JudgeQuery(in Input, p Process, q policy.Query) Decision {
	c := q.Call.Canonical()
	d, _ := judgement(candidates(in, p, c), question{call: &c, query: &q.Name})
	return d
}

// JudgeRequest decides about an HTTP request, as JudgeQuery does about a query.
func JudgeRequest(in Input, p Process, r policy.Request) Decision {
	c := r.Call.Canonical()
	d, _ := judgement(candidates(in, p, c), question{call: &c, request: &r})
	return d
}

// JudgeHello decides about the beginning of a TLS connection, as JudgeQuery does about a query.
func JudgeHello(in Input, p Process, h policy.Hello) Decision {
	c := h.Call.Canonical()
	d, _ := judgement(candidates(in, p, c), question{call: &c, server: &h.ServerName})
	return d
}

// candidate is one rule of a policy with one of its process selectors and one of its entries, and
// what it has to do with the process and the call.
type candidate struct {
	rule     string
	ref      uint64
	policy   *policy.Policy
	yaml     *policy.Rule
	selector int           // of the rule's process selectors
	entry    int           // of the rule's list of the direction; -1: it is empty, and matches no call
	inside   *policy.Entry // what may be said inside; nil: the candidate matches no call
	dir      policy.Direction
	who      string // why it does not select the process; "": it does
	governed bool   // it selects the process as far as default-deny goes: by one of its ids
	peer     string // why it does not match the peer; "": it does
	port     string // why it does not match the protocol and port; "": it does
}

func (c *candidate) audits() bool { return c.policy.Audits(c.yaml) }
func (c *candidate) denies() bool { return c.yaml.Denies() }
func (c *candidate) hits() bool   { return c.who == "" && c.peer == "" && c.port == "" }

// governs says whether a candidate makes its direction default-deny for the process.
func (c *candidate) governs() bool {
	return c.governed && !c.denies() && !c.yaml.Optional[c.dir]
}

// allows says whether a candidate that allows a call also allows what is said inside.
func (c *candidate) allows(q question) bool {
	e := c.inside
	switch {
	case e == nil:
	case q.query != nil:
		return e.DNS == nil || anyName(e.DNS, *q.query)
	case q.request != nil:
		return allowsServer(e, q.request.Server) &&
			(e.HTTP == nil || slices.ContainsFunc(e.HTTP, func(r policy.HTTPRule) bool { return r.Matches(q.request) }))
	case q.server != nil:
		return allowsServer(e, *q.server)
	}
	return true
}

// allowsServer says whether an entry allows a TLS connection by the name that it asks for; "" for none.
func allowsServer(e *policy.Entry, server string) bool {
	matches := func(p policy.NamePattern) bool { return p.Match(server) }
	return e.ServerNames == nil || server != "" && slices.ContainsFunc(e.ServerNames, matches)
}

// candidates lists all rules of all policies in the order in which they decide: by namespace and
// name of the policy, as written in it, and for each rule by process selector, direction and entry.
func candidates(in Input, p Process, c Call) (out []candidate) {
	policies := slices.Clone(in.Policies)
	slices.SortStableFunc(policies, policy.Compare)
	for _, pol := range policies {
		for i := range pol.Spec.Rules {
			out = append(out, ofRule(&in, pol, &pol.Spec.Rules[i], question{process: &p, call: &c})...)
		}
	}
	return out
}

// question is who asks, and for what.
type question struct {
	process *Process
	call    *Call
	// What is said inside of the call; all nil: the call alone is asked about.
	query   *string // the name that a DNS query asks for
	request *policy.Request
	server  *string // the name that a TLS client asks for
}

// ofRule lists the candidates of one rule.
func ofRule(in *Input, pol *policy.Policy, r *policy.Rule, q question) (out []candidate) {
	for s, selector := range r.Selectors() {
		processes := selecting{pol, r, &selector}
		who := processes.whyNot(q.process, r.Denies())
		governed := processes.whyNot(q.process, true) == ""
		for _, dir := range []policy.Direction{policy.Egress, policy.Ingress} {
			entries, count, named := r.Entries(dir)
			if !named {
				continue
			}
			cand := candidate{rule: pol.RuleName(r), policy: pol, yaml: r, selector: s, dir: dir, who: who, governed: governed}
			if len(entries) == 0 {
				cand.entry, cand.peer = -1, "the list of "+dir.String()+" is empty: nothing is allowed"
				cand.ref = policy.Ref(cand.rule, dir, s)
				out = append(out, cand)
				continue
			}
			for i := range entries {
				e := &entries[i]
				cand.entry, cand.inside = e.Index, e
				cand.ref = policy.Ref(cand.rule, dir, s*count+e.Index)
				cand.peer, cand.port = whyNotCall(in, e, q, cand.denies())
				if dir == policy.Egress && (cand.peer != "" || cand.port != "") && throughService(in, e, q, cand.denies()) {
					cand.peer, cand.port = "", ""
				}
				out = append(out, cand)
			}
		}
	}
	return out
}

// whyNotCall says why an entry does not match the other end of a call, and why not its port.
func whyNotCall(in *Input, e *policy.Entry, q question, denies bool) (peer, port string) {
	return whyNotPeer(in, &e.Peers, q.call), whyNotPort(in, e, q, denies)
}

// throughService says whether an entry matches a call to a service by the backends behind it: where
// it denies, one is enough, and where it allows, all must match.
func throughService(in *Input, e *policy.Entry, q question, denies bool) bool {
	if q.call.Listen || q.call.Direction != policy.Egress || !q.call.Peer.IsValid() {
		return false
	}
	backends := in.Backends(q.call.Peer, q.call.Protocol, q.call.Port)
	for _, b := range backends {
		c := policy.Call{Direction: policy.Egress, Protocol: q.call.Protocol, Peer: b.Addr(), Port: b.Port()}.Canonical()
		peer, port := whyNotCall(in, e, question{process: q.process, call: &c}, denies)
		if matches := peer == "" && port == ""; matches == denies {
			return denies
		}
	}
	return !denies && len(backends) > 0
}

// judgement decides by the rules that enforce, and if they allow, asks what all would have said. It
// also returns the candidate that decides, or nil.
func judgement(all []candidate, q question) (Decision, *candidate) {
	var enforcing []*candidate
	every := make([]*candidate, len(all))
	for i := range all {
		every[i] = &all[i]
		if !all[i].audits() {
			enforcing = append(enforcing, &all[i])
		}
	}
	d, by := decide(enforcing, q)
	if d.Denies() {
		return d, by
	}
	audited, auditedBy := decide(every, q)
	if audited.Denies() {
		audited.Verdict, audited.Would = policy.VerdictAudit, audited.Verdict
		return audited, auditedBy
	}
	return d, by
}

// decide: the first Deny rule that matches. Else, if no Allow rule makes the direction default-deny
// for the process, all passes. Else the first Allow rule that matches, those last that make nothing
// default-deny, else the default. Where Allow
// rules match the call, the first that also allows what is said inside, else the first of them denies. For
// a Listen only Deny rules count.
func decide(all []*candidate, q question) (Decision, *candidate) {
	c := q.call
	var governing *candidate
	for _, cand := range all {
		if cand.dir != c.Direction {
			continue
		}
		if cand.denies() && cand.hits() {
			return denial(cand, policy.ReasonRule), cand
		}
		if governing == nil && cand.governs() {
			governing = cand
		}
	}
	if c.Listen || governing == nil {
		return Decision{Verdict: policy.VerdictAllow, Reason: policy.ReasonUngoverned}, nil
	}
	var refusing *candidate
	for _, cand := range optionalLast(all) {
		if cand.dir != c.Direction || cand.denies() || !cand.hits() {
			continue
		}
		if cand.allows(q) {
			return Decision{Verdict: policy.VerdictAllow, Reason: policy.ReasonRule, Rule: cand.rule, Ref: cand.ref}, cand
		}
		if refusing == nil {
			refusing = cand
		}
	}
	switch {
	case refusing != nil:
		return denial(refusing, policy.ReasonRule), refusing
	case policy.IsLoopback(c.Peer):
		return Decision{Verdict: policy.VerdictAllow, Reason: policy.ReasonLoopback}, nil
	}
	return denial(governing, policy.ReasonDefault), governing
}

// optionalLast puts the Allow rules that make nothing default-deny behind the others.
func optionalLast(all []*candidate) []*candidate {
	out := slices.Clone(all)
	slices.SortStableFunc(out, func(a, b *candidate) int {
		switch optionalA, optionalB := a.yaml.Optional[a.dir], b.yaml.Optional[b.dir]; {
		case optionalA == optionalB:
			return 0
		case optionalA:
			return 1
		}
		return -1
	})
	return out
}

// denial is what a violation of a rule gets.
func denial(cand *candidate, reason policy.Reason) Decision {
	v := cand.policy.Spec.Violation(cand.yaml)
	return Decision{Verdict: v.Verdict, Severity: v.Alert, Reason: reason, Rule: cand.rule, Ref: cand.ref}
}
