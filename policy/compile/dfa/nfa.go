// Package dfa compiles string patterns into one deterministic automaton whose states tell which of
// the patterns match: patterns → NFA → subset construction → minimisation → byte classes → the
// cells that the kernel walks.
//
// It knows patterns and numbers only: what a match means, and where cells are stored, is its
// caller's. It imports policy for the patterns, no kernel and no tables.
package dfa

import (
	"math/bits"
	"slices"

	"github.com/sallyport/sallyport/policy"
)

// Builder gathers patterns. Every pattern has a tag, a number that the automaton gives back where
// the pattern matches. Every syntax only appends states and edges: what is behind the NFA is the
// same for all.
type Builder struct {
	states []state
}

// state is one state of the NFA. State 0 is the start.
type state struct {
	edges []edge
	empty []int32 // states that are reached without a byte
	tag   int32   // of the pattern that is matched here; noTag: none
}

// edge leads to a state by any byte of a set.
type edge struct {
	set policy.ByteSet
	to  int32
}

const noTag = -1

// Add adds a pattern by its steps, those of a policy.Glob or a policy.NamePattern.
func (b *Builder) Add(steps []policy.GlobToken, tag uint32) {
	b.start()
	at := b.add()
	b.states[0].empty = append(b.states[0].empty, at)
	for _, t := range steps {
		next := b.add()
		switch t.Kind {
		case policy.GlobOne:
			b.edge(at, next, t.Set)
		case policy.GlobMany:
			b.edge(at, at, t.Set)
			b.states[at].empty = append(b.states[at].empty, next)
		case policy.GlobDirs:
			inside := b.add()
			b.states[at].empty = append(b.states[at].empty, inside, next)
			b.edge(inside, inside, anyByte())
			b.edge(inside, next, only('/'))
		case policy.GlobLabels:
			// from is not at: what leads to at a second time must have been a whole label.
			from, inside := b.add(), b.add()
			b.states[at].empty = append(b.states[at].empty, from)
			b.edge(from, inside, t.Set)
			b.edge(inside, inside, t.Set)
			b.edge(inside, from, only('.'))
			b.edge(inside, next, only('.'))
		}
		at = next
	}
	b.states[at].tag = int32(tag)
}

// AddRegex adds a regular expression by its tree.
func (b *Builder) AddRegex(root policy.RegexNode, tag uint32) {
	b.start()
	at, end := b.add(), b.add()
	b.states[0].empty = append(b.states[0].empty, at)
	b.regex(&root, at, end)
	b.states[end].tag = int32(tag)
}

// regex makes the ways by which a node leads from one state to another.
func (b *Builder) regex(n *policy.RegexNode, from, to int32) {
	switch n.Kind {
	case policy.RegexByte:
		b.edge(from, to, n.Set)
	case policy.RegexConcat:
		for i := range n.Subs {
			next := b.add()
			b.regex(&n.Subs[i], from, next)
			from = next
		}
		b.states[from].empty = append(b.states[from].empty, to)
	case policy.RegexAlternate:
		for i := range n.Subs {
			b.regex(&n.Subs[i], from, to)
		}
	case policy.RegexOptional:
		b.regex(&n.Subs[0], from, to)
		b.states[from].empty = append(b.states[from].empty, to)
	case policy.RegexStar:
		// A state of its own: what else leaves from must not be there a second time round.
		loop := b.add()
		b.states[from].empty = append(b.states[from].empty, loop)
		b.regex(&n.Subs[0], loop, loop)
		b.states[loop].empty = append(b.states[loop].empty, to)
	}
}

// start makes the start state.
func (b *Builder) start() {
	if len(b.states) == 0 {
		b.add()
	}
}

// add makes a state.
func (b *Builder) add() int32 {
	b.states = append(b.states, state{tag: noTag})
	return int32(len(b.states) - 1)
}

// edge makes an edge.
func (b *Builder) edge(from, to int32, set policy.ByteSet) {
	b.states[from].edges = append(b.states[from].edges, edge{set, to})
}

func anyByte() policy.ByteSet {
	return policy.ByteSet{^uint64(0), ^uint64(0), ^uint64(0), ^uint64(0)}
}

// only returns the set of one byte.
func only(c byte) (s policy.ByteSet) {
	s[c/64] |= 1 << (c % 64)
	return s
}

// closure completes a set of states by those that are reached without a byte, sorted.
func (b *Builder) closure(set []int32, seen []bool) []int32 {
	for _, s := range set {
		seen[s] = true
	}
	for i := 0; i < len(set); i++ {
		for _, to := range b.states[set[i]].empty {
			if !seen[to] {
				seen[to] = true
				set = append(set, to)
			}
		}
	}
	slices.Sort(set)
	for _, s := range set {
		seen[s] = false
	}
	return set
}

// tags returns the tags of a set of states, sorted, each once.
func (b *Builder) tags(set []int32) []uint32 {
	var out []uint32
	for _, s := range set {
		if t := b.states[s].tag; t != noTag {
			out = append(out, uint32(t))
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// classes parts the bytes into classes that no edge tells apart. It returns the class of every
// byte and one byte of every class; classes are numbered by their first byte.
func (b *Builder) classes() (of [256]uint8, example []byte) {
	sets := map[policy.ByteSet]bool{}
	for i := range b.states {
		for _, e := range b.states[i].edges {
			sets[e.set] = true
		}
	}
	// A class is split by every set that holds a part of it. Which set comes first does not
	// matter for the outcome, so the order of the map does not either.
	parts := []policy.ByteSet{anyByte()}
	for set := range sets {
		for i := range parts {
			in, out := split(parts[i], set)
			if in != (policy.ByteSet{}) && out != (policy.ByteSet{}) {
				parts[i] = in
				parts = append(parts, out)
			}
		}
	}
	slices.SortFunc(parts, func(a, b policy.ByteSet) int { return first(a) - first(b) })
	for class, p := range parts {
		example = append(example, byte(first(p)))
		for v := range 256 {
			if p.Has(byte(v)) {
				of[v] = uint8(class)
			}
		}
	}
	return of, example
}

// split parts a set by another one.
func split(s, by policy.ByteSet) (in, out policy.ByteSet) {
	for i := range s {
		in[i], out[i] = s[i]&by[i], s[i]&^by[i]
	}
	return in, out
}

// first returns the lowest byte of a set that is not empty.
func first(s policy.ByteSet) int {
	for i, w := range s {
		if w != 0 {
			return i*64 + bits.TrailingZeros64(w)
		}
	}
	return 256
}
