package compile

import (
	"crypto/sha256"
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
	refusals    map[*policy.Policy]*refusal
	choices     map[uint64]*choice // by Workload.Key: those of the last run, if it went well
	chosenOf    []*policy.Policy   // the policies of that run
	chosenIn    uint64             // its generation
	packed      []*automaton       // what the last pages hold, in the order in which it was packed
	pages       *packer            // that has packed it
	filled      *filled
}

// refusal is what of a policy is not enforced.
type refusal struct {
	errs Errors
	used uint64 // the last run that used it
}

// filled is what the last tables were made of.
type filled struct {
	selected []*built
	classes  *classes
	tables   *Tables
}

// expansion is the clauses of a policy.
type expansion struct {
	clauses    []*clause
	errs       Errors
	digest     uint64 // of the policy
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
	c.refusals, c.filled, c.choices, c.pages = map[*policy.Policy]*refusal{}, nil, nil, nil
}

// run is one compilation.
type run struct {
	*Compiler
	tables   *Tables
	packer   *packer
	spots    map[extrasKey][]spot
	ids      map[*built]uint32 // of the rulesets
	selected []*built          // by id
	example  []string          // by id: a workload that has it
	order    [][]uint32        // by id: where its clauses stand among all policies
	errs     Errors
}

// Compile compiles an input. Its error is as that of the function Compile.
func (c *Compiler) Compile(in Input) (*Tables, error) {
	c.runs++
	policies, errs := ordered(in.Policies)
	for _, p := range policies {
		errs = append(errs, c.unsupported(p)...)
	}
	c.look(&in)
	r := &run{
		Compiler: c, packer: newPacker(), errs: errs, spots: map[extrasKey][]spot{}, ids: map[*built]uint32{},
		tables: &Tables{Containers: make(map[uint64]uint32, len(in.Workloads))},
	}
	r.assign(policies, in.Workloads)
	if len(r.errs) == 0 {
		r.fill()
	}
	c.sweep()
	if len(r.errs) > 0 {
		c.choices = nil // what is wrong with a policy is told each time
		return nil, placed(r.errs, policies)
	}
	return r.tables, nil
}

// unsupported is what of a policy is not enforced.
func (c *Compiler) unsupported(p *policy.Policy) Errors {
	r, ok := c.refusals[p]
	if !ok {
		r = &refusal{errs: c.enforced.unsupported(p)}
		c.refusals[p] = r
	}
	r.used = c.runs
	return r.errs
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
	for p, r := range c.refusals {
		if r.used != c.runs {
			delete(c.refusals, p)
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
	if ok {
		fresh.digest = e.digest // the world has changed, and not the policy
	}
	fresh.clauses, fresh.errs = r.expand(p, &fresh.digest)
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
	if f := r.filled; f != nil && f.classes == r.classes && slices.Equal(f.selected, r.selected) {
		same := *f.tables // but for who has which ruleset
		same.Containers = r.tables.Containers
		r.tables = &same
		return
	}
	r.tables.Addresses = r.classes.addresses
	if automata := r.automataOf(); r.pages != nil && slices.Equal(automata, r.packed) {
		r.packer = r.pages // which knows where each of them is
	} else {
		r.pages, r.packed = r.packer, automata
	}
	r.tables.Rulesets = make([]*Ruleset, 0, len(r.selected))
	for id, b := range r.selected {
		if b.classes != r.classes {
			b.place(r.classes)
		}
		if err := r.emit(b); err != nil {
			r.errs = append(r.errs, &Error{Workload: r.example[id], Reason: err.Error()})
			r.pages = nil
			return
		}
	}
	r.tables.Pages, r.tables.Accepts = r.packer.pages, r.packer.accepts
	r.filled = &filled{r.selected, r.classes, r.tables}
}

// automataOf lists the automata of all rulesets, in the order in which they are packed.
func (r *run) automataOf() []*automaton {
	all := make([]*automaton, 0, places*len(r.selected))
	for _, b := range r.selected {
		all = append(all, b.automata...)
	}
	return all
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
