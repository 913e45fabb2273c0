package tables

import (
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"

	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/policy/compile"
	"github.com/sallyport/sallyport/policy/policytest"
	"github.com/sallyport/sallyport/probes/internal/bpfobj"
)

// onto does to a Go map what edits do to one of the kernel.
func onto[K, V comparable](t *testing.T, m map[any]any, e *edits[K, V]) {
	t.Helper()
	for _, key := range e.gone {
		if _, there := m[key]; !there {
			t.Errorf("%v is to be deleted and is not there", key)
		}
		delete(m, key)
	}
	for i, key := range e.keys {
		m[key] = e.values[i]
	}
}

// simulate does the edits of any table.
func simulate(t *testing.T, m map[any]any, c changes) {
	t.Helper()
	switch e := c.(type) {
	case *edits[uint64, uint32]:
		onto(t, m, e)
	case *edits[addressKey, uint32]:
		onto(t, m, e)
	case *edits[bpfobj.ABIPeerKey, compile.Bitset]:
		onto(t, m, e)
	case *edits[bpfobj.ABIPortKey, compile.Bitset]:
		onto(t, m, e)
	case *edits[bpfobj.ABIIdKey, compile.Bitset]:
		onto(t, m, e)
	case *edits[uint32, compile.Bitset]:
		onto(t, m, e)
	case *edits[uint32, compile.Page]:
		onto(t, m, e)
	case *edits[uint32, bpfobj.ABIRule]:
		onto(t, m, e)
	case *edits[uint32, bpfobj.ABIRuleset]:
		onto(t, m, e)
	default:
		t.Fatalf("edits of type %T", c)
	}
}

// TestEditsMakeWhatAFillMakes brings two maps of each table up to date in turns, as swaps do, and compares each time with
// one that is filled anew.
func TestEditsMakeWhatAFillMakes(t *testing.T) {
	t.Parallel()
	nothing := number(&compile.Tables{}, nil)
	swaps, deleted := 0, 0
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 4))
		var pool []policy.Input
		for i := range uint64(3) {
			c, err := policytest.Random(seed*3+i, 0)
			if err != nil {
				t.Fatal(err)
			}
			pool = append(pool, c.Input)
		}
		other := func() policy.Input { return pool[r.IntN(len(pool))] }
		compiler, in, last := compile.NewCompiler(compile.Everything()), pool[0], nothing
		var turns [2]map[string]map[any]any
		var holds [2]map[string]*version
		for i := range turns {
			turns[i], holds[i] = map[string]map[any]any{}, map[string]*version{}
			for _, k := range kinds() {
				turns[i][k.name], holds[i][k.name] = map[any]any{}, nothing
			}
		}
		for step := range 12 {
			switch r.IntN(4) {
			case 0:
				in.World, in.Node = other().World, other().Node
			case 1:
				in.Workloads = other().Workloads
			case 2:
				in.Policies = other().Policies
			case 3:
				in.Workloads = in.Workloads[:r.IntN(len(in.Workloads)+1)]
			}
			tables, err := compiler.Compile(in)
			if err != nil {
				continue // of some inputs not everything can be
			}
			to := number(tables, last)
			at := swaps % 2
			for _, k := range kinds() {
				before := len(turns[at][k.name])
				simulate(t, turns[at][k.name], k.edits(holds[at][k.name], to))
				holds[at][k.name] = k.part(to)
				deleted += max(0, before-len(turns[at][k.name]))
				anew := map[any]any{}
				simulate(t, anew, k.edits(nothing, to))
				if len(anew) > k.size(to) {
					t.Errorf("seed %d, step %d: %s has %d entries and room for %d", seed, step, k.name, len(anew), k.size(to))
				}
				got := turns[at][k.name]
				if stale(k.name) { // what nobody refers to any more may stay
					got = maps.Clone(got)
					maps.DeleteFunc(got, func(key, _ any) bool { _, there := anew[key]; return !there })
				}
				if !reflect.DeepEqual(got, anew) {
					t.Fatalf("seed %d, step %d: table %s is not what a new one would be", seed, step, k.name)
				}
			}
			last = to
			swaps++
		}
	}
	if swaps < 100 || deleted == 0 {
		t.Errorf("%d swaps, %d entries deleted: that says little", swaps, deleted)
	}
}

// stale says whether a table is an array, which keeps what is behind its end.
func stale(table string) bool {
	return slices.Contains([]string{"rulesets", "dfa_pages", "dfa_accepts", "demands", "rules"}, table)
}

// TestRulesetsKeepTheirNumbers takes the first of three rulesets away and brings another.
func TestRulesetsKeepTheirNumbers(t *testing.T) {
	t.Parallel()
	named := func(name string) *compile.Ruleset { return &compile.Ruleset{Rules: []compile.Rule{{Name: name}}} }
	a, b, c, d := named("a"), named("b"), named("c"), named("d")
	empty := &compile.Ruleset{}
	ids := func(v *version) map[string]uint32 {
		of := map[string]uint32{}
		for i, r := range v.Rulesets {
			if len(r.Rules) > 0 {
				of[r.Rules[0].Name] = v.ids[i]
			}
			if v.byID[v.ids[i]] != r {
				t.Errorf("ruleset %d is not at its number %d", i, v.ids[i])
			}
		}
		return of
	}
	first := number(&compile.Tables{Rulesets: []*compile.Ruleset{empty, a, b, c}}, nil)
	second := number(&compile.Tables{Rulesets: []*compile.Ruleset{empty, b, c}}, first)
	copied := *c // with another place for an automaton, say
	third := number(&compile.Tables{Rulesets: []*compile.Ruleset{empty, b, &copied, d}}, second)
	for i, step := range []struct {
		v    *version
		want map[string]uint32
	}{
		{first, map[string]uint32{"a": 1, "b": 2, "c": 3}},
		{second, map[string]uint32{"b": 2, "c": 3}},
		{third, map[string]uint32{"b": 2, "c": 3, "d": 1}},
	} {
		if got := ids(step.v); !maps.Equal(got, step.want) {
			t.Errorf("step %d: %v, want %v", i, got, step.want)
		}
	}
}
