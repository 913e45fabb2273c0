package dfa

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
)

// MaxStates is how many states the subset construction can make before it gives up. Patterns with
// many ** in their middle can need exponentially many: the ceiling bounds time and memory, and a
// set of patterns that comes near it does not fit into a page anyway.
const MaxStates = 1 << 14

// ErrTooBig says that the patterns need more states or cells than there may be.
var ErrTooBig = errors.New("the patterns need too large an automaton")

// DFA is a deterministic automaton over bytes. State 0 is the start.
type DFA struct {
	classOf [256]uint8
	classes int
	next    []int32    // [state*classes+class]
	accepts [][]uint32 // by state: tags of the patterns that match what led here, sorted
}

// Build makes the smallest automaton for the patterns so far, always the same for the same
// patterns. It fails with ErrTooBig.
func (b *Builder) Build() (*DFA, error) {
	b.start()
	d, err := b.subsets()
	if err != nil {
		return nil, err
	}
	d.minimise()
	d.mergeClasses()
	return d, nil
}

// States returns the number of states.
func (d *DFA) States() int { return len(d.accepts) }

// Classes returns the number of byte classes.
func (d *DFA) Classes() int { return d.classes }

// subsets makes a state of every set of NFA states that some string leads to.
func (b *Builder) subsets() (*DFA, error) {
	d := &DFA{}
	var example []byte
	d.classOf, example = b.classes()
	d.classes = len(example)
	seen := make([]bool, len(b.states))
	var sets [][]int32
	ids := map[string]int32{}
	intern := func(set []int32) int32 {
		set = b.closure(set, seen)
		key := make([]byte, 0, 4*len(set))
		for _, s := range set {
			key = binary.LittleEndian.AppendUint32(key, uint32(s))
		}
		id, ok := ids[string(key)]
		if !ok {
			id = int32(len(sets))
			ids[string(key)] = id
			sets = append(sets, set)
			d.accepts = append(d.accepts, b.tags(set))
		}
		return id
	}
	intern([]int32{0})
	for from := 0; from < len(sets); from++ { //nolint:intrange // sets grows while it is walked
		if len(sets) > MaxStates {
			return nil, fmt.Errorf("%w: more than %d states", ErrTooBig, MaxStates)
		}
		for _, c := range example {
			d.next = append(d.next, intern(b.step(sets[from], c)))
		}
	}
	return d, nil
}

// step returns the states that a byte leads to, each once.
func (b *Builder) step(set []int32, c byte) []int32 {
	var out []int32
	for _, s := range set {
		for i := range b.states[s].edges {
			if e := &b.states[s].edges[i]; e.set.Has(c) {
				out = append(out, e.to)
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// mergeClasses joins the byte classes that minimisation has made alike.
func (d *DFA) mergeClasses() {
	column := func(class int) string {
		key := make([]byte, 0, 4*d.States())
		for s := range d.States() {
			key = binary.LittleEndian.AppendUint32(key, uint32(d.next[s*d.classes+class]))
		}
		return string(key)
	}
	ids := map[string]uint8{}
	var keep []int // old class by new class
	var renumber [256]uint8
	for class := range d.classes {
		key := column(class)
		id, ok := ids[key]
		if !ok {
			id = uint8(len(keep))
			ids[key] = id
			keep = append(keep, class)
		}
		renumber[class] = id
	}
	next := make([]int32, 0, d.States()*len(keep))
	for s := range d.States() {
		for _, class := range keep {
			next = append(next, d.next[s*d.classes+class])
		}
	}
	for b, class := range d.classOf {
		d.classOf[b] = renumber[class]
	}
	d.classes, d.next = len(keep), next
}

// Head is the number of cells before the first row: the class of every byte.
const Head = 256

// Size returns the number of cells the automaton takes.
func (d *DFA) Size() int { return Head + d.States()*(d.classes+1) }

// Cells lays the automaton out as the kernel walks it: Head cells with the class of each byte, then
// a row for each state: for each class the offset of the next row, relative to the first row, and
// last what accept makes of the tags of the state. Size must be at most 1<<16.
func (d *DFA) Cells(accept func(tags []uint32) (uint16, error)) ([]uint16, error) {
	row := d.classes + 1
	if d.Size() > 1<<16 {
		return nil, fmt.Errorf("%w: %d states of %d cells", ErrTooBig, d.States(), row)
	}
	cells := make([]uint16, 0, d.Size())
	for _, class := range d.classOf {
		cells = append(cells, uint16(class))
	}
	for s := range d.States() {
		for _, to := range d.next[s*d.classes : (s+1)*d.classes] {
			cells = append(cells, uint16(int(to)*row))
		}
		id, err := accept(d.accepts[s])
		if err != nil {
			return nil, err
		}
		cells = append(cells, id)
	}
	return cells, nil
}

// Walk runs a string through the cells of an automaton with this many classes, and returns the
// last cell of the state where it ends.
func Walk(cells []uint16, classes int, s string) uint16 {
	rows := cells[Head:]
	off := 0
	for i := range len(s) {
		off = int(rows[off+int(cells[s[i]])])
	}
	return rows[off+classes]
}
