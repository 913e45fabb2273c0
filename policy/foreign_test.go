package policy_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/policy"
)

// TestParseRefusesForeign: what of other's documents is not supported is an error with its place.
func TestParseRefusesForeign(t *testing.T) {
	t.Parallel()
	network := func(spec string) string {
		return "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: n}\nspec: {" + spec + "}\n"
	}
	cilium := func(spec string) string {
		return "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {name: c}\nspec: {" + spec + "}\n"
	}
	for name, tt := range map[string]struct{ text, want string }{
		"no selector":         {network("ingress: []"), "f.yaml:4:7: spec.podSelector: is missing"},
		"other type":          {network("podSelector: {}, policyTypes: [egress]"), `policyTypes[0]: "egress" is none of Ingress or Egress: did you mean Egress?`},
		"empty peer":          {network("podSelector: {}, ingress: [{from: [{}]}]"), "ingress[0].from[0]: is empty"},
		"block and selector":  {network("podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/8}, podSelector: {}}]}]"), "ingress[0].from[0]: a peer has ipBlock or selectors"},
		"range from a name":   {network("podSelector: {}, egress: [{ports: [{port: http, endPort: 9}]}]"), "endPort: endPort without the number of a port"},
		"range backwards":     {network("podSelector: {}, egress: [{ports: [{port: 10, endPort: 9}]}]"), "endPort 9 is below port 10"},
		"port 0":              {network("podSelector: {}, egress: [{ports: [{port: 0}]}]"), "0 is no port"},
		"protocol":            {network("podSelector: {}, egress: [{ports: [{protocol: ICMP}]}]"), `"ICMP" is none of TCP, UDP or SCTP`},
		"Cilium's field":      {network("podSelector: {}, egressDeny: []"), "spec.egressDeny: unknown field"},
		"other version":       {"apiVersion: extensions/v1beta1\nkind: NetworkPolicy\nmetadata: {name: n}\n", "is not the version of a NetworkPolicy: there is networking.k8s.io/v1"},
		"nodes":               {cilium("nodeSelector: {}, egress: [{}]"), "spec.nodeSelector: is not supported yet"},
		"no endpoints":        {cilium("egress: [{}]"), "spec.endpointSelector: is missing"},
		"no rules":            {cilium("endpointSelector: {}, egress: []"), "spec: has no rule"},
		"two kinds of peers":  {cilium("endpointSelector: {}, egress: [{toCIDR: [10.0.0.0/8], toEndpoints: [{}]}]"), "egress[0]: has toCIDR and toEndpoints, which cannot be combined"},
		"required":            {cilium("endpointSelector: {}, ingress: [{fromRequires: []}]"), "ingress[0].fromRequires: is not supported yet"},
		"denied by name":      {cilium("endpointSelector: {}, egressDeny: [{toFQDNs: [{matchName: a}]}]"), "egressDeny[0].toFQDNs: is not possible"},
		"denied inside":       {cilium("endpointSelector: {}, egressDeny: [{toPorts: [{ports: [{port: '53'}], rules: {dns: [{matchName: a}]}}]}]"), "egressDeny[0].toPorts[0].rules: is not possible"},
		"group":               {cilium("endpointSelector: {}, egress: [{toCIDRSet: [{cidrGroupRef: a}]}]"), "toCIDRSet[0].cidrGroupRef: is not supported yet"},
		"authentication":      {cilium("endpointSelector: {}, egress: [{toEntities: [all], authentication: {mode: required}}]"), "egress[0].authentication: is not supported yet"},
		"namespace of none":   {"apiVersion: cilium.io/v2\nkind: CiliumClusterwideNetworkPolicy\nmetadata: {name: c, namespace: a}\nspec: {endpointSelector: {}, egress: [{}]}\n", "metadata.namespace: is not for a policy of the cluster"},
		"list of something":   {"apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Pod}\n", `f.yaml:4:26: items[0].kind: "Pod" is no kind of policy`},
		"list in a list":      {"apiVersion: v1\nkind: List\nitems: [{apiVersion: v1, kind: List, items: []}]\n", "items[0]: a list inside of a list"},
		"list of other":       {"apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicyList\nitems:\n- " + `{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: a}, spec: {podSelector: {}}}`, "a NetworkPolicy in a CiliumNetworkPolicyList"},
		"twice in a list":     {"apiVersion: v1\nkind: List\nitems: [&a {apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: a}, spec: {podSelector: {}}}, *a]\n", `policy "NetworkPolicy:default/a" is there twice`},
		"error inside a list": {"apiVersion: v1\nkind: List\nitems: [{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: a}, spec: {podSelektor: {}}}]\n", "items[0].spec.podSelektor: unknown field: did you mean podSelector?"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			policies, err := policy.Parse("f.yaml", []byte(tt.text))
			if err == nil || policies != nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%q does not say %q", fmt.Sprint(err), tt.want)
			}
		})
	}
}
