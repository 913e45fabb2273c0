package main

// What the agents write into a policy: PolicyStatus of runtime/kube. A test there compares the two against a real API
// server, which drops what is not described.

// column is a column of kubectl get.
func column(name, kind, path string, wide bool) map[string]any {
	c := map[string]any{"name": name, "type": kind, "jsonPath": path}
	if wide {
		c["priority"] = 1
	}
	return c
}

// columns are those of every kind.
func columns() []any {
	condition := func(kind, field string) string { return `.status.conditions[?(@.type=="` + kind + `")].` + field }
	return []any{
		column("Mode", "string", ".spec.mode", false),
		column("Accepted", "string", condition("Accepted", "status"), false),
		column("Enforced", "string", condition("Enforced", "status"), false),
		column("Workloads", "integer", ".status.workloads", false),
		column("Age", "date", ".metadata.creationTimestamp", false),
		column("Compiled", "string", condition("Compiled", "status"), true),
		column("Nodes", "string", ".status.enforcing", true),
		column("Reason", "string", condition("Enforced", "reason"), true),
		column("Message", "string", condition("Enforced", "message"), true),
	}
}

// status makes the schema of the status.
func status() *schema {
	zero := int64(0)
	count := func(doc string) *schema { return &schema{Type: "integer", Minimum: &zero, Description: doc} }
	return &schema{
		Type: "object", Description: "What the agents say about the policy.", Properties: map[string]*schema{
			"observedGeneration": count("The version that the summary is about."),
			"workloads":          count("The workloads that the policy selects, on all nodes."),
			"enforcing":          {Type: "string", Description: "How many nodes enforce the policy, of those that it is about."},
			"conditions":         conditions("True where it is so on every node."),
			"nodes": {
				Type: "array", ListType: "map", ListMapKeys: []string{"name"},
				Description: "The nodes with workloads that the policy selects, and those on which something is wrong with it; at most 100.",
				Items: &schema{Type: "object", Required: []string{"name"}, Properties: map[string]*schema{
					"name":               {Type: "string", MaxLength: 253},
					"observedGeneration": count("The version that the node has seen."),
					"workloads":          count("The workloads on the node that the policy selects."),
					"conditions":         conditions("Accepted: the parser understands the policy. Compiled: it can be in force beside the others. Enforced: it is."),
				}},
			},
		},
	}
}

// conditions makes the schema of a list of conditions, as Kubernetes has them.
func conditions(doc string) *schema {
	return &schema{
		Type: "array", ListType: "map", ListMapKeys: []string{"type"}, Description: doc,
		Items: &schema{
			Type: "object", Required: []string{"type", "status", "lastTransitionTime", "reason", "message"},
			Properties: map[string]*schema{
				"type": {Type: "string", MaxLength: 316}, "status": {Type: "string", Enum: []string{"True", "False", "Unknown"}},
				"observedGeneration": {Type: "integer"}, "lastTransitionTime": {Type: "string", Format: "date-time"},
				"reason": {Type: "string", MinLength: 1, MaxLength: 1024}, "message": {Type: "string", MaxLength: 32768},
			},
		},
	}
}
