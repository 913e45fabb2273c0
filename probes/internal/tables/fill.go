package tables

import (
	"errors"
	"math/bits"

	"github.com/cilium/ebpf"

	"github.com/sallyport/sallyport/policy/compile"
	"github.com/sallyport/sallyport/probes/internal/bpfobj"
)

// portBits are the bits of bpfobj.ABIPortKey before the port.
const portBits = 48

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

func fillArray[V any](m *ebpf.Map, values []V) error {
	keys := make([]uint32, len(values))
	for i := range keys {
		keys[i] = uint32(i)
	}
	return put(m, keys, values)
}

func fillContainers(m *ebpf.Map, containers map[uint64]uint32) error {
	keys, values := make([]uint64, 0, len(containers)), make([]uint32, 0, len(containers))
	for k, v := range containers {
		keys, values = append(keys, k), append(values, v)
	}
	return put(m, keys, values)
}

func fillAddresses(m *ebpf.Map, entries []compile.AddressEntry) error {
	keys, values := make([]bpfobj.ABIAddressKey, len(entries)), make([]uint32, len(entries))
	for i, e := range entries {
		keys[i], values[i] = addressKey(e.Prefix), uint32(e.Identity)
	}
	return put(m, keys, values)
}

func fillPeers(m *ebpf.Map, t *compile.Tables) error {
	n := size(t, peersOf)
	keys, values := make([]bpfobj.ABIPeerKey, 0, n), make([]compile.Bitset, 0, n)
	for id, r := range t.Rulesets {
		for i := range r.Peers {
			keys = append(keys, bpfobj.ABIPeerKey{Ruleset: uint32(id), Identity: uint32(r.Peers[i].Identity)})
			values = append(values, r.Peers[i].Bits)
		}
	}
	return put(m, keys, values)
}

func fillPorts(m *ebpf.Map, t *compile.Tables) error {
	n := size(t, portsOf)
	keys, values := make([]bpfobj.ABIPortKey, 0, n), make([]compile.Bitset, 0, n)
	for id, r := range t.Rulesets {
		for i := range r.Ports {
			keys, values = append(keys, portKey(uint32(id), &r.Ports[i])), append(values, r.Ports[i].Bits)
		}
	}
	return put(m, keys, values)
}

// portKey is the key of an entry. Prefixes are matched from the first byte in memory, so both numbers are big endian.
// All targets are little endian (bpfel).
func portKey(ruleset uint32, e *compile.PortEntry) bpfobj.ABIPortKey {
	return bpfobj.ABIPortKey{
		Prefixlen: portBits + uint32(e.Length),
		Ruleset:   bits.ReverseBytes32(ruleset),
		Protocol:  e.Protocol,
		PortBe:    bits.ReverseBytes16(e.Port),
	}
}

func fillIDs(m *ebpf.Map, t *compile.Tables) error {
	n := size(t, usersOf) + size(t, groupsOf)
	keys, values := make([]bpfobj.ABIIdKey, 0, n), make([]compile.Bitset, 0, n)
	for id, r := range t.Rulesets {
		for kind, entries := range [][]compile.IDEntry{r.Users, r.Groups} { // in the order of enum id_kinds
			for _, e := range entries {
				keys = append(keys, bpfobj.ABIIdKey{Ruleset: uint32(id), Id: e.ID, Kind: uint32(kind)})
				values = append(values, e.Bits)
			}
		}
	}
	return put(m, keys, values)
}

func kernelRef(r compile.DFARef) bpfobj.ABIDfaRef {
	return bpfobj.ABIDfaRef{Page: r.Page, Base: r.Base, Classes: r.Classes}
}

func kernelBits(b compile.Bitset) bpfobj.ABIBits { return bpfobj.ABIBits{Word: b} }

func fillRulesets(m *ebpf.Map, rulesets []*compile.Ruleset) error {
	values, demands := make([]bpfobj.ABIRuleset, len(rulesets)), 0
	for id := range rulesets {
		r, v := rulesets[id], &values[id]
		*v = bpfobj.ABIRuleset{
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
			AnyMethod:    kernelBits(r.AnyMethod),
			AnyPath:      kernelBits(r.AnyPath),
			AnyHost:      kernelBits(r.AnyHost),
			Methods:      kernelRef(r.Methods),
			Paths:        kernelRef(r.Paths),
			Hosts:        kernelRef(r.Hosts),
			Lines:        kernelRef(r.Lines),
			Id:           uint32(id),

			FirstDemand: uint32(demands),
			Demands:     uint32(len(r.Demands)),
		}
		demands += len(r.Demands)
		for d := range v.Allow {
			v.Allow[d], v.Deny[d] = kernelBits(r.Allow[d]), kernelBits(r.Deny[d])
		}
		for o := range v.Origins {
			v.Origins[o] = kernelBits(r.Origins[o])
		}
		v.Flags = uint32(flagsOf(r))
	}
	return fillArray(m, values)
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

// demandsOf are the demands of all rulesets, in their order.
func demandsOf(rulesets []*compile.Ruleset) (all []compile.Bitset) {
	for id := range rulesets {
		all = append(all, rulesets[id].Demands...)
	}
	return all
}

func fillRules(m *ebpf.Map, rulesets []*compile.Ruleset) error {
	var keys []uint32
	var values []bpfobj.ABIRule
	for id := range rulesets {
		for bit, r := range rulesets[id].Rules {
			keys = append(keys, uint32(id*compile.MaxRules+bit))
			values = append(values, bpfobj.ABIRule{Ref: r.Ref, Verdict: r.Verdict, Severity: r.Severity})
		}
	}
	return put(m, keys, values)
}
