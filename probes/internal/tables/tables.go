// Package tables writes compiled policies into the kernel's double-buffered maps and swaps them in
// one step. It knows the layout of policy/compile.Tables and of the maps in bpf/include/maps/tables.h,
// and imports policy/compile and bpfobj only.
package tables

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"

	"github.com/cilium/ebpf"

	"github.com/sallyport/sallyport/policy/compile"
	"github.com/sallyport/sallyport/probes/internal/bpfobj"
)

// Store owns the tables in the kernel. Its methods may be called from several goroutines.
type Store struct {
	maps  *bpfobj.Maps
	mu    sync.Mutex
	specs map[string]*ebpf.MapSpec // of the outer maps; read when first asked for
	last  *compile.Tables          // what this store has put in force last; nil: nothing yet
	held  buffer                   // the inner maps that hold it
	slot  [bpfobj.ABILimitsSLOTS]buffer
}

// NewStore returns a store on the shared maps.
func NewStore(maps *bpfobj.Maps) *Store { return &Store{maps: maps} }

// buffer is one revision's inner maps by the name of their outer map. Nobody writes to one that is in force.
type buffer map[string]*ebpf.Map

// closeBut closes the maps that are not in another buffer too.
func (b buffer) closeBut(other buffer) error {
	var errs []error
	for name, m := range b {
		if other[name] != m {
			errs = append(errs, m.Close())
		}
	}
	return errors.Join(errs...)
}

// Swap puts t in force and returns its revision. Until it returns without error the former tables
// judge, whole; afterwards the new ones do, whole: a program reads the revision once and looks only
// into that revision's slot, and the slot is not touched before no program can be in it. Nobody may change
// t afterwards: the next swap takes over what is the same.
func (s *Store) Swap(t *compile.Tables) (uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c, err := s.maps.Control()
	if err != nil {
		return 0, err
	}
	settled := make(chan error, 1)
	go func() { settled <- s.settle(c.Revision) }()
	b, err := s.fill(t)
	if err = errors.Join(err, <-settled); err != nil {
		return 0, errors.Join(err, b.closeBut(s.held)) // the former tables stay in force
	}
	revision := c.Revision + 1
	if err := s.install(b, slotOf(revision)); err != nil {
		return 0, errors.Join(err, b.closeBut(s.held))
	}
	if err := s.maps.UpdateControl(func(c *bpfobj.ABIControl) { c.Revision = revision }); err != nil {
		return 0, errors.Join(err, b.closeBut(s.held))
	}
	former := s.held
	s.last, s.held = t, b
	if err := former.closeBut(b); err != nil { // the outer maps hold them
		return revision, fmt.Errorf("closing table handles: %w", err)
	}
	return revision, nil
}

// slotOf is where the tables of a revision are.
func slotOf(revision uint64) uint32 { return uint32(revision % uint64(bpfobj.ABILimitsSLOTS)) }

// settle returns when no program can still be in the slot that is not of this revision, which is in force:
// one that read the former revision may be in there until a grace period has passed since the last swap. An
// update of an outer map waits for one, also where it changes nothing.
func (s *Store) settle(revision uint64) error {
	slot, outer := slotOf(revision), s.maps.Map("ruleset_by_cgrp")
	var inner *ebpf.Map
	err := outer.Lookup(slot, &inner)
	if errors.Is(err, ebpf.ErrKeyNotExist) {
		return nil // nothing has ever been in force
	}
	if err == nil {
		err = errors.Join(outer.Put(slot, inner), inner.Close())
	}
	if err != nil {
		return fmt.Errorf("waiting for programs that use the former tables: %w", err)
	}
	return nil
}

// install puts the inner maps that are not there already into a slot. Each update returns only after every
// program that may still see the former inner map has ended (the kernel waits for an RCU grace period, since
// 4.20). They wait side by side.
func (s *Store) install(b buffer, slot uint32) error {
	there := s.slot[slot]
	s.slot[slot] = nil // until all of it is
	errs, puts := make(chan error, len(b)), 0
	for name, inner := range b {
		if there[name] == inner {
			continue
		}
		puts++
		go func() {
			if err := s.maps.Map(name).Put(slot, inner); err != nil {
				errs <- fmt.Errorf("installing table %s: %w", name, err)
				return
			}
			errs <- nil
		}()
	}
	var all error
	for range puts {
		all = errors.Join(all, <-errs)
	}
	if all == nil {
		s.slot[slot] = b
	}
	return all
}

