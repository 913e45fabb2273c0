package main

import (
	"bytes"
	"fmt"

	"golang.org/x/net/http2/hpack"
)

// node is an inner node of the tree of codes.
type node struct {
	child  [2]*node
	symbol [2]int // where child is nil: what the code that ends here means
	number int
	pad    bool // the way from the root is ones only, fewer than eight: a string may end here
}

// eos is the symbol that ends no string (RFC 7541, 5.2), and none the place of a code that is not there yet.
const (
	eos  = 256
	none = -1
)

// tree is the code: its root, and its inner nodes by number. The root is number 0.
type tree struct {
	nodes []*node
}

func (t *tree) add() *node {
	n := &node{symbol: [2]int{none, none}, number: len(t.nodes)}
	t.nodes = append(t.nodes, n)
	return n
}

// newTree learns the code of every byte. Eight copies of a byte end where a byte ends, so their length is the code's in bits.
func newTree() (*tree, error) {
	t := &tree{}
	t.add().pad = true
	for symbol := range eos {
		eight := hpack.AppendHuffmanString(nil, string(bytes.Repeat([]byte{byte(symbol)}, 8)))
		if err := t.insert(symbol, eight, len(eight)); err != nil {
			return nil, err
		}
	}
	ones := []byte{0xff, 0xff, 0xff, 0xff}
	if err := t.insert(eos, ones, 30); err != nil {
		return nil, err
	}
	return t, t.full()
}

func (t *tree) insert(symbol int, code []byte, length int) error {
	at := t.nodes[0]
	ones := true
	for i := range length {
		bit := code[i/8] >> (7 - i%8) & 1
		ones = ones && bit == 1
		if at.symbol[bit] != none {
			return fmt.Errorf("the code of %d begins with that of %d", symbol, at.symbol[bit])
		}
		if i == length-1 {
			at.symbol[bit] = symbol
			return nil
		}
		if at.child[bit] == nil {
			at.child[bit] = t.add()
			at.child[bit].pad = ones && i < 7
		}
		at = at.child[bit]
	}
	return fmt.Errorf("%d has no code", symbol)
}

// full says whether every way through the tree ends at a symbol.
func (t *tree) full() error {
	for _, n := range t.nodes {
		for bit := range 2 {
			if n.child[bit] == nil && n.symbol[bit] == none {
				return fmt.Errorf("node %d leads nowhere", n.number)
			}
		}
	}
	if len(t.nodes) != 256 {
		return fmt.Errorf("%d inner nodes, not 256", len(t.nodes))
	}
	return nil
}

// step goes four bits down from n: no code is shorter than five, so at most one symbol ends on the way.
func (t *tree) step(n *node, nibble int) (next *node, symbol int) {
	symbol = none
	for bit := 3; bit >= 0; bit-- {
		b := nibble >> bit & 1
		if n.child[b] != nil {
			n = n.child[b]
			continue
		}
		symbol, n = n.symbol[b], t.nodes[0]
	}
	return n, symbol
}

// write writes the machine that takes four bits at a time.
func (t *tree) write(out *bytes.Buffer) {
	out.WriteString(`/* The Huffman code, four bits at a time: the cell at state * 16 + bits is the next state, the symbol
 * << 8, and the flags. */
enum {
	HPACK_EMIT = 1 << 16, /* the symbol is there */
	HPACK_PAD = 1 << 17,  /* a string may end in the next state */
	HPACK_EOS = 1 << 18,  /* the end of strings was coded: an error (RFC 7541, 5.2) */
	HPACK_CELLS = 4096,
};

static const __u32 hpack_huffman[HPACK_CELLS] = {
`)
	for _, n := range t.nodes {
		out.WriteByte('\t')
		for nibble := range 16 {
			next, symbol := t.step(n, nibble)
			cell := uint32(next.number)
			switch {
			case symbol == eos:
				cell |= 1 << 18
			case symbol != none:
				cell |= 1<<16 | uint32(symbol)<<8
			}
			if next.pad {
				cell |= 1 << 17
			}
			fmt.Fprintf(out, "%#x,", cell)
		}
		out.WriteByte('\n')
	}
	out.WriteString("};\n\n")
}
