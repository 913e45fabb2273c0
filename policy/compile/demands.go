package compile

import (
	"fmt"

	"github.com/sallyport/sallyport/policy"
)

// line is a pattern of a header of a request: its name in lower case, a colon, its value, which blanks may
// follow.
type line policy.HeaderDemand

func (l line) String() string {
	if l.Any {
		return l.Name
	}
	return l.Name + ":" + l.Value
}

// Tokens returns the steps of the pattern.
func (l line) Tokens() (out []policy.GlobToken) {
	text := l.Name + ":"
	if !l.Any {
		text += l.Value
	}
	for i := range len(text) {
		var one policy.ByteSet
		one[text[i]/64] = 1 << (text[i] % 64)
		out = append(out, policy.GlobToken{Kind: policy.GlobOne, Set: one})
	}
	var rest policy.ByteSet
	for b := range 256 {
		if l.Any || b == ' ' || b == '\t' {
			rest[b/64] |= 1 << (b % 64)
		}
	}
	return append(out, policy.GlobToken{Kind: policy.GlobMany, Set: rest})
}

// lines are the headers that clauses demand.
func lines() patternsOf {
	return patternsOf{"rules.http[].headers", func(cl *clause) (out []pattern) {
		for _, d := range cl.demands() {
			out = append(out, line(d))
		}
		return out
	}}
}

// demand numbers the headers that the rules of a ruleset demand and makes the automaton that finds them. Its
// sets are of demands and, in the next word, of names.
func (c *Compiler) demand(b *built) {
	patterns, given := map[string]pattern{}, map[string]Bitset{}
	numbers, names := map[line]int{}, map[string]int{}
	give := func(l line, bit int) {
		set := given[l.String()]
		set.Set(bit)
		patterns[l.String()], given[l.String()] = l, set
	}
	for bit, cl := range b.clauses {
		for _, d := range cl.demands() {
			l := line(d)
			if _, known := numbers[l]; !known {
				numbers[l] = len(numbers)
				b.ruleset.Demands = append(b.ruleset.Demands, Bitset{})
				give(l, numbers[l])
			}
			if _, known := names[l.Name]; !known {
				names[l.Name] = len(names)
				give(line{Name: l.Name, Any: true}, MaxDemands+names[l.Name])
			}
			if len(numbers) > MaxDemands {
				b.errs = append(b.errs, &Error{
					Policy: cl.rule.Policy, Rule: cl.rule.Name,
					Reason: fmt.Sprintf("goes over the %d headers and values of headers that the rules of a container can demand", MaxDemands),
				})
				return
			}
			b.ruleset.Demands[numbers[l]].Set(bit)
		}
	}
	made, err := c.automatonOf(lines().field, patterns, given)
	if err != nil {
		b.errs = append(b.errs, tooBig(b.clauses, lines(), err))
	}
	b.automata = append(b.automata, made)
}
