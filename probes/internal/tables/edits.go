package tables

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"

	"github.com/cilium/ebpf"

	"github.com/sallyport/sallyport/policy/compile"
)

// changes is what turns a map that holds one version into one that holds another.
type changes interface {
	none() bool
	apply(m *ebpf.Map) error
}

// edits are keys to be deleted, and then pairs to be written.
type edits[K, V comparable] struct {
	gone   []K
	keys   []K
	values []V
}

func (e *edits[K, V]) none() bool { return len(e.gone) == 0 && len(e.keys) == 0 }

func (e *edits[K, V]) put(key K, value V) {
	e.keys, e.values = append(e.keys, key), append(e.values, value)
}

func (e *edits[K, V]) apply(m *ebpf.Map) error {
	for i := range e.gone {
		if err := m.Delete(e.gone[i]); err != nil {
			return fmt.Errorf("deleting %v: %w", e.gone[i], err)
		}
	}
	return put(m, e.keys, e.values)
}

// put writes all pairs in one call where the map type and the kernel can, else one by one.
func put[K, V any](m *ebpf.Map, keys []K, values []V) error {
	if len(keys) == 0 {
		return nil
	}
	n, err := m.BatchUpdate(keys, values, nil)
	if err == nil && n == len(keys) {
		return nil
	}
	if err != nil && !errors.Is(err, ebpf.ErrNotSupported) {
		return err
	}
	for i := range keys {
		if err := m.Put(keys[i], values[i]); err != nil {
			return err
		}
	}
	return nil
}

// keep puts a pair unless it is there before, and takes it out of what is there before.
func (e *edits[K, V]) keep(before map[K]V, key K, value V) {
	if was, there := before[key]; !there || was != value {
		e.put(key, value)
	}
	delete(before, key)
}

// leave deletes what is left of what was there before.
func (e *edits[K, V]) leave(before map[K]V) {
	for key := range before {
		e.gone = append(e.gone, key)
	}
}

// entries finds the edits of a table that has entries of a part of each ruleset.
func entries[E, K comparable](from, to *version, part func(*compile.Ruleset) []E, pair func(uint32, *E) (K, compile.Bitset)) *edits[K, compile.Bitset] {
	e := &edits[K, compile.Bitset]{}
	for id := range max(len(from.byID), len(to.byID)) {
		a, b := from.at(id), to.at(id)
		if a == b {
			continue
		}
		var was, is []E
		if a != nil {
			was = part(a)
		}
		if b != nil {
			is = part(b)
		}
		if equal(was, is) {
			continue
		}
		before := make(map[K]compile.Bitset, len(was))
		for i := range was {
			key, bits := pair(uint32(id), &was[i])
			before[key] = bits
		}
		for i := range is {
			key, bits := pair(uint32(id), &is[i])
			e.keep(before, key, bits)
		}
		e.leave(before)
	}
	return e
}

// array finds the edits of an array.
func array[T comparable](from, to []T) *edits[uint32, T] {
	e := &edits[uint32, T]{}
	if same(from, to) {
		return e
	}
	for i := range to {
		if i >= len(from) || from[i] != to[i] {
			e.put(uint32(i), to[i])
		}
	}
	return e
}

// addresses finds the edits of the table of addresses: both lists are in the same order.
func addresses(from, to []compile.AddressEntry) *edits[addressKey, uint32] {
	e := &edits[addressKey, uint32]{}
	if same(from, to) {
		return e
	}
	order := func(a, b netip.Prefix) int {
		return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
	}
	for len(from) > 0 || len(to) > 0 {
		first := 0
		switch {
		case len(from) == 0:
			first = 1
		case len(to) == 0:
			first = -1
		default:
			first = order(from[0].Prefix, to[0].Prefix)
		}
		if first < 0 {
			e.gone = append(e.gone, keyOf(from[0].Prefix))
			from = from[1:]
			continue
		}
		if first > 0 || from[0].Identity != to[0].Identity {
			e.put(keyOf(to[0].Prefix), uint32(to[0].Identity))
		}
		if first == 0 {
			from = from[1:]
		}
		to = to[1:]
	}
	return e
}
