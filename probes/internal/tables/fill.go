package tables

import (
	"math/bits"
	"net/netip"

	"github.com/sallyport/sallyport/policy/compile"
	"github.com/sallyport/sallyport/probes/internal/bpfobj"
)

// portBits are the bits of bpfobj.ABIPortKey before the port.
const portBits = 48

type addressKey = bpfobj.ABIAddressKey

func keyOf(p netip.Prefix) addressKey {
	return addressKey{Prefixlen: uint32(p.Bits()), Addr: p.Addr().As16()}
}

// kind is one table.
type kind struct {
	name  string                          // of the outer map
	part  func(*version) *version         // what of a version it is made of
	size  func(to *version) int           // entries
	edits func(from, to *version) changes // what makes of the one the other
}

// kinds are all tables.
func kinds() []kind {
	peers := func(r *compile.Ruleset) []compile.PeerEntry { return r.Peers }
	ports := func(r *compile.Ruleset) []compile.PortEntry { return r.Ports }
	demands := func(r *compile.Ruleset) []compile.Bitset { return r.Demands }
	return []kind{
		{"rulesets", (*version).ofRulesets, func(to *version) int { return len(to.byID) }, func(from, to *version) changes { return rulesets(from, to) }},
		{"ruleset_by_cgrp", (*version).ofRulesets, func(to *version) int { return len(to.Containers) }, func(from, to *version) changes { return containers(from, to) }},
		{"identity_by_addr", (*version).ofAddresses, func(to *version) int { return len(to.Addresses) }, func(from, to *version) changes { return addresses(from.Addresses, to.Addresses) }},
		{"rules_by_peer", (*version).ofRulesets, func(to *version) int { return size(to, peers) }, func(from, to *version) changes { return entries(from, to, peers, peerPair) }},
		{"rules_by_port", (*version).ofRulesets, func(to *version) int { return size(to, ports) }, func(from, to *version) changes { return entries(from, to, ports, portPair) }},
		{"rules_by_id", (*version).ofRulesets, func(to *version) int { return size(to, ids) }, func(from, to *version) changes { return entries(from, to, ids, idPair) }},
		{"dfa_pages", (*version).ofAutomata, func(to *version) int { return len(to.Pages) }, func(from, to *version) changes { return array(from.Pages, to.Pages) }},
		{"dfa_accepts", (*version).ofAutomata, func(to *version) int { return len(to.Accepts) }, func(from, to *version) changes { return array(from.Accepts, to.Accepts) }},
		{"demands", (*version).ofRulesets, func(to *version) int { return size(to, demands) }, func(from, to *version) changes { return array(from.demands(), to.demands()) }},
		{"rules", (*version).ofRulesets, func(to *version) int { return len(to.byID) * compile.MaxRules }, func(from, to *version) changes { return rules(from, to) }},
	}
}

// containers finds those that have another ruleset.
func containers(from, to *version) *edits[uint64, uint32] {
	e, before := &edits[uint64, uint32]{}, make(map[uint64]uint32, len(from.Containers))
	for key, ruleset := range from.Containers {
		before[key] = from.ids[ruleset]
	}
	for key, ruleset := range to.Containers {
		e.keep(before, key, to.ids[ruleset])
	}
	e.leave(before)
	return e
}

func peerPair(id uint32, e *compile.PeerEntry) (bpfobj.ABIPeerKey, compile.Bitset) {
	return bpfobj.ABIPeerKey{Ruleset: id, Identity: uint32(e.Identity)}, e.Bits
}

// portPair has a prefix for its key. Prefixes are matched from the first byte in memory, so both numbers are big endian.
// All targets are little endian (bpfel).
func portPair(id uint32, e *compile.PortEntry) (bpfobj.ABIPortKey, compile.Bitset) {
	return bpfobj.ABIPortKey{
		Prefixlen: portBits + uint32(e.Length),
		Ruleset:   bits.ReverseBytes32(id),
		Protocol:  e.Protocol,
		PortBe:    bits.ReverseBytes16(e.Port),
	}, e.Bits
}

// idEntry is an entry of users or of groups.
type idEntry struct {
	kind uint32 // as in enum id_kinds
	compile.IDEntry
}

// ids are the entries of users and groups of a ruleset.
func ids(r *compile.Ruleset) (all []idEntry) {
	for kind, entries := range [][]compile.IDEntry{r.Users, r.Groups} { // in the order of enum id_kinds
		for _, e := range entries {
			all = append(all, idEntry{uint32(kind), e})
		}
	}
	return all
}

func idPair(id uint32, e *idEntry) (bpfobj.ABIIdKey, compile.Bitset) {
	return bpfobj.ABIIdKey{Ruleset: id, Id: e.ID, Kind: e.kind}, e.Bits
}

