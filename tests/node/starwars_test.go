package node

import (
	"fmt"
	"strings"
	"sync"
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
	c.agent.Policy(t, "rule1.yaml", empireOnly)
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
	land := func(ship, result string) error {
		r, err := c.Kubectl(t, "", "exec", ship, "--", "sh", "-c", fmt.Sprintf("victim -- connect-tcp %s 80 %d || true", address, tryMS))
		return expect(r.Stdout, err, result)
	}
	testutil.Eventually(t, "the empire may land", func() error { return land("tiefighter", "ok") })
	var all sync.WaitGroup // who gets no answer waits for it
	for range 5 {
		for ship, result := range map[string]string{"tiefighter": "ok", "xwing": "ETIMEDOUT"} {
			all.Go(func() {
				if err := land(ship, result); err != nil {
					t.Errorf("the %s lands: %v", ship, err)
				}
			})
		}
	}
	all.Wait()
	c.noLosses(t)
}
