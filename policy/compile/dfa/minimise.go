package dfa

import (
	"encoding/binary"
	"slices"
)

// partition is a refinable partition of the states: elems holds the states block by block, and of
// each block the marked ones first.
type partition struct {
	elems []int32 // states, block by block
	place []int32 // by state: its index in elems
	block []int32 // by state
	first []int32 // by block: its first index in elems
	end   []int32 // by block: one past its last
	mark  []int32 // by block: one past its last marked; equal to first: none is
}

// newPartition puts states with equal keys into one block; blocks are numbered by first appearance.
func newPartition(keys []string) *partition {
	p := &partition{place: make([]int32, len(keys)), block: make([]int32, len(keys))}
	ids := map[string]int32{}
	var members [][]int32
	for s, key := range keys {
		id, ok := ids[key]
		if !ok {
			id = int32(len(members))
			ids[key] = id
			members = append(members, nil)
		}
		members[id] = append(members[id], int32(s))
		p.block[s] = id
	}
	for _, m := range members {
		p.first = append(p.first, int32(len(p.elems)))
		p.mark = append(p.mark, int32(len(p.elems)))
		for _, s := range m {
			p.place[s] = int32(len(p.elems))
			p.elems = append(p.elems, s)
		}
		p.end = append(p.end, int32(len(p.elems)))
	}
	return p
}

// marks moves a state among the marked ones of its block; fresh says that it is the block's first.
func (p *partition) marks(s int32) (fresh bool) {
	b := p.block[s]
	from, to := p.place[s], p.mark[b]
	if from < to {
		return false // marked already
	}
	other := p.elems[to]
	p.elems[from], p.elems[to] = other, s
	p.place[other], p.place[s] = from, to
	p.mark[b]++
	return to == p.first[b]
}

// split parts a block into its marked and unmarked states and clears the marks. The smaller part
// becomes the new block; ok is false where there is only one part.
func (p *partition) split(b int32) (fresh int32, ok bool) {
	first, mark, end := p.first[b], p.mark[b], p.end[b]
	if mark == end {
		p.mark[b] = first
		return 0, false
	}
	fresh = int32(len(p.first))
	lo, hi := mark, end
	if mark-first <= end-mark {
		lo, hi = first, mark
		p.first[b] = mark
	} else {
		p.end[b] = mark
	}
	p.mark[b] = p.first[b]
	p.first, p.mark, p.end = append(p.first, lo), append(p.mark, lo), append(p.end, hi)
	for _, s := range p.elems[lo:hi] {
		p.block[s] = fresh
	}
	return fresh, true
}

// minimise joins the states that no string tells apart (Hopcroft's algorithm) and numbers the rest
// in the order in which a breadth-first walk from the start meets them.
func (d *DFA) minimise() {
	keys := make([]string, d.States())
	for s, tags := range d.accepts {
		var key []byte
		for _, t := range tags {
			key = binary.LittleEndian.AppendUint32(key, t)
		}
		keys[s] = string(key)
	}
	p := newPartition(keys)
	before := d.inverse()
	type splitter struct {
		block int32
		class int
	}
	var work []splitter
	push := func(block int32) {
		for class := range d.classes {
			work = append(work, splitter{block, class})
		}
	}
	for block := range p.first {
		push(int32(block))
	}
	var states, touched []int32
	for len(work) > 0 {
		w := work[len(work)-1]
		work = work[:len(work)-1]
		// Marking may reorder the block that is walked, so that it is copied first.
		states = append(states[:0], p.elems[p.first[w.block]:p.end[w.block]]...)
		touched = touched[:0]
		for _, to := range states {
			for _, from := range before(to, w.class) {
				if p.marks(from) {
					touched = append(touched, p.block[from])
				}
			}
		}
		for _, block := range touched {
			// The new block is the smaller part. If the old one still waits as a splitter
			// it waits with what is left of it, so that pushing the smaller one is enough.
			if fresh, ok := p.split(block); ok {
				push(fresh)
			}
		}
	}
	d.renumber(p)
}

// inverse returns a function that gives the states which a class leads to a state from.
func (d *DFA) inverse() func(to int32, class int) []int32 {
	start := make([]int32, len(d.next)+1)
	index := func(to int32, class int) int { return int(to)*d.classes + class }
	for i, to := range d.next {
		start[index(to, i%d.classes)+1]++
	}
	for i := 1; i < len(start); i++ {
		start[i] += start[i-1]
	}
	fill := slices.Clone(start)
	from := make([]int32, len(d.next))
	for i, to := range d.next {
		at := index(to, i%d.classes)
		from[fill[at]] = int32(i / d.classes)
		fill[at]++
	}
	return func(to int32, class int) []int32 {
		at := index(to, class)
		return from[start[at]:start[at+1]]
	}
}

// renumber replaces the states by the blocks of a partition.
func (d *DFA) renumber(p *partition) {
	number := make([]int32, len(p.first))
	for i := range number {
		number[i] = -1
	}
	number[p.block[0]] = 0
	order := []int32{0} // one state of every block, by its new number
	var next []int32
	for i := 0; i < len(order); i++ {
		for class := range d.classes {
			to := d.next[int(order[i])*d.classes+class]
			block := p.block[to]
			if number[block] < 0 {
				number[block] = int32(len(order))
				order = append(order, to)
			}
			next = append(next, number[block])
		}
	}
	accepts := make([][]uint32, len(order))
	for i, s := range order {
		accepts[i] = d.accepts[s]
	}
	d.next, d.accepts = next, accepts
}