// fill makes and fills the inner maps of what is not as it was, and takes the others over.
func (s *Store) fill(t *compile.Tables) (buffer, error) {
	last := s.last
	if last == nil {
		last = &compile.Tables{}
	}
	rulesets := equal(t.Rulesets, last.Rulesets)
	b, demands := buffer{}, demandsOf(t.Rulesets)
	for _, step := range []struct {
		name string
		same bool
		size int
		fill func(*ebpf.Map) error
	}{
		{"rulesets", rulesets, len(t.Rulesets), func(m *ebpf.Map) error { return fillRulesets(m, t.Rulesets) }},
		{"ruleset_by_cgrp", maps.Equal(t.Containers, last.Containers), len(t.Containers), func(m *ebpf.Map) error { return fillContainers(m, t.Containers) }},
		{"identity_by_addr", equal(t.Addresses, last.Addresses), len(t.Addresses), func(m *ebpf.Map) error { return fillAddresses(m, t.Addresses) }},
		{"rules_by_peer", sameParts(t, last, peersOf), size(t, peersOf), func(m *ebpf.Map) error { return fillPeers(m, t) }},
		{"rules_by_port", sameParts(t, last, portsOf), size(t, portsOf), func(m *ebpf.Map) error { return fillPorts(m, t) }},
		{"rules_by_id", sameParts(t, last, usersOf) && sameParts(t, last, groupsOf), size(t, usersOf) + size(t, groupsOf), func(m *ebpf.Map) error { return fillIDs(m, t) }},
		{"dfa_pages", equal(t.Pages, last.Pages), len(t.Pages), func(m *ebpf.Map) error { return fillArray(m, t.Pages) }},
		{"dfa_accepts", equal(t.Accepts, last.Accepts), len(t.Accepts), func(m *ebpf.Map) error { return fillArray(m, t.Accepts) }},
		{"demands", rulesets, len(demands), func(m *ebpf.Map) error { return fillArray(m, demands) }},
		{"rules", rulesets, len(t.Rulesets) * compile.MaxRules, func(m *ebpf.Map) error { return fillRules(m, t.Rulesets) }},
	} {
		if held := s.held[step.name]; held != nil && step.same {
			b[step.name] = held
			continue
		}
		inner, err := s.newInner(step.name, step.size)
		if err != nil {
			return b, err
		}
		b[step.name] = inner
		if err := step.fill(inner); err != nil {
			return b, fmt.Errorf("filling table %s: %w", step.name, err)
		}
	}
	return b, nil
}

// same says whether two slices are one. The compiler hands out again what a change has not touched.
func same[T any](a, b []T) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0])
}

// equal says whether two slices say the same.
func equal[T comparable](a, b []T) bool { return same(a, b) || slices.Equal(a, b) }

func peersOf(r *compile.Ruleset) []compile.PeerEntry { return r.Peers }
func portsOf(r *compile.Ruleset) []compile.PortEntry { return r.Ports }
func usersOf(r *compile.Ruleset) []compile.IDEntry   { return r.Users }
func groupsOf(r *compile.Ruleset) []compile.IDEntry  { return r.Groups }

// sameParts says whether a part of all rulesets says the same.
func sameParts[T comparable](a, b *compile.Tables, part func(*compile.Ruleset) []T) bool {
	return slices.EqualFunc(a.Rulesets, b.Rulesets, func(a, b *compile.Ruleset) bool { return a == b || equal(part(a), part(b)) })
}

// size is how many entries a part of all rulesets has.
func size[T any](t *compile.Tables, part func(*compile.Ruleset) []T) (n int) {
	for _, r := range t.Rulesets {
		n += len(part(r))
	}
	return n
}

// newInner makes an inner map for the outer map of that name.
func (s *Store) newInner(outer string, size int) (*ebpf.Map, error) {
	if s.specs == nil {
		spec, err := bpfobj.LoadABI()
		if err != nil {
			return nil, fmt.Errorf("reading map definitions: %w", err)
		}
		s.specs = spec.Maps
	}
	inner := s.specs[outer].InnerMap.Copy()
	inner.MaxEntries = uint32(max(size, 1))
	m, err := ebpf.NewMap(inner)
	if err != nil {
		return nil, fmt.Errorf("making table %s of %d entries: %w", outer, size, err)
	}
	return m, nil
}

func addressKey(p netip.Prefix) bpfobj.ABIAddressKey {
	return bpfobj.ABIAddressKey{Prefixlen: uint32(p.Bits()), Addr: p.Addr().As16()}
}
