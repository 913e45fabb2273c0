package compile

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/policy/compile/dfa"
)

// pattern is a string pattern of a clause: a policy.Glob, a policy.NamePattern, a policy.Regex, a line.
type pattern interface {
	String() string
}

// addTo adds a pattern to an automaton.
func addTo(b *dfa.Builder, p pattern, tag uint32) {
	switch p := p.(type) {
	case policy.Regex:
		b.AddRegex(p.Root(), tag)
	case interface{ Tokens() []policy.GlobToken }:
		b.Add(p.Tokens(), tag)
	}
}

// patternsOf is one kind of a clause's patterns: each kind has an automaton of its own.
type patternsOf struct {
	field string // as people write it
	of    func(*clause) []pattern
}

var (
	binaries = patternsOf{"binaries", func(cl *clause) (out []pattern) {
		for _, g := range cl.selector.Binaries {
			out = append(out, g)
		}
		return out
	}}
	interpreters = patternsOf{"scripts[].interpreter", func(cl *clause) []pattern {
		if cl.script == nil {
			return nil
		}
		return []pattern{cl.script.Interpreter}
	}}
	scripts = patternsOf{"scripts[].path", func(cl *clause) []pattern {
		if cl.script == nil {
			return nil
		}
		return []pattern{cl.script.Path}
	}}
	names   = patternsOf{"toFQDNs", func(cl *clause) []pattern { return fqdns(cl.names) }}
	queries = patternsOf{"rules.dns", func(cl *clause) []pattern { return fqdns(cl.queries) }}
)

// kinds are the kinds of patterns that have an automaton in every ruleset that needs one.
func kinds() []patternsOf {
	regex := func(field string, of func(*policy.HTTPRule) policy.Regex) patternsOf {
		return patternsOf{"rules.http[]." + field, func(cl *clause) []pattern {
			if cl.request == nil || of(cl.request).IsZero() {
				return nil
			}
			return []pattern{of(cl.request)}
		}}
	}
	return []patternsOf{
		binaries, interpreters, scripts, names, queries,
		regex("method", func(r *policy.HTTPRule) policy.Regex { return r.Method }),
		regex("path", func(r *policy.HTTPRule) policy.Regex { return r.Path }),
		regex("host", func(r *policy.HTTPRule) policy.Regex { return r.Host }),
		{"serverNames", func(cl *clause) (out []pattern) {
			for _, p := range cl.servers {
				out = append(out, p)
			}
			return out
		}},
	}
}

// places is how many automata a ruleset can have: those of kinds, and that of the headers.
const places = 10

// automata returns where a ruleset has the automata of kinds, in their order, and that of the headers.
func (r *Ruleset) automata() [places]*DFARef {
	return [...]*DFARef{&r.Exe, &r.Interpreters, &r.Scripts, &r.Names, &r.Queries, &r.Methods, &r.Paths, &r.Hosts, &r.ServerNames, &r.Lines}
}

// where returns where the automata of a ruleset are.
func (r *Ruleset) where() (refs [places]DFARef) {
	for i, ref := range r.automata() {
		refs[i] = *ref
	}
	return refs
}

// demands returns the headers that a clause demands.
func (cl *clause) demands() []policy.HeaderDemand {
	if cl.request == nil {
		return nil
	}
	return cl.request.Demands()
}

func fqdns(selectors []policy.FQDNSelector) (out []pattern) {
	for _, s := range selectors {
		if p := s.Pattern(); !p.IsZero() {
			out = append(out, p)
		}
	}
	return out
}

// automaton makes the automaton that tells which clauses a string matches by their patterns of one
// kind.
func (c *Compiler) automaton(clauses []*clause, kind patternsOf) (*automaton, error) {
	byText := map[string]Bitset{}
	patterns := map[string]pattern{}
	for bit, cl := range clauses {
		for _, p := range kind.of(cl) {
			s := byText[p.String()]
			s.Set(bit)
			byText[p.String()], patterns[p.String()] = s, p
		}
	}
	return c.automatonOf(kind.field, patterns, byText)
}

// automatonOf makes the automaton of patterns by their texts. given says what each of them gives.
func (c *Compiler) automatonOf(field string, patterns map[string]pattern, given map[string]Bitset) (*automaton, error) {
	if len(patterns) == 0 {
		return nil, nil //nolint:nilnil // no patterns, no automaton
	}
	// Patterns of the same rules have one tag, so that minimisation can join what the rules
	// cannot tell apart.
	key := []byte(field)
	var sets []Bitset
	tags := map[Bitset]uint32{}
	b := &dfa.Builder{}
	for _, text := range sortedKeys(patterns) {
		set := given[text]
		tag, ok := tags[set]
		if !ok {
			tag = uint32(len(sets))
			tags[set] = tag
			sets = append(sets, set)
		}
		addTo(b, patterns[text], tag)
		key = append(binary.AppendUvarint(key, uint64(len(text))), text...)
		for _, w := range set {
			key = binary.LittleEndian.AppendUint64(key, w)
		}
	}
	if known, ok := c.automata[string(key)]; ok {
		return known, nil
	}
	d, err := b.Build()
	if err != nil {
		return nil, err
	}
	made, err := layOut(d, sets)
	if err != nil {
		return nil, err
	}
	c.automata[string(key)] = made
	return made, nil
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// tooBig names the patterns of a ruleset whose automaton could not be made: those with a star in
// their middle first, because they make it grow.
func tooBig(clauses []*clause, kind patternsOf, err error) *Error {
	const most = 8
	e := &Error{Reason: err.Error()}
	seen := map[string]bool{}
	var costly, other []string
	for _, cl := range clauses {
		for _, p := range kind.of(cl) {
			switch text := p.String(); {
			case seen[text]:
				continue
			case strings.Contains(strings.TrimSuffix(text, "**"), "*"):
				if len(costly) == 0 {
					e.Policy, e.Rule = cl.rule.Policy, cl.rule.Name
				}
				costly = append(costly, fmt.Sprintf("%q", text))
			default:
				if e.Rule == "" {
					e.Policy, e.Rule = cl.rule.Policy, cl.rule.Name
				}
				other = append(other, fmt.Sprintf("%q", text))
			}
			seen[p.String()] = true
		}
	}
	named := slices.Concat(costly, other)
	more := ""
	if len(named) > most {
		more = fmt.Sprintf(" and %d more", len(named)-most)
		named = named[:most]
	}
	if errors.Is(err, dfa.ErrTooBig) {
		e.Reason = kind.field + ": " + strings.Join(named, ", ") + more + ": " + err.Error()
	}
	return e
}
