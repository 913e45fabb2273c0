package compile

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/sallyport/sallyport/policy"
)

// clause is a compiled rule before it has a bit: a YAML rule × one of its process selectors × one
// of its entries in one direction.
type clause struct {
	id       uint64 // no other clause of the Compiler has it
	used     uint64 // of one that ofWorkload has made: the last run that used it
	rule     Rule
	selector *policy.ProcessSelector
	subject  *policy.EndpointSelector // selects workloads, besides the policy; nil: all of them
	script   *policy.Script           // of the selector's; nil: it has none
	optional bool                     // an Allow rule that makes nothing default-deny
	governs  bool                     // matches no call: makes its direction default-deny where one of the process's ids is named
	anyOf    bool                     // optional: one of the process's ids is enough, as for what makes its direction default-deny
	peers    uint32                   // id of a peer selector, if anyPeer is not set
	anyPeer  bool
	ports    []portSpan            // nil: every protocol and port
	names    []policy.FQDNSelector // peers by name, besides those of peers
	icmp     bool                  // ports stand for types of ICMP messages
	named    []policy.Port         // of an ingress clause: ports by name, which ofWorkload makes numbers of
	queries  []policy.FQDNSelector // names that may be asked for; nil: nothing is said about queries
	request  *policy.HTTPRule      // requests that may be made; nil: nothing is said about requests
	servers  []policy.NamePattern  // names that a TLS client may ask for; nil: nothing is said about them
	digest   uint64                // of its policy
}

// portSpan is a protocol and a range of its ports; first 0 is every port and no port.
type portSpan struct {
	protocol    uint8
	first, last uint16
}

// ordered returns the policies by namespace and name, and reports names that are there twice.
func ordered(in []*policy.Policy) (out []*policy.Policy, errs Errors) {
	out = slices.Clone(in)
	slices.SortStableFunc(out, policy.Compare)
	for i, p := range out {
		if i > 0 && out[i-1].Name() == p.Name() {
			errs = append(errs, policyError(p, nil, "is there twice"))
		}
	}
	return out, errs
}

// policyError is an error of a policy, or of a rule of it if r is not nil.
func policyError(p *policy.Policy, r *policy.Rule, reason string) *Error {
	e := &Error{Policy: p.Name(), File: p.File, Line: p.Line, Reason: reason}
	if r != nil {
		e.Rule, e.Line = p.RuleName(r), r.Line
	}
	return e
}

// expand makes the clauses of a policy, in the order of its rules, and of each rule in the order
// of its selectors, then egress before ingress, then of its entries. A digest of the policy that is not known yet (0) is made.
func (c *run) expand(p *policy.Policy, digest *uint64) (out []*clause, errs Errors) {
	if *digest == 0 {
		made, err := digestOf(p)
		if err != nil {
			return nil, Errors{policyError(p, nil, err.Error())}
		}
		*digest = made
	}
	for i := range p.Spec.Rules {
		r := &p.Spec.Rules[i]
		selectors := r.Selectors()
		for s := range selectors {
			for _, d := range []Direction{Egress, Ingress} {
				made, err := c.direction(part{p, r, &selectors[s], s}, d)
				out = append(out, made...)
				errs = append(errs, err...)
			}
		}
	}
	for _, cl := range out {
		cl.digest = *digest
	}
	return out, errs
}

// part is a rule of a policy with one of its process selectors, the index-th.
type part struct {
	policy   *policy.Policy
	rule     *policy.Rule
	selector *policy.ProcessSelector
	index    int
}

// direction makes the clauses of a part of a rule in one direction.
func (c *run) direction(of part, d Direction) (out []*clause, errs Errors) {
	p, r, selector := of.policy, of.rule, of.selector
	entries, count, named := r.Entries(d)
	if !named {
		return nil, nil
	}
	if len(entries) == 0 {
		// egress: [] has no entry to match, but its default-deny needs a bit.
		entries, count = []policy.Entry{{Peers: policy.Peers{CIDRs: []netip.Prefix{}}}}, 1
	}
	if (selector.Users != nil || selector.Groups != nil) && !r.Denies() && !r.Optional[d] {
		made, err := c.governing(clause{rule: newRule(p, r, d, of.index*count+entries[0].Index), selector: selector, subject: r.Subject})
		if err != nil {
			errs = append(errs, policyError(p, r, err.Error()))
		}
		out = append(out, made...)
	}
	for i := range entries {
		e := &entries[i]
		cl := clause{rule: newRule(p, r, d, of.index*count+e.Index), selector: selector, optional: r.Optional[d], subject: r.Subject}
		if err := c.match(&cl, e); err != nil {
			errs = append(errs, policyError(p, r, err.Error()))
			continue
		}
		all := []clause{cl}
		if d == Egress {
			all = append(all, c.extras(&cl, e)...)
		} else if hasNamed(e.Ports) && cl.ports != nil {
			all[0].named = e.Ports
		}
		for _, cl := range all {
			out = c.parted(out, cl, e.HTTP)
		}
	}
	return out, errs
}

