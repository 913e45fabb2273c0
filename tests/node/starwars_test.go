package node

import (
	"fmt"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/tests/testutil"
)

// empireOnly is the L3/L4 policy of Cilium's getting-started guide, unchanged.
const empireOnly = `apiVersion: "cilium.io/v2"
kind: CiliumNetworkPolicy
metadata:
  name: "rule1"
spec:
  description: "L3-L4 policy to restrict deathstar access to empire ships only"
  endpointSelector:
    matchLabels:
      org: empire
      class: deathstar
  ingress:
  - fromEndpoints:
    - matchLabels:
        org: empire
    toPorts:
    - ports:
      - port: "80"
        protocol: TCP
`

// TestStarWars lets the empire's ship land on the deathstar, and the alliance's not.
func TestStarWars(t *testing.T) {
	c := newCluster(t, current)
	c.agent.policy(t, "rule1.yaml", empireOnly)
	c.agent.start(t)
	ships := []manifest{
		{name: "deathstar", labels: "{org: empire, class: deathstar}", main: "exec httpd -f -p 80"},
		{name: "tiefighter", labels: "{org: empire, class: tiefighter}", main: "sleep 1000"},
		{name: "xwing", labels: "{org: alliance, class: xwing}", main: "sleep 1000"},
	}
	var text strings.Builder
	for _, ship := range ships {
		text.WriteString(strings.ReplaceAll(ship.yaml(), "namespace: shop", "namespace: default"))
	}
	c.Apply(t, text.String())
	c.AwaitPods(t, "default", "deathstar", "tiefighter", "xwing")
	address := c.Must(t, "get", "pod", "deathstar", "-o", "jsonpath={.status.podIP}")
	land := func(ship string) string {
		out := c.Must(t, "exec", ship, "--", "sh", "-c", fmt.Sprintf("victim -- connect-tcp %s 80 %d || true", address, tryMS))
		return strings.TrimSpace(out)
	}
	testutil.Eventually(t, "the empire may land", func() error {
		if out := land("tiefighter"); out != "connect-tcp: ok" {
			return fmt.Errorf("it got %q", out)
		}
		return nil
	})
	for range 5 {
		if out := land("xwing"); out != "connect-tcp: ETIMEDOUT" {
			t.Errorf("the alliance's ship got %q, want ETIMEDOUT", out)
		}
		want(t, "the empire's ship", land("tiefighter"), "ok")
	}
	c.noLosses(t)
}
