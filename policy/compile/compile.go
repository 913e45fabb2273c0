package compile

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/sallyport/sallyport/policy"
)

type (
	// Input is what is compiled. match is asked with the same.
	Input = policy.Input
	// Workload is one container that policies can select.
	Workload = policy.Workload
	// Node is the machine whose addresses the entity host stands for.
	Node = policy.Node
)

// Compile turns policies into the tables that the kernel walks. Its error is an Errors with everything
// that stands against it; then there are no tables, and the caller keeps those it had (fails closed).
func Compile(in Input) (*Tables, error) { return Enforced{}.Compile(in) }

// Compile compiles for somebody who can judge by more than the kernel does.
func (e Enforced) Compile(in Input) (*Tables, error) {
	policies, errs := ordered(in.Policies)
	for _, p := range policies {
		for i := range p.Spec.Rules {
			errs = append(errs, e.unsupported(p, &p.Spec.Rules[i])...)
		}
	}
	w := newWorld(&in)
	c := &compiler{
		world: w, peers: newPeerIndex(w), packer: newPacker(), errs: errs,
		tables: &Tables{Containers: make(map[uint64]uint32, len(in.Workloads))},
		dfas:   map[string]DFARef{}, rulesets: map[string]uint32{}, spots: map[extrasKey][]spot{}, resolved: map[string]*clause{},
	}
	c.assign(policies, in.Workloads)
	if len(c.errs) == 0 {
		c.fill()
	}
	if len(c.errs) > 0 {
		return nil, c.errs
	}
	return c.tables, nil
}

// compiler holds what one compilation has so far.
type compiler struct {
	tables   *Tables
	world    *world
	spots    map[extrasKey][]spot
	resolved map[string]*clause // by clause and the ports of a workload
	peers    *peerIndex
	packer   *packer
	dfas     map[string]DFARef // by patterns and their rules
	rulesets map[string]uint32 // id by clauses
	selected [][]*clause       // by ruleset: its clauses, by bit
	example  []string          // by ruleset: a workload that has it
	errs     Errors
}

// assign gives every workload its ruleset, in the order of their keys.
func (c *compiler) assign(policies []*policy.Policy, workloads []Workload) {
	byNamespace := map[string][]*policy.Policy{}
	for _, p := range policies {
		byNamespace[p.Metadata.Namespace] = append(byNamespace[p.Metadata.Namespace], p)
	}
	workloads = slices.Clone(workloads)
	slices.SortStableFunc(workloads, func(a, b Workload) int { return cmp.Compare(a.Key, b.Key) })
	clauses := map[*policy.Policy]*numbered{}
	c.ruleset("", nil, nil) // ruleset 0 is the empty one
	var all int
	for i := range workloads {
		w := &workloads[i]
		if _, twice := c.tables.Containers[w.Key]; twice {
			c.errs = append(c.errs, &Error{Workload: workloadName(w), Reason: fmt.Sprintf("the key %d is there twice", w.Key)})
			continue
		}
		var key []byte
		var mine []*clause
		// Policies of the cluster come first, as policy.Compare orders them.
		candidates := byNamespace[""]
		if w.Namespace != "" {
			candidates = slices.Concat(candidates, byNamespace[w.Namespace])
		}
		for _, p := range candidates {
			if !p.Selects(w) {
				continue
			}
			n, ok := clauses[p]
			if !ok {
				n = &numbered{first: all, clauses: c.expand(p)}
				clauses[p] = n
				all += len(n.clauses)
			}
			for j := range n.clauses {
				if n.clauses[j].covers(w) {
					cl := c.ofWorkload(&n.clauses[j], w)
					mine = append(mine, cl)
					key = binary.AppendUvarint(key, uint64(n.first+j))
					if cl != &n.clauses[j] {
						key = fmt.Appendf(key, "%v", cl.ports)
					}
				}
			}
		}
		c.tables.Containers[w.Key] = c.ruleset(string(key), mine, w)
	}
}

// numbered is the clauses of one policy; the first one's number among all policies' is first.
type numbered struct {
	first   int
	clauses []clause
}

