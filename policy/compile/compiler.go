package compile

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"reflect"
	"slices"

	"github.com/sallyport/sallyport/policy"
)

// Compiler compiles again and again, and what a change does not touch it takes from the time before. The
// outcome depends on the input alone: it is what a new Compiler would make, byte for byte.
//
// It knows what is unchanged by identity: a policy that has the same address, a world whose slices are
// the same. Whoever hands something over must not change it afterwards. A Compiler is for one goroutine;
// its tables share memory with it and are only to be read.
type Compiler struct {
	enforced    Enforced
	node        policy.Node
	policyWorld policy.World
	world       *world
	mark        [sha256.Size]byte // of the world
	generation  uint64            // of the marks
	runs        uint64
	clauses     uint64 // how many have been made: their ids
	peers       *peerIndex
	expansions  map[*policy.Policy]*expansion
	resolved    map[resolvedKey]*clause
	rulesets    map[string]*built // by the ids of their clauses
	automata    map[string]*automaton
	classes     *classes
}

// expansion is the clauses of a policy.
type expansion struct {
	clauses    []*clause
	errs       Errors
	generation uint64
	used       uint64 // the last run that used it
}

// NewCompiler returns a compiler that has nothing yet.
func NewCompiler(e Enforced) *Compiler {
	c := &Compiler{enforced: e}
	c.forget()
	return c
}

// forget drops all that is known.
func (c *Compiler) forget() {
	c.world, c.peers, c.classes = nil, nil, nil
	c.expansions, c.resolved = map[*policy.Policy]*expansion{}, map[resolvedKey]*clause{}
	c.rulesets, c.automata = map[string]*built{}, map[string]*automaton{}
}

// run is one compilation.
type run struct {
	*Compiler
	tables   *Tables
	packer   *packer
	spots    map[extrasKey][]spot
	ids      map[string]uint32 // of the rulesets
	selected []*built          // by id
	example  []string          // by id: a workload that has it
	errs     Errors
}

// Compile compiles an input. Its error is as that of the function Compile.
func (c *Compiler) Compile(in Input) (*Tables, error) {
	c.runs++
	policies, errs := ordered(in.Policies)
	for _, p := range policies {
		errs = append(errs, c.enforced.unsupported(p)...)
	}
	c.look(&in)
	r := &run{
		Compiler: c, packer: newPacker(), errs: errs, spots: map[extrasKey][]spot{}, ids: map[string]uint32{},
		tables: &Tables{Containers: make(map[uint64]uint32, len(in.Workloads))},
	}
	r.assign(policies, in.Workloads)
	if len(r.errs) == 0 {
		r.fill()
	}
	c.sweep()
	if len(r.errs) > 0 {
		return nil, r.errs
	}
	return r.tables, nil
}

// look arranges the world, if it is not that of the time before.
func (c *Compiler) look(in *Input) {
	if c.world != nil && slices.Equal(c.node.Addresses, in.Node.Addresses) && sameWorld(&c.policyWorld, &in.World) {
		return
	}
	c.node, c.policyWorld = policy.Node{Addresses: slices.Clone(in.Node.Addresses)}, in.World
	c.world, c.classes = nil, nil // the two worlds of a large cluster need not be in memory at once
	if c.peers != nil {
		c.peers.world = nil
	}
	c.world = newWorld(in)
	if mark := c.world.mark(&in.World); mark != c.mark {
		c.mark = mark
		c.generation++
	}
	if c.peers == nil {
		c.peers = newPeerIndex(c.world)
		return
	}
	c.peers.refresh(c.world)
}

// sameWorld says whether two worlds share their parts.
func sameWorld(a, b *policy.World) bool {
	return same(a.Endpoints, b.Endpoints) && same(a.Services, b.Services) && same(a.RemoteNodes, b.RemoteNodes) &&
		same(a.APIServers, b.APIServers) && same(a.Health, b.Health) && same(a.Cluster, b.Cluster) &&
		reflect.ValueOf(a.Namespaces).Pointer() == reflect.ValueOf(b.Namespaces).Pointer()
}

// same says whether two slices are one.
func same[T any](a, b []T) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0])
}

// sweep forgets what the last run did not use. Selectors of peers are not told apart one by one: when
// most of them have gone all is forgotten.
func (c *Compiler) sweep() {
	for p, e := range c.expansions {
		if e.used != c.runs {
			delete(c.expansions, p)
		}
	}
	for key, b := range c.rulesets {
		if b.used != c.runs {
			delete(c.rulesets, key)
		}
	}
	for key, a := range c.automata {
		if a.used != c.runs {
			delete(c.automata, key)
		}
	}
	for key, cl := range c.resolved {
		if cl.used != c.runs {
			delete(c.resolved, key)
		}
	}
	const least = 1024
	if n := len(c.peers.bySelector); c.classes != nil && n > least && n > 4*c.classes.live {
		c.forget()
	}
}

