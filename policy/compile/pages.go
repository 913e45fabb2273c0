package compile

import (
	"fmt"

	"github.com/sallyport/sallyport/policy/compile/dfa"
)

// packer puts automata into pages and numbers their accept sets.
type packer struct {
	pages   []Page
	used    []int // cells, by page
	accepts []Bitset
	ids     map[Bitset]uint16
	placed  map[*automaton]DFARef
}

func newPacker() *packer {
	return &packer{accepts: []Bitset{{}}, ids: map[Bitset]uint16{{}: 0}, placed: map[*automaton]DFARef{}}
}

// accept numbers an accept set. 0 is the empty one.
func (p *packer) accept(set Bitset) (uint16, error) {
	id, ok := p.ids[set]
	if !ok {
		if len(p.accepts) > 1<<16-1 {
			return 0, fmt.Errorf("the policies of the node need more than %d sets of rules for their patterns", 1<<16)
		}
		id = uint16(len(p.accepts))
		p.ids[set] = id
		p.accepts = append(p.accepts, set)
	}
	return id, nil
}

// automaton is a DFA as it is laid out in a page, but for the numbers of its accept sets.
type automaton struct {
	cells   []uint16
	classes int
	sets    []Bitset // that its states accept
	at      []int    // cells that hold the number of a set
	set     []int    // which of sets each of them holds
	used    uint64   // the last run that used it
}

// layOut lays a DFA out. bits gives the rules of each of its tags.
func layOut(d *dfa.DFA, bits []Bitset) (*automaton, error) {
	if d.Size() > PageCells {
		return nil, fmt.Errorf("%w: %d states × %d classes of bytes do not fit into %d cells", dfa.ErrTooBig, d.States(), d.Classes(), PageCells)
	}
	a := &automaton{classes: d.Classes()}
	ids := map[Bitset]int{}
	cells, err := d.Cells(func(tags []uint32) (uint16, error) {
		var set Bitset
		for _, t := range tags {
			set = set.Or(bits[t])
		}
		id, ok := ids[set]
		if !ok {
			id = len(a.sets)
			ids[set] = id
			a.sets = append(a.sets, set)
		}
		a.at = append(a.at, dfa.Head+len(a.at)*(a.classes+1)+a.classes)
		a.set = append(a.set, id)
		return 0, nil
	})
	if err != nil {
		return nil, err
	}
	a.cells = cells
	return a, nil
}

// add puts an automaton into the first page that has room for it.
func (p *packer) add(a *automaton) (DFARef, error) {
	if ref, ok := p.placed[a]; ok {
		return ref, nil
	}
	numbers := make([]uint16, len(a.sets))
	for i, set := range a.sets {
		var err error
		if numbers[i], err = p.accept(set); err != nil {
			return DFARef{}, err
		}
	}
	page := 0
	for page < len(p.pages) && p.used[page]+len(a.cells) > PageCells {
		page++
	}
	if page == len(p.pages) {
		p.pages = append(p.pages, Page{})
		p.used = append(p.used, 0)
	}
	base := p.used[page]
	into := p.pages[page][base:]
	copy(into, a.cells)
	for i, at := range a.at {
		into[at] = numbers[a.set[i]]
	}
	p.used[page] += len(a.cells)
	ref := DFARef{Page: uint32(page), Base: uint16(base), Classes: uint16(a.classes)}
	p.placed[a] = ref
	return ref, nil
}

// Walk runs a string through an automaton and returns the index in Tables.Accepts of what matches
// it; 0 is nothing. It is what the kernel does, which masks every index into the page as well.
func Walk(pages []Page, ref DFARef, s string) int {
	if ref.Classes == 0 {
		return 0
	}
	return int(dfa.Walk(pages[ref.Page][ref.Base:], int(ref.Classes), s))
}