// rulesets finds the rulesets that are others. What is there of one that is gone stays: no container has it.
func rulesets(from, to *version) *edits[uint32, bpfobj.ABIRuleset] {
	e := &edits[uint32, bpfobj.ABIRuleset]{}
	for id, r := range to.byID {
		if r == nil || r == from.at(id) && from.first[id] == to.first[id] {
			continue
		}
		e.put(uint32(id), kernelRuleset(r, uint32(id), to.first[id]))
	}
	return e
}

// rules finds the rules of those rulesets whose rules are others.
func rules(from, to *version) *edits[uint32, bpfobj.ABIRule] {
	e := &edits[uint32, bpfobj.ABIRule]{}
	for id, r := range to.byID {
		if before := from.at(id); r == nil || before != nil && equal(before.Rules, r.Rules) {
			continue
		}
		for bit := range r.Rules {
			rule := &r.Rules[bit]
			e.put(uint32(id*compile.MaxRules+bit), bpfobj.ABIRule{Ref: rule.Ref, Verdict: rule.Verdict, Severity: rule.Severity})
		}
	}
	return e
}

func kernelRef(r compile.DFARef) bpfobj.ABIDfaRef {
	return bpfobj.ABIDfaRef{Page: r.Page, Base: r.Base, Classes: r.Classes}
}

func kernelBits(b compile.Bitset) bpfobj.ABIBits { return bpfobj.ABIBits{Word: b} }

// kernelRuleset is a ruleset as the kernel has it, with its number and the place of its first demand.
func kernelRuleset(r *compile.Ruleset, id, demand uint32) bpfobj.ABIRuleset {
	v := bpfobj.ABIRuleset{
		Audit:        kernelBits(r.Audit),
		AnyBinary:    kernelBits(r.AnyBinary),
		AnyScript:    kernelBits(r.AnyScript),
		AnyId:        [2]bpfobj.ABIBits{kernelBits(r.AnyUser), kernelBits(r.AnyGroup)},
		AnyOf:        kernelBits(r.AnyOf),
		Truncated:    kernelBits(r.Truncated),
		AnyPeer:      kernelBits(r.AnyPeer),
		AnyPort:      kernelBits(r.AnyPort),
		Dns:          kernelBits(r.DNS),
		Exe:          kernelRef(r.Exe),
		Interpreters: kernelRef(r.Interpreters),
		Scripts:      kernelRef(r.Scripts),
		Names:        kernelRef(r.Names),
		Queries:      kernelRef(r.Queries),
		Http:         kernelBits(r.HTTP),
		Tls:          kernelBits(r.TLS),
		Read:         kernelBits(r.HTTP.Or(r.TLS)),
		AnyMethod:    kernelBits(r.AnyMethod),
		AnyPath:      kernelBits(r.AnyPath),
		AnyHost:      kernelBits(r.AnyHost),
		Methods:      kernelRef(r.Methods),
		Paths:        kernelRef(r.Paths),
		Hosts:        kernelRef(r.Hosts),
		Servers:      kernelRef(r.ServerNames),
		Lines:        kernelRef(r.Lines),
		Id:           id,

		FirstDemand: demand,
		Demands:     uint32(len(r.Demands)),
		Digest:      r.Digest,
		Flags:       uint32(flagsOf(r)),
	}
	for d := range v.Allow {
		v.Allow[d], v.Deny[d] = kernelBits(r.Allow[d]), kernelBits(r.Deny[d])
	}
	for o := range v.Origins {
		v.Origins[o] = kernelBits(r.Origins[o])
	}
	return v
}

// flagsOf says what of a ruleset is worth asking for.
func flagsOf(r *compile.Ruleset) (flags bpfobj.ABIRulesetFlags) {
	for _, f := range []struct {
		set  bool
		flag bpfobj.ABIRulesetFlags
	}{
		{len(r.Rules) > 0, bpfobj.ABIRulesetFlagsRULESET_RULES},
		{r.Audit != (compile.Bitset{}), bpfobj.ABIRulesetFlagsRULESET_AUDIT},
		{r.Names.Classes != 0, bpfobj.ABIRulesetFlagsRULESET_NAMES},
		{r.DNS != (compile.Bitset{}), bpfobj.ABIRulesetFlagsRULESET_DNS},
		{r.TLS != (compile.Bitset{}), bpfobj.ABIRulesetFlagsRULESET_TLS},
		{r.ICMP, bpfobj.ABIRulesetFlagsRULESET_ICMP},
		{r.AsksBut(r.AnyUser), bpfobj.ABIRulesetFlagsRULESET_USERS},
		{r.AsksBut(r.AnyGroup), bpfobj.ABIRulesetFlagsRULESET_GROUPS},
	} {
		if f.set {
			flags |= f.flag
		}
	}
	return flags
}
