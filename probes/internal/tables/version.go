package tables

import (
	"slices"

	"github.com/sallyport/sallyport/policy/compile"
)

// version is tables with the numbers that their rulesets have in the kernel. These are not those of the compiler, which
// go by the order of policies: here a ruleset keeps its number while it is there, so that one that comes or goes changes
// no entry of another.
type version struct {
	*compile.Tables
	ids   []uint32           // by the compiler's number
	byID  []*compile.Ruleset // by the kernel's; nil: no ruleset has this number
	first []uint32           // by the kernel's: the place of its first demand
}

// number numbers the rulesets of tables. before, if it is not nil, is the version that they come after.
func number(t *compile.Tables, before *version) *version {
	v := &version{Tables: t, ids: make([]uint32, len(t.Rulesets))}
	known := map[*compile.Rule]uint32{}
	if before != nil {
		for id, r := range before.byID {
			if r != nil && len(r.Rules) > 0 {
				known[&r.Rules[0]] = uint32(id)
			}
		}
	}
	v.byID = make([]*compile.Ruleset, len(t.Rulesets))
	var fresh []int
	for i, r := range t.Rulesets {
		id, ok := uint32(0), i == 0 // the empty one
		if len(r.Rules) > 0 && i > 0 {
			id, ok = known[&r.Rules[0]]
		}
		if !ok {
			fresh = append(fresh, i)
			continue
		}
		if more := int(id) + 1 - len(v.byID); more > 0 {
			v.byID = append(v.byID, make([]*compile.Ruleset, more)...)
		}
		v.byID[id], v.ids[i] = r, id
	}
	free := 0
	for _, i := range fresh {
		for v.byID[free] != nil { // there are as many places as rulesets
			free++
		}
		v.byID[free], v.ids[i] = t.Rulesets[i], uint32(free)
	}
	for len(v.byID) > 0 && v.byID[len(v.byID)-1] == nil {
		v.byID = v.byID[:len(v.byID)-1]
	}
	demands := uint32(0)
	for _, r := range v.byID {
		v.first = append(v.first, demands)
		if r != nil {
			demands += uint32(len(r.Demands))
		}
	}
	return v
}

// What of a version its tables are made of: a map that is not in force keeps no more of the one that it holds.

func (v *version) ofRulesets() *version {
	return &version{Tables: &compile.Tables{Containers: v.Containers}, ids: v.ids, byID: v.byID, first: v.first}
}

func (v *version) ofAddresses() *version {
	return &version{Tables: &compile.Tables{Addresses: v.Addresses}}
}

func (v *version) ofAutomata() *version {
	return &version{Tables: &compile.Tables{Pages: v.Pages, Accepts: v.Accepts}}
}

// at returns the ruleset of a number of the kernel's; nil: there is none.
func (v *version) at(id int) *compile.Ruleset {
	if id < len(v.byID) {
		return v.byID[id]
	}
	return nil
}

// demands are the demands of all rulesets.
func (v *version) demands() (all []compile.Bitset) {
	for _, r := range v.byID {
		if r != nil {
			all = append(all, r.Demands...)
		}
	}
	return all
}

// size is how many entries a part of all rulesets has.
func size[E any](v *version, part func(*compile.Ruleset) []E) (n int) {
	for _, r := range v.byID {
		if r != nil {
			n += len(part(r))
		}
	}
	return n
}

// same says whether two slices are one. The compiler hands out again what a change has not touched.
func same[T any](a, b []T) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0])
}

// equal says whether two slices say the same.
func equal[T comparable](a, b []T) bool { return same(a, b) || slices.Equal(a, b) }
