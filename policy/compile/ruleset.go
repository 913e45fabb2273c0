package compile

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/sallyport/sallyport/policy"
)

// built is all that a ruleset says, but for what it is called and where its automata are.
type built struct {
	clauses  []*clause
	errs     Errors       // without the workload
	ruleset  *Ruleset     // as it was emitted last; whoever has it may still use it, so that it is replaced and not changed
	automata []*automaton // by kinds, and last that of the headers; nil: no pattern of the kind
	classes  *classes     // that its peers are of
	used     uint64       // the last run that used it
}

// build makes a ruleset of clauses.
func (c *Compiler) build(clauses []*clause) *built {
	b := &built{ruleset: &Ruleset{}}
	var err error
	if b.clauses, err = settle(clauses); err != nil {
		if one, ok := errors.AsType[*Error](err); ok {
			b.errs = append(b.errs, one)
		}
		return b
	}
	if n := len(b.clauses); n > MaxRules {
		over := &b.clauses[MaxRules].rule
		b.errs = append(b.errs, &Error{
			Policy: over.Policy, Rule: over.Name,
			Reason: fmt.Sprintf("goes over the %d rules that a container can have: it would have %d (each rule counts once for every process selector × every entry)", MaxRules, n),
		})
		return b
	}
	for bit, cl := range b.clauses {
		b.ruleset.add(bit, cl)
	}
	b.ruleset.Ports, b.ruleset.AnyPort = portEntries(b.clauses)
	b.ruleset.Users = idEntries(b.clauses, func(s *policy.ProcessSelector) []uint32 { return s.Users })
	b.ruleset.Groups = idEntries(b.clauses, func(s *policy.ProcessSelector) []uint32 { return s.Groups })
	for _, kind := range kinds() {
		b.automata = append(b.automata, c.pattern(b, kind))
	}
	c.demand(b)
	b.ruleset.Digest = digest(b.clauses)
	return b
}

// pattern makes the automaton of one kind of a ruleset's patterns.
func (c *Compiler) pattern(b *built, kind patternsOf) *automaton {
	made, err := c.automaton(b.clauses, kind)
	if err != nil {
		b.errs = append(b.errs, tooBig(b.clauses, kind, err))
	}
	return made
}

// uses marks the automata of a ruleset as used by a run.
func (b *built) uses(run uint64) {
	b.used = run
	for _, a := range b.automata {
		if a != nil {
			a.used = run
		}
	}
}

// emit appends a ruleset to the tables, as it was before unless something of it is elsewhere now.
func (r *run) emit(b *built) error {
	var now [places]DFARef
	for i, a := range b.automata {
		if a == nil {
			continue
		}
		var err error
		if now[i], err = r.packer.add(a); err != nil {
			return err
		}
	}
	if now != b.ruleset.where() {
		rules := *b.ruleset
		for i, into := range rules.automata() {
			*into = now[i]
		}
		b.ruleset = &rules
	}
	r.tables.Rulesets = append(r.tables.Rulesets, b.ruleset)
	return nil
}

// add enters a clause's bit into what is looked up without a table.
func (r *Ruleset) add(bit int, cl *clause) {
	r.Rules = append(r.Rules, cl.rule)
	if cl.rule.Deny {
		r.Deny[cl.rule.Direction].Set(bit)
	} else {
		r.Allow[cl.rule.Direction].Set(bit)
	}
	if cl.rule.Audit {
		r.Audit.Set(bit)
	}
	if cl.anyPeer {
		r.AnyPeer.Set(bit)
	}
	r.ICMP = r.ICMP || cl.icmp
	if cl.queries != nil {
		r.DNS.Set(bit)
	}
	if cl.servers != nil {
		r.TLS.Set(bit)
	}
	if cl.request != nil {
		r.HTTP.Set(bit)
	}
	for _, part := range []struct {
		set  *Bitset
		none bool
	}{
		{&r.AnyMethod, cl.request == nil || cl.request.Method.IsZero()},
		{&r.AnyPath, cl.request == nil || cl.request.Path.IsZero()},
		{&r.AnyHost, cl.request == nil || cl.request.Host.IsZero()},
	} {
		if part.none {
			part.set.Set(bit)
		}
	}
	origins := policy.Origins()
	selected := cl.selector.Origins
	if selected == nil {
		selected = origins[:]
	}
	for _, o := range selected {
		r.Origins[o.Number()].Set(bit)
	}
	if cl.selector.Users == nil {
		r.AnyUser.Set(bit)
	}
	if cl.selector.Groups == nil {
		r.AnyGroup.Set(bit)
	}
	if cl.rule.Deny || cl.governs || cl.anyOf {
		r.AnyOf.Set(bit)
	}
	if cl.script == nil {
		r.AnyScript.Set(bit)
	}
	if cl.selector.Binaries == nil {
		r.AnyBinary.Set(bit)
	}
	if cl.rule.Deny && (cl.script != nil || cl.selector.Binaries != nil) {
		// Which binary a cut path names cannot be told. A Deny rule takes it for one of its
		// own: a long path must not be the way around it (fails closed).
		r.Truncated.Set(bit)
	}
}

// AsksBut says whether there are rules besides those that do not ask for something.
func (r *Ruleset) AsksBut(indifferent Bitset) bool {
	all := r.Allow[Egress].Or(r.Allow[Ingress]).Or(r.Deny[Egress]).Or(r.Deny[Ingress])
	return all.AndNot(indifferent) != Bitset{}
}

// idEntries makes the user or group entries of a ruleset.
func idEntries(clauses []*clause, of func(*policy.ProcessSelector) []uint32) (entries []IDEntry) {
	var anyone Bitset
	own := map[uint32]Bitset{}
	for bit, cl := range clauses {
		ids := of(cl.selector)
		if ids == nil {
			anyone.Set(bit)
		}
		for _, id := range ids {
			s := own[id]
			s.Set(bit)
			own[id] = s
		}
	}
	for _, id := range slices.Sorted(maps.Keys(own)) {
		entries = append(entries, IDEntry{ID: id, Bits: own[id].Or(anyone)})
	}
	return entries
}

// place gives a ruleset its peers as they are in classes of addresses. Where the identities of all its
// selectors are those that they had in the classes before, its entries are too.
func (b *built) place(c *classes) {
	if b.classes == nil || slices.ContainsFunc(b.clauses, func(cl *clause) bool {
		return !cl.anyPeer && !slices.Equal(b.classes.members[cl.peers], c.members[cl.peers])
	}) {
		rules := *b.ruleset
		rules.Peers = peerEntries(b.clauses, c)
		b.ruleset = &rules
	}
	b.classes = c
}

// peerEntries makes the peer entries of a ruleset.
func peerEntries(clauses []*clause, classes *classes) (entries []PeerEntry) {
	var anyPeer Bitset
	bits := map[Identity]Bitset{}
	for bit, cl := range clauses {
		if cl.anyPeer {
			anyPeer.Set(bit)
			continue
		}
		for _, identity := range classes.members[cl.peers] {
			set := bits[identity]
			set.Set(bit)
			bits[identity] = set
		}
	}
	entries = slices.Grow(entries, len(bits))
	for _, identity := range slices.Sorted(maps.Keys(bits)) {
		entries = append(entries, PeerEntry{Identity: identity, Bits: bits[identity].Or(anyPeer)})
	}
	return entries
}
