package policies

import (
	"fmt"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/tests/node/kubernetes"
	"github.com/sallyport/sallyport/tests/testutil"
)

const startupTaint = "sallyport.dev/not-ready"

// taint puts the startup taint, twice, and one of somebody else's on the node.
func taint(t *testing.T, api *kubernetes.API) {
	t.Helper()
	api.Must(t, "taint", "nodes", "node-1", "--overwrite", "other=x:NoSchedule", startupTaint+"=:NoSchedule", startupTaint+"=:NoExecute")
}

// taints lists the node's.
func taints(t *testing.T, api *kubernetes.API) string {
	t.Helper()
	return api.Must(t, "get", "node", "node-1", "-o", `jsonpath={range .spec.taints[*]}{.key}:{.effect} {end}`)
}

// TestStartupTaint lets the agent, with the rights of the chart, remove the startup taint of its node, also when it comes
// again, and nothing else of the node.
func TestStartupTaint(t *testing.T) {
	api := newAPI(t)
	api.Apply(t, kubernetes.Manifests(t, "--set", "startupTaint="+startupTaint))
	api.Apply(t, "apiVersion: v1\nkind: Node\nmetadata: {name: node-2}\n")
	api.Must(t, "taint", "nodes", "node-2", startupTaint+"=:NoSchedule")
	taint(t, api)
	newAgent(t, api.Kubeconfig(t, "agent", agentUser), "startupTaint: "+startupTaint)
	removed := func() error {
		if got := taints(t, api); strings.Contains(got, startupTaint) || !strings.Contains(got, "other:NoSchedule ") {
			return fmt.Errorf("the node has %s", got)
		}
		return nil
	}
	testutil.Eventually(t, "the startup taint is removed", removed)
	taint(t, api)
	testutil.Eventually(t, "it is removed again", removed)
	if got := api.Must(t, "get", "node", "node-2", "-o", "jsonpath={.spec.taints[*].key}"); !strings.Contains(got, startupTaint) {
		t.Errorf("another node has %q", got)
	}
}

// TestStartupTaintStays checks that the taint stays without the right to remove it, which the chart gives only who asks
// for it, and that this is told.
func TestStartupTaintStays(t *testing.T) {
	api := newAPI(t)
	taint(t, api)
	a := newAgent(t, api.Kubeconfig(t, "agent", agentUser), "startupTaint: "+startupTaint)
	testutil.Eventually(t, "the agent tells it", func() error {
		if log := a.log(t); !strings.Contains(log, "startup taint stays") {
			return fmt.Errorf("its log is %s", log)
		}
		return nil
	})
	if got := taints(t, api); strings.Count(got, startupTaint) != 2 {
		t.Errorf("the node has %s", got)
	}
}
