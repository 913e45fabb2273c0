package compile

import (
	"reflect"
	"slices"

	"github.com/sallyport/sallyport/policy"
)

// settle makes what enableDefaultDeny: false says a matter of the Allow bits alone. In the tables every
// bit of Allow makes its direction default-deny for the processes that it selects. So a clause that must not
// do so stays for those processes only for which others do it anyway: a copy for each way in which these select. Elsewhere it
// goes, since everything passes there with it or without it.
func settle(clauses []*clause) ([]*clause, error) {
	out := make([]*clause, 0, len(clauses))
	var last []*clause // behind the others, so that none of them is the one that denies by default
	for _, cl := range clauses {
		if !cl.optional || cl.rule.Deny {
			out = append(out, cl)
			continue
		}
		copies, ok := cl.where(governing(clauses, cl.rule.Direction))
		if !ok {
			return nil, &Error{Policy: cl.rule.Policy, Rule: cl.rule.Name, Reason: "enableDefaultDeny: false is not enforced by this version " +
				"where the rule and one that makes " + cl.rule.Direction.String() + " default-deny name different binaries, scripts or ids in their processes"}
		}
		last = append(last, copies...)
	}
	return append(out, last...), nil
}

// governing lists the clauses that make a direction default-deny, one for each way in which they select processes: those that
// enforce before those that only tell. What one of them that enforces selects, or all, needs no other.
func governing(clauses []*clause, d policy.Direction) (out []*clause) {
	for _, audit := range []bool{false, true} {
		first := len(out)
		for _, cl := range clauses {
			if cl.optional || cl.rule.Deny || cl.rule.Direction != d || cl.rule.Audit != audit {
				continue
			}
			if cl.selector.Universal() {
				out = append(out[:first], cl)
				if !audit {
					return out
				}
				break
			}
			// Of a rule that names ids another clause governs.
			if (cl.governs || !namesIDs(cl.selector)) && !slices.ContainsFunc(out, cl.selectsAs) {
				out = append(out, cl)
			}
		}
	}
	return out
}

// selectsAs says whether two clauses select the same processes for the same reason.
func (cl *clause) selectsAs(other *clause) bool {
	return reflect.DeepEqual(cl.selector, other.selector) && reflect.DeepEqual(cl.script, other.script) && cl.governs == other.governs && cl.anyOf == other.anyOf
}

func namesIDs(s *policy.ProcessSelector) bool { return s.Users != nil || s.Groups != nil }

// where copies an optional clause for the processes that others govern. ok is false where the tables cannot say for
// which.
func (cl *clause) where(governing []*clause) (copies []*clause, ok bool) {
	for _, g := range governing {
		narrow, some, ok := cl.within(g)
		if !ok {
			return nil, false
		}
		if !some {
			continue
		}
		narrow.rule.Audit = cl.rule.Audit || g.rule.Audit // counts only where what is told is asked for
		if !slices.ContainsFunc(copies, func(c *clause) bool { return c.rule.Audit == narrow.rule.Audit && c.selectsAs(narrow) }) {
			copies = append(copies, narrow)
		}
	}
	return copies, true
}

// within narrows a clause to the processes that another selects. some is false where there are none, ok where the tables
// cannot say it: a bit has one list of binaries, and by ids it is met by all of them or by one.
func (cl *clause) within(g *clause) (narrow *clause, some, ok bool) {
	own, other := cl.selector, g.selector
	s := *own
	out := *cl
	switch {
	case own.Origins == nil:
		s.Origins = other.Origins
	case other.Origins != nil:
		s.Origins = slices.DeleteFunc(slices.Clone(own.Origins), func(o policy.Origin) bool { return !slices.Contains(other.Origins, o) })
		if len(s.Origins) == 0 {
			return nil, false, true
		}
	}
	switch {
	case own.Binaries == nil:
		s.Binaries = other.Binaries
	case other.Binaries != nil && !reflect.DeepEqual(own.Binaries, other.Binaries):
		return nil, false, false
	}
	switch {
	case cl.script == nil:
		s.Scripts, out.script = other.Scripts, g.script
	case g.script != nil && !reflect.DeepEqual(cl.script, g.script):
		return nil, false, false
	}
	switch {
	case !namesIDs(own):
		s.Users, s.Groups, out.anyOf = other.Users, other.Groups, g.governs
	case namesIDs(other):
		return nil, false, false
	}
	out.selector = &s
	return &out, true, true
}
