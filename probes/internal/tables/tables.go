// Package tables writes compiled policies into the kernel's double-buffered maps and swaps them in
// one step. It knows the layout of policy/compile.Tables and of the maps in bpf/include/maps/tables.h,
// and imports policy/compile and bpfobj only.
package tables

import (
	"errors"
	"fmt"
	"net/netip"
	"sync"

	"github.com/cilium/ebpf"

	"github.com/sallyport/sallyport/policy/compile"
	"github.com/sallyport/sallyport/probes/internal/bpfobj"
)

// Store owns the tables in the kernel. Its methods may be called from several goroutines.
type Store struct {
	maps *bpfobj.Maps
	mu   sync.Mutex
}

// NewStore returns a store on the shared maps.
func NewStore(maps *bpfobj.Maps) *Store { return &Store{maps: maps} }

// buffer is one revision's inner maps by the name of their outer map.
type buffer map[string]*ebpf.Map

func (b buffer) close() error {
	var errs []error
	for _, m := range b {
		errs = append(errs, m.Close())
	}
	return errors.Join(errs...)
}

// Swap puts t in force and returns its revision. Until it returns without error the former tables
// judge, whole; afterwards the new ones do, whole: a program reads the revision once and looks only
// into that revision's slot, and the slot is not touched before no program can be in it.
func (s *Store) Swap(t *compile.Tables) (uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b, err := s.fill(t)
	if err != nil {
		return 0, errors.Join(err, b.close()) // the former tables stay in force
	}
	c, err := s.maps.Control()
	if err != nil {
		return 0, errors.Join(err, b.close())
	}
	revision := c.Revision + 1
	if err := s.install(b, uint32(revision%uint64(bpfobj.ABILimitsSLOTS))); err != nil {
		return 0, errors.Join(err, b.close())
	}
	if err := s.maps.UpdateControl(func(c *bpfobj.ABIControl) { c.Revision = revision }); err != nil {
		return 0, errors.Join(err, b.close())
	}
	if err := b.close(); err != nil { // the outer maps hold them
		return revision, fmt.Errorf("closing table handles: %w", err)
	}
	return revision, nil
}

// install puts the inner maps into a slot. Each update returns only after every program that may
// still see the former inner map has ended (the kernel waits for an RCU grace period, since 4.20),
// which is also what makes the slot's next reuse safe. They wait side by side.
func (s *Store) install(b buffer, slot uint32) error {
	errs := make(chan error, len(b))
	for name, inner := range b {
		go func() {
			if err := s.maps.Map(name).Put(slot, inner); err != nil {
				errs <- fmt.Errorf("installing table %s: %w", name, err)
				return
			}
			errs <- nil
		}()
	}
	var all error
	for range b {
		all = errors.Join(all, <-errs)
	}
	return all
}

// fill makes and fills the inner maps.
func (s *Store) fill(t *compile.Tables) (buffer, error) {
	b, demands := buffer{}, demandsOf(t.Rulesets)
	for _, step := range []struct {
		name string
		size int
		fill func(*ebpf.Map) error
	}{
		{"rulesets", len(t.Rulesets), func(m *ebpf.Map) error { return fillRulesets(m, t.Rulesets) }},
		{"ruleset_by_cgrp", len(t.Containers), func(m *ebpf.Map) error { return fillContainers(m, t.Containers) }},
		{"identity_by_addr", len(t.Addresses), func(m *ebpf.Map) error { return fillAddresses(m, t.Addresses) }},
		{"rules_by_peer", len(t.Peers), func(m *ebpf.Map) error { return fillPeers(m, t.Peers) }},
		{"rules_by_port", len(t.Ports), func(m *ebpf.Map) error { return fillPorts(m, t.Ports) }},
		{"dfa_pages", len(t.Pages), func(m *ebpf.Map) error { return fillArray(m, t.Pages) }},
		{"dfa_accepts", len(t.Accepts), func(m *ebpf.Map) error { return fillArray(m, t.Accepts) }},
		{"demands", len(demands), func(m *ebpf.Map) error { return fillArray(m, demands) }},
		{"rules", len(t.Rulesets) * compile.MaxRules, func(m *ebpf.Map) error { return fillRules(m, t.Rulesets) }},
	} {
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

// newInner makes an inner map for the outer map of that name.
func (s *Store) newInner(outer string, size int) (*ebpf.Map, error) {
	spec, err := bpfobj.LoadABI()
	if err != nil {
		return nil, fmt.Errorf("reading map definitions: %w", err)
	}
	inner := spec.Maps[outer].InnerMap.Copy()
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
