// Package tables writes compiled policies into the kernel's double-buffered maps and swaps them in
// one step. It knows the layout of policy/compile.Tables and of the maps in bpf/include/maps/tables.h,
// and imports policy/compile and bpfobj only.
package tables

import (
	"errors"
	"fmt"
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
	last  *version                 // what this store has put in force last
	held  buffer                   // the inner maps that hold it
	spare buffer                   // those that no program uses any more: they are brought up to date next time
	slot  [bpfobj.ABILimitsSLOTS]buffer
}

// NewStore returns a store on the shared maps.
func NewStore(maps *bpfobj.Maps) *Store {
	return &Store{maps: maps, last: number(&compile.Tables{}, nil), held: buffer{}, spare: buffer{}}
}

// buffer is inner maps by the name of their outer map.
type buffer map[string]*inner

// inner is a map with what it holds. Nobody writes to one that is in force.
type inner struct {
	*ebpf.Map
	holds *version
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
	if err := s.settle(c.Revision); err != nil {
		return 0, err
	}
	to, revision := number(t, s.last), c.Revision+1
	b, err := s.fill(to)
	if err != nil {
		return 0, err // the former tables stay in force
	}
	if err := s.install(b, slotOf(revision)); err != nil {
		return 0, err
	}
	if err := s.maps.UpdateControl(func(c *bpfobj.ABIControl) { c.Revision = revision }); err != nil {
		return 0, err
	}
	for name, in := range b {
		if former := s.held[name]; former != in {
			s.held[name] = in
			delete(s.spare, name)
			err = errors.Join(err, s.retire(name, former))
		}
	}
	s.last = to.ofRulesets()
	return revision, err
}

// mostAddresses is how many addresses are kept twice for the next swap: beyond that, in the memory of the agent of a large
// cluster, they cost more than filling a map anew.
const mostAddresses = 1 << 15

// retire keeps an inner map that is not in force any more for the next swap, or closes it: a slot may hold it still.
func (s *Store) retire(name string, former *inner) error {
	switch {
	case former == nil:
		return nil
	case len(former.holds.Addresses) <= mostAddresses:
		s.spare[name] = former
		return nil
	}
	if err := former.Close(); err != nil {
		return fmt.Errorf("closing table %s: %w", name, err)
	}
	return nil
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
	for name, in := range b {
		if there[name] == in {
			continue
		}
		puts++
		go func() {
			if err := s.maps.Map(name).Put(slot, in.Map); err != nil {
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

// fill returns for each table the inner map that is in force, where that says the same, and else the other one, brought
// up to date. Of that only what differs is written: it holds what was in force before.
func (s *Store) fill(to *version) (buffer, error) {
	b := buffer{}
	for _, k := range kinds() {
		if held := s.held[k.name]; held != nil && k.edits(held.holds, to).none() {
			b[k.name] = held
			continue
		}
		in, err := s.room(k.name, k.size(to))
		if err != nil {
			return nil, err
		}
		todo := k.edits(in.holds, to)
		if err := todo.apply(in.Map); err != nil {
			delete(s.spare, k.name) // nobody knows what it holds
			return nil, errors.Join(fmt.Errorf("filling table %s: %w", k.name, err), in.Close())
		}
		in.holds = k.part(to)
		b[k.name] = in
	}
	return b, nil
}

// room returns an inner map that is not in force and has room for so many entries.
func (s *Store) room(outer string, size int) (*inner, error) {
	former := s.spare[outer]
	if former != nil && former.MaxEntries() >= uint32(size) {
		return former, nil
	}
	if s.specs == nil {
		spec, err := bpfobj.LoadABI()
		if err != nil {
			return nil, fmt.Errorf("reading map definitions: %w", err)
		}
		s.specs = spec.Maps
	}
	spec := s.specs[outer].InnerMap.Copy()
	spec.MaxEntries = uint32(size + size/8 + 1) // so that there is room for some more
	m, err := ebpf.NewMap(spec)
	if err != nil {
		return nil, fmt.Errorf("making table %s of %d entries: %w", outer, size, err)
	}
	s.spare[outer] = &inner{Map: m, holds: number(&compile.Tables{}, nil)}
	if former != nil {
		if err := former.Close(); err != nil { // an outer map may hold it
			return nil, fmt.Errorf("closing table %s: %w", outer, err)
		}
	}
	return s.spare[outer], nil
}