// assign gives every workload its ruleset, in the order of their keys.
func (r *run) assign(policies []*policy.Policy, workloads []Workload) {
	byNamespace := map[string][]*policy.Policy{}
	for _, p := range policies {
		byNamespace[p.Metadata.Namespace] = append(byNamespace[p.Metadata.Namespace], p)
	}
	workloads = slices.Clone(workloads)
	slices.SortStableFunc(workloads, func(a, b Workload) int { return cmp.Compare(a.Key, b.Key) })
	r.ruleset("", nil, nil) // ruleset 0 is the empty one
	for i := range workloads {
		w := &workloads[i]
		if _, twice := r.tables.Containers[w.Key]; twice {
			r.errs = append(r.errs, &Error{Workload: workloadName(w), Reason: fmt.Sprintf("the key %d is there twice", w.Key)})
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
			for _, cl := range r.expansion(p).clauses {
				if cl.covers(w) {
					cl = r.ofWorkload(cl, w)
					mine = append(mine, cl)
					key = binary.AppendUvarint(key, cl.id)
				}
			}
		}
		r.tables.Containers[w.Key] = r.ruleset(string(key), mine, w)
	}
}

// expansion returns the clauses of a policy.
func (r *run) expansion(p *policy.Policy) *expansion {
	e, ok := r.expansions[p]
	if ok && e.generation == r.generation {
		if e.used != r.runs {
			e.used = r.runs
			r.errs = append(r.errs, e.errs...)
		}
		return e
	}
	fresh := &expansion{generation: r.generation, used: r.runs}
	fresh.clauses, fresh.errs = r.expand(p)
	if ok && slices.EqualFunc(e.clauses, fresh.clauses, sameClause) {
		fresh.clauses = e.clauses // the world has changed and says nothing new to it
	}
	r.expansions[p] = fresh
	r.errs = append(r.errs, fresh.errs...)
	return fresh
}

// sameClause says whether two clauses that the same part of the same policy has become are one.
func sameClause(a, b *clause) bool {
	return a.rule == b.rule && a.selector == b.selector && a.script == b.script && sameRequest(a, b) && a.peers == b.peers && a.anyPeer == b.anyPeer &&
		slices.Equal(a.ports, b.ports) && len(a.names) == len(b.names)
}

// sameRequest says whether two such clauses are about the same request of their entry. The requests
// stand in the policy, which is the same.
func sameRequest(a, b *clause) bool {
	return a.request == b.request
}

// ruleset returns the id of the ruleset with these clauses, which key names.
func (r *run) ruleset(key string, clauses []*clause, w *Workload) uint32 {
	if id, ok := r.ids[key]; ok {
		return id
	}
	b, ok := r.rulesets[key]
	if !ok {
		b = r.build(clauses)
		r.rulesets[key] = b
	}
	b.uses(r.runs)
	name := ""
	if w != nil {
		name = workloadName(w)
	}
	for _, e := range b.errs {
		of := *e
		of.Workload = name
		r.errs = append(r.errs, &of)
	}
	id := uint32(len(r.selected))
	r.ids[key] = id
	r.selected, r.example = append(r.selected, b), append(r.example, name)
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
func (r *run) fill() {
	live := make([]bool, len(r.peers.bySelector))
	for _, b := range r.selected {
		for _, cl := range b.clauses {
			if !cl.anyPeer {
				live[cl.peers] = true
			}
		}
	}
	if r.classes == nil || !r.classes.of(live) {
		r.classes = r.peers.classify(live)
	}
	if n := len(r.classes.addresses); n > MaxPrefixes {
		r.errs = append(r.errs, r.tooMany(n))
		return
	}
	r.tables.Addresses = r.classes.addresses
	var acc []Bitset
	for id, b := range r.selected {
		if b.classes != r.classes {
			if acc == nil {
				acc = make([]Bitset, r.classes.count)
			}
			b.peers, b.classes = peerEntries(b.clauses, r.classes, acc), r.classes
		}
		if err := r.emit(uint32(id), b); err != nil {
			r.errs = append(r.errs, &Error{Workload: r.example[id], Reason: err.Error()})
			return
		}
	}
	r.tables.Pages, r.tables.Accepts = r.packer.pages, r.packer.accepts
}

// tooMany names the rule that has most of the prefixes, where there are too many of them.
func (r *run) tooMany(prefixes int) *Error {
	var most *clause
	size := -1
	for _, b := range r.selected {
		for _, cl := range b.clauses {
			if cl.anyPeer {
				continue
			}
			if n := r.peers.size(cl.peers); n > size {
				most, size = cl, n
			}
		}
	}
	e := &Error{Reason: fmt.Sprintf("the policies of the node need %d prefixes of addresses, more than %d", prefixes, MaxPrefixes)}
	if most != nil {
		e.Policy, e.Rule = most.rule.Policy, most.rule.Name
		e.Reason += fmt.Sprintf("; this rule has most, %d", size)
	}
	return e
}
