package main

// mostRules bounds the rules of a policy in the API, so that the cost of checking them is bounded; a container cannot have
// more either.
const mostRules = 512

// checks adds to the schema of a spec what the API server itself can check of how fields go together. The webhook and the
// agents check all of it; this is for who has no webhook.
func checks(spec *schema) {
	rules := spec.Properties["rules"]
	rules.MaxItems = mostRules
	rules.Validations = []validation{{
		Rule:    "self.all(r, !has(r.name) || self.exists_one(s, has(s.name) && s.name == r.name))",
		Message: "rule names are unique in a policy",
	}}
	rules.Items.Validations = []validation{
		{
			Rule:    "has(self.egress) || has(self.ingress) || (has(self.action) && self.action != 'Allow')",
			Message: "an Allow rule must name egress or ingress: egress: [{}] allows all that leaves, egress: [] nothing",
		},
		{
			Rule: "!(has(self.action) && self.action == 'Kill' && has(self.onViolation) && has(self.onViolation.verdict) &&" +
				" self.onViolation.verdict != 'Kill')",
			Message: "action Kill and another verdict are two verdicts: leave verdict out, or write action: Deny",
		},
	}
}