// governing makes what an Allow rule that names users or groups is to the processes that have one of them, but
// not all that they act under named: default-deny, by the rule's name.
func (c *run) governing(cl clause) ([]*clause, error) {
	cl.governs = true
	if err := c.match(&cl, &policy.Entry{Peers: policy.Peers{CIDRs: []netip.Prefix{}}}); err != nil {
		return nil, err
	}
	return c.parted(nil, cl, nil), nil
}

// parted appends a clause for each of its scripts and requests: the patterns of one belong together, so
// that each has a bit of its own.
func (c *run) parted(out []*clause, cl clause, requests []policy.HTTPRule) []*clause {
	for i := range max(1, len(cl.selector.Scripts)) {
		if cl.selector.Scripts != nil {
			cl.script = &cl.selector.Scripts[i]
		}
		for j := range max(1, len(requests)) {
			if requests != nil {
				cl.request = &requests[j]
			}
			out = append(out, c.numbered(cl))
		}
	}
	return out
}

// numbered returns a clause with an id.
func (c *run) numbered(cl clause) *clause {
	c.clauses++
	cl.id = c.clauses
	return &cl
}

// newRule names a clause and says what a violation of it gets.
func newRule(p *policy.Policy, r *policy.Rule, d Direction, index int) Rule {
	violation := p.Spec.Violation(r)
	name := p.RuleName(r)
	return Rule{
		Ref: policy.Ref(name, d, index), Name: name, Policy: p.Name(), Direction: d, Index: index,
		Deny: r.Denies(), Audit: p.Audits(r),
		Verdict: violation.Verdict.Number(), Severity: violation.Alert.Number(),
	}
}

// match fills in what calls the clause matches.
func (c *run) match(cl *clause, e *policy.Entry) (err error) {
	cl.anyPeer = e.Peers.Any()
	if !cl.anyPeer {
		if cl.peers, err = c.peers.selector(&e.Peers); err != nil {
			return err
		}
	}
	cl.names, cl.queries, cl.servers = e.Peers.FQDNs, e.DNS, e.ServerNames
	for _, f := range e.ICMPs {
		// The type of a message is asked for as a port: see PortEntry.
		port := icmpPort(f.Type)
		cl.ports = append(cl.ports, portSpan{f.Protocol(), port, port})
		if cl.rule.Deny {
			// A message whose type is not known yet could be this one (fails closed).
			cl.ports = append(cl.ports, portSpan{f.Protocol(), icmpUnknown, icmpUnknown})
		}
	}
	if cl.icmp = e.ICMPs != nil; cl.icmp {
		return nil
	}
	for _, p := range e.Ports {
		if p.Name != "" {
			continue // see extras and ofWorkload
		}
		if p.AnyPort() {
			cl.ports = nil
			return nil
		}
		protocols := p.Protocol.Numbers()
		if protocols == nil {
			return fmt.Errorf("there is no protocol %q", p.Protocol)
		}
		first, last, _ := p.Range()
		for _, protocol := range protocols {
			cl.ports = append(cl.ports, portSpan{protocol, first, last})
		}
	}
	if e.Ports != nil && cl.ports == nil {
		cl.ports = []portSpan{}
	}
	return nil
}

// icmpPort is the port that stands for a type of ICMP messages: never 0, which stands for a protocol
// without ports.
func icmpPort(kind uint8) uint16 { return 256 + uint16(kind) }

// icmpUnknown is the port that stands for a message whose type is not known yet.
const icmpUnknown = 512

// covers says whether a clause can select processes of a workload. Which of them is asked for
// every process, by its origin and its executable.
func (cl *clause) covers(w *policy.Workload) bool {
	s := cl.selector
	named := func(g policy.Glob) bool { return g.Match(w.Container) }
	if cl.subject != nil && (w.Host != nil || !cl.subject.Matches(policy.EndpointLabels(w.Labels, w.Namespace, w.ServiceAccount, w.NamespaceLabels))) {
		return false
	}
	return (s.Containers == nil || slices.ContainsFunc(s.Containers, named)) &&
		(s.ContainerTypes == nil || slices.Contains(s.ContainerTypes, policy.ContainerType(w.ContainerType)))
}
