package compile

import (
	"github.com/sallyport/sallyport/policy"
)

// Enforced says which parts of the language whoever walks the tables can judge by. What is false is
// refused where a policy uses it: a rule that is only half enforced is worse than none (fails closed,
// the caller keeps the tables it had).
type Enforced struct {
	Users   bool // Ruleset.AnyUser, Tables.Users, and the same for groups
	Scripts bool // Ruleset.AnyScript, Interpreters, Scripts
	ICMP    bool // types of ICMP messages: PortEntry
}

// Everything is what (*Tables).Judge judges by.
func Everything() Enforced { return Enforced{Users: true, Scripts: true, ICMP: true} }

// unsupported refuses what a rule says and nobody would enforce.
func (e Enforced) unsupported(p *policy.Policy, r *policy.Rule) (errs Errors) {
	refuse := func(field string) {
		errs = append(errs, policyError(p, r, field+" is not enforced by this version"))
	}
	seen := map[string]bool{}
	once := func(used bool, field string) {
		if used && !seen[field] {
			seen[field] = true
			refuse(field)
		}
	}
	for _, s := range r.Selectors() {
		once(s.Users != nil && !e.Users, "processes[].users")
		once(s.Groups != nil && !e.Users, "processes[].groups")
		once(s.Scripts != nil && !e.Scripts, "processes[].scripts")
	}
	for _, d := range []Direction{Egress, Ingress} {
		entries, _, _ := r.Entries(d)
		for i := range entries {
			once(entries[i].ICMPs != nil && !e.ICMP, d.String()+"[].icmps")
			once(entries[i].HTTP != nil, d.String()+"[].toPorts[].rules.http")
			once(entries[i].ServerNames != nil, d.String()+"[].toPorts[].serverNames")
		}
	}
	return errs
}
