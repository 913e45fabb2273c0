package compile

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"

	"github.com/sallyport/sallyport/policy"
)

// choice is what a workload has got of the policies.
type choice struct {
	workload   Workload
	expansions []*expansion // of the policies that select it
	clauses    []*clause
	order      []uint32 // where the clauses stand among all policies
	built      *built
}

// holds says whether a choice is what another workload, or the same one again, would get of the same policies.
func (c *choice) holds(w *Workload) bool {
	b := &c.workload
	return w.Namespace == b.Namespace && w.Pod == b.Pod && w.Container == b.Container && w.ContainerType == b.ContainerType &&
		w.ServiceAccount == b.ServiceAccount && maps.Equal(w.Labels, b.Labels) && maps.Equal(w.NamespaceLabels, b.NamespaceLabels) &&
		slices.Equal(w.Ports, b.Ports) && (w.Host == b.Host || w.Host != nil && b.Host != nil && *w.Host == *b.Host)
}

// uses marks all that a choice is made of as used by a run.
func (c *choice) uses(run uint64) {
	for _, e := range c.expansions {
		e.used = run
	}
	for _, cl := range c.clauses {
		cl.used = run
	}
}

// assign gives every workload its ruleset.
func (r *run) assign(policies []*policy.Policy, workloads []Workload) {
	before := r.choices
	if r.generation != r.chosenIn || !slices.Equal(policies, r.chosenOf) {
		before = nil
	}
	r.choices, r.chosenOf, r.chosenIn = make(map[uint64]*choice, len(workloads)), policies, r.generation
	workloads = slices.Clone(workloads)
	slices.SortStableFunc(workloads, func(a, b Workload) int { return cmp.Compare(a.Key, b.Key) })
	r.ruleset(&choice{built: r.rulesetOf("", nil)}) // the empty one
	var candidates candidates
	for i := range workloads {
		w := &workloads[i]
		if _, twice := r.tables.Containers[w.Key]; twice {
			r.errs = append(r.errs, &Error{Workload: workloadName(w), Reason: fmt.Sprintf("the key %d is there twice", w.Key)})
			continue
		}
		c := before[w.Key]
		if c == nil || !c.holds(w) {
			if candidates == nil {
				candidates = newCandidates(policies)
			}
			c = r.choose(candidates.of(w), w)
		}
		c.uses(r.runs)
		r.choices[w.Key] = c
		r.tables.Containers[w.Key] = r.ruleset(c)
	}
	r.arrange()
}

// choose finds out which of the policies select a workload, and with what.
func (r *run) choose(candidates []ranked, w *Workload) *choice {
	c := &choice{workload: *w}
	// It is compared later, by when whoever made these may have changed them.
	c.workload.Labels, c.workload.NamespaceLabels, c.workload.Ports = maps.Clone(w.Labels), maps.Clone(w.NamespaceLabels), slices.Clone(w.Ports)
	if w.Host != nil {
		host := *w.Host
		c.workload.Host = &host
	}
	var key []byte
	for _, p := range candidates {
		if !p.Selects(w) {
			continue
		}
		e := r.expansion(p.Policy)
		c.expansions = append(c.expansions, e)
		for at, cl := range e.clauses {
			if cl.covers(w) {
				cl = r.ofWorkload(cl, w)
				c.clauses, c.order = append(c.clauses, cl), append(c.order, p.rank, uint32(at))
				key = binary.AppendUvarint(key, cl.id)
			}
		}
	}
	c.built = r.rulesetOf(string(key), c.clauses)
	return c
}

// rulesetOf returns the ruleset with these clauses, which key names.
func (r *run) rulesetOf(key string, clauses []*clause) *built {
	b, ok := r.rulesets[key]
	if !ok {
		b = r.build(clauses)
		r.rulesets[key] = b
	}
	return b
}

// ruleset returns the id, before arrange(), of a choice's ruleset.
func (r *run) ruleset(c *choice) uint32 {
	if id, ok := r.ids[c.built]; ok {
		return id
	}
	c.built.uses(r.runs)
	name := workloadName(&c.workload)
	for _, e := range c.built.errs {
		of := *e
		of.Workload = name
		r.errs = append(r.errs, &of)
	}
	id := uint32(len(r.selected))
	r.ids[c.built] = id
	r.selected, r.example, r.order = append(r.selected, c.built), append(r.example, name), append(r.order, c.order)
	return id
}

// arrange numbers the rulesets anew, in the order of their policies; the empty one is 0. In the order of the
// workloads a pod that is replaced by its like would give every ruleset another number.
func (r *run) arrange() {
	places := make([]int, len(r.selected))
	for i := range places {
		places[i] = i
	}
	slices.SortStableFunc(places, func(a, b int) int { return slices.Compare(r.order[a], r.order[b]) })
	ids := make([]uint32, len(places))
	selected, example := make([]*built, len(places)), make([]string, len(places))
	for id, at := range places {
		ids[at], selected[id], example[id] = uint32(id), r.selected[at], r.example[at]
	}
	r.selected, r.example = selected, example
	for key, at := range r.tables.Containers {
		r.tables.Containers[key] = ids[at]
	}
}