// ruleset returns the id of the ruleset with these clauses, which key names.
func (c *compiler) ruleset(key string, clauses []*clause, w *Workload) uint32 {
	if id, ok := c.rulesets[key]; ok {
		return id
	}
	name := ""
	if w != nil {
		name = workloadName(w)
	}
	clauses, err := settle(clauses)
	if one := (*Error)(nil); errors.As(err, &one) {
		one.Workload = name
		c.errs = append(c.errs, one)
	}
	if len(clauses) > MaxRules {
		over := &clauses[MaxRules].rule
		c.errs = append(c.errs, &Error{
			Policy: over.Policy, Rule: over.Name, Workload: name,
			Reason: fmt.Sprintf("goes over the %d rules that a container can have: it would have %d (each rule counts once for every process selector × every entry)", MaxRules, len(clauses)),
		})
	}
	id := uint32(len(c.selected))
	c.rulesets[key] = id
	c.selected = append(c.selected, clauses)
	c.example = append(c.example, name)
	return id
}

// workloadName is how errors name a workload.
func workloadName(w *Workload) string {
	switch {
	case w.Host != nil && w.Host.Unit != "":
		return w.Host.Unit
	case w.Host != nil:
		return w.Host.Cgroup
	case w.Pod == "":
		return w.Namespace + "/" + w.Container
	}
	return w.Namespace + "/" + w.Pod + "/" + w.Container
}

// fill makes the tables of all rulesets.
func (c *compiler) fill() {
	classes := c.peers.classify()
	c.tables.Addresses = classes.addresses
	acc := make([]Bitset, classes.count)
	for id, clauses := range c.selected {
		r := Ruleset{}
		ports, anyPort := portEntries(uint32(id), clauses)
		r.AnyPort = anyPort
		c.tables.Ports = append(c.tables.Ports, ports...)
		for bit, cl := range clauses {
			r.add(bit, cl)
		}
		c.tables.Peers = append(c.tables.Peers, peerEntries(uint32(id), clauses, &classes, acc)...)
		for _, a := range []struct {
			into *DFARef
			what patternsOf
		}{{&r.Exe, binaries}, {&r.Interpreters, interpreters}, {&r.Scripts, scripts}, {&r.Names, names}, {&r.Queries, queries}} {
			var err error
			if *a.into, err = c.automaton(clauses, a.what); err != nil {
				c.errs = append(c.errs, tooBig(clauses, c.example[id], a.what, err))
			}
		}
		c.tables.Users = append(c.tables.Users, idEntries(uint32(id), clauses, func(s *policy.ProcessSelector) []uint32 { return s.Users })...)
		c.tables.Groups = append(c.tables.Groups, idEntries(uint32(id), clauses, func(s *policy.ProcessSelector) []uint32 { return s.Groups })...)
		c.tables.Rulesets = append(c.tables.Rulesets, r)
	}
	c.tables.Pages, c.tables.Accepts = c.packer.pages, c.packer.accepts
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
	if cl.queries != nil {
		r.DNS.Set(bit)
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

// idEntries makes the user or group entries of a ruleset.
func idEntries(ruleset uint32, clauses []*clause, of func(*policy.ProcessSelector) []uint32) (entries []IDEntry) {
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
		entries = append(entries, IDEntry{ruleset, id, own[id].Or(anyone)})
	}
	return entries
}

// peerEntries makes the peer entries of a ruleset. acc has an empty set for every identity, and has
// it again afterwards.
func peerEntries(id uint32, clauses []*clause, classes *classes, acc []Bitset) (entries []PeerEntry) {
	var anyPeer Bitset
	bySelector := map[uint32]Bitset{}
	for bit, cl := range clauses {
		if cl.anyPeer {
			anyPeer.Set(bit)
			continue
		}
		s := bySelector[cl.peers]
		s.Set(bit)
		bySelector[cl.peers] = s
	}
	var touched []Identity
	for selector, set := range bySelector {
		for _, identity := range classes.members[selector] {
			if acc[identity] == (Bitset{}) {
				touched = append(touched, identity)
			}
			acc[identity] = acc[identity].Or(set)
		}
	}
	slices.Sort(touched)
	for _, identity := range touched {
		entries = append(entries, PeerEntry{id, identity, acc[identity].Or(anyPeer)})
		acc[identity] = Bitset{}
	}
	return entries
}
