package compile

import (
	"cmp"
	"encoding/binary"
	"fmt"
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

// Compile turns policies into tables. Its error is an Errors with everything that stands against
// it; then there are no tables, and the caller keeps those it had (fails closed).
func Compile(in Input) (*Tables, error) {
	policies, errs := ordered(in.Policies)
	c := &compiler{
		peers: newPeerIndex(in.Node), packer: newPacker(), errs: errs,
		tables: &Tables{Containers: make(map[uint64]uint32, len(in.Workloads))},
		dfas:   map[string]DFARef{}, rulesets: map[string]uint32{},
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
		for _, p := range byNamespace[w.Namespace] {
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
					mine = append(mine, &n.clauses[j])
					key = binary.AppendUvarint(key, uint64(n.first+j))
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
	if w.Pod == "" {
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
		}{{&r.Exe, binaries}, {&r.Names, names}, {&r.Queries, queries}} {
			var err error
			if *a.into, err = c.automaton(clauses, a.what); err != nil {
				c.errs = append(c.errs, tooBig(clauses, c.example[id], a.what, err))
			}
		}
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
	switch {
	case cl.selector.Binaries == nil:
		r.AnyBinary.Set(bit)
	case cl.rule.Deny:
		// Which binary a cut path names cannot be told. A Deny rule takes it for one of its
		// own: a long path must not be the way around it (fails closed).
		r.Truncated.Set(bit)
	}
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
