package compile

import "github.com/sallyport/sallyport/policy"

// settle makes what enableDefaultDeny: false says a matter of the Allow bits alone. In the tables every
// bit of Allow makes its direction default-deny for the processes that it selects. A clause that must
// not do so can therefore stay only where another one that selects every process does it anyway, and
// can go where none does it: then everything passes with it or without it.
func settle(clauses []*clause) ([]*clause, error) {
	out := make([]*clause, 0, len(clauses))
	var last []*clause // behind the others, so that none of them is the one that denies by default
	for _, cl := range clauses {
		if !cl.optional || cl.rule.Deny {
			out = append(out, cl)
			continue
		}
		enforced := governed(clauses, cl.rule.Direction, false)
		switch told := governed(clauses, cl.rule.Direction, true); {
		case enforced == everybody, cl.rule.Audit && told == everybody:
			last = append(last, cl)
		case enforced == nobody && told == nobody:
		case enforced == nobody && told == everybody:
			// It counts only where what is told is asked for.
			audit := *cl
			audit.rule.Audit = true
			last = append(last, &audit)
		default:
			return nil, &Error{Policy: cl.rule.Policy, Rule: cl.rule.Name, Reason: "enableDefaultDeny: false is not enforced by this version " +
				"where the rules that make " + cl.rule.Direction.String() + " default-deny select some processes only"}
		}
	}
	return append(out, last...), nil
}

// coverage is for which processes a direction is default-deny.
type coverage uint8

const (
	nobody coverage = iota
	somebody
	everybody
)

// governed says for which processes the clauses make a direction default-deny, with or without those
// that only tell.
func governed(clauses []*clause, d policy.Direction, audits bool) coverage {
	covers := nobody
	for _, cl := range clauses {
		if cl.optional || cl.rule.Deny || cl.rule.Direction != d || cl.rule.Audit && !audits {
			continue
		}
		if cl.selector.Universal() {
			return everybody
		}
		covers = somebody
	}
	return covers
}
