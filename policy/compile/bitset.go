package compile

import "math/bits"

// Set puts bit i into the set.
func (s *Bitset) Set(i int) { s[i/64] |= 1 << (i % 64) }

// Has says whether bit i is in the set.
func (s *Bitset) Has(i int) bool { return s[i/64]>>(i%64)&1 == 1 }

// Or returns the union of two sets.
func (s Bitset) Or(other Bitset) Bitset {
	for i := range s {
		s[i] |= other[i]
	}
	return s
}

// And returns the intersection of two sets.
func (s Bitset) And(other Bitset) Bitset {
	for i := range s {
		s[i] &= other[i]
	}
	return s
}

// AndNot returns the set without the bits of the other.
func (s Bitset) AndNot(other Bitset) Bitset {
	for i := range s {
		s[i] &^= other[i]
	}
	return s
}

// First returns the lowest bit; ok is false where the set is empty.
func (s Bitset) First() (i int, ok bool) {
	for w, word := range s {
		if word != 0 {
			return w*64 + bits.TrailingZeros64(word), true
		}
	}
	return 0, false
}
