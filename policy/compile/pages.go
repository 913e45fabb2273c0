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
}

func newPacker() *packer {
	return &packer{accepts: []Bitset{{}}, ids: map[Bitset]uint16{{}: 0}}
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

// add puts an automaton into the first page that has room for it. bits gives the rules of each of
// its tags.
func (p *packer) add(d *dfa.DFA, bits []Bitset) (DFARef, error) {
	if d.Size() > PageCells {
		return DFARef{}, fmt.Errorf("%w: %d states × %d classes of bytes do not fit into %d cells", dfa.ErrTooBig, d.States(), d.Classes(), PageCells)
	}
	cells, err := d.Cells(func(tags []uint32) (uint16, error) {
		var set Bitset
		for _, t := range tags {
			set = set.Or(bits[t])
		}
		return p.accept(set)
	})
	if err != nil {
		return DFARef{}, err
	}
	page := 0
	for page < len(p.pages) && p.used[page]+len(cells) > PageCells {
		page++
	}
	if page == len(p.pages) {
		p.pages = append(p.pages, Page{})
		p.used = append(p.used, 0)
	}
	base := p.used[page]
	copy(p.pages[page][base:], cells)
	p.used[page] += len(cells)
	return DFARef{Page: uint32(page), Base: uint16(base), Classes: uint16(d.Classes())}, nil
}

// Walk runs a string through an automaton and returns the index in Tables.Accepts of what matches
// it; 0 is nothing. It is what the kernel does, which masks every index into the page as well.
func Walk(pages []Page, ref DFARef, s string) int {
	if ref.Classes == 0 {
		return 0
	}
	return int(dfa.Walk(pages[ref.Page][ref.Base:], int(ref.Classes), s))
}
