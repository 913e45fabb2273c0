package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sallyport/sallyport/tests/node/kubernetes"
	"github.com/sallyport/sallyport/tests/testutil"
	"github.com/sallyport/sallyport/tests/testutil/inventory"
	"github.com/sallyport/sallyport/tests/testutil/program"
)

// agentImage is the image that the chart is told to run.
const agentImage = "test.local/sallyport:1"

// startupTaint keeps pods away until the agent enforces.
const startupTaint = "sallyport.dev/not-ready"

// brokenPolicy passes the schema, and no parser.
const brokenPolicy = `apiVersion: sallyport.dev/v1alpha1
kind: ProcessPolicy
metadata: {name: broken, namespace: shop}
spec:
  podSelector: {}
  rules:
  - name: names
    egress: [{toFQDNs: [{matchPattern: "a.***.example"}]}]
`

// install installs the chart with the webhook and more values, or another configuration of it, and waits until the agent
// enforces.
func (c *cluster) install(t *testing.T, more map[string]any) {
	t.Helper()
	values := map[string]any{
		"image":        map[string]string{"repository": "test.local/sallyport", "tag": "1", "pullPolicy": "Never"},
		"pauseImage":   pauseImage,
		"host":         map[string]string{"bpffs": c.path("bpf"), "containerd": c.dir, "nri": c.dir, "run": c.path("sallyport")},
		"webhook":      map[string]any{"enabled": true, "replicas": 1},
		"startupTaint": startupTaint,
	}
	maps.Copy(values, more)
	text, err := json.Marshal(values)
	if err != nil {
		t.Fatal(err)
	}
	c.write(t, "values.json", string(text))
	c.Helm(t, "upgrade", "--install", "sallyport", kubernetes.Chart(t), "--namespace", "sallyport", "--values", c.path("values.json"))
	c.Must(t, "-n", "sallyport", "rollout", "status", "daemonset/sallyport", "--timeout=60s")
}

// TestChart runs the agent and the webhook as the chart installs them, with a policy of kubectl apply; replaces the agent
// under traffic, and takes everything out again.
func TestChart(t *testing.T) {
	forEach(t, func(t *testing.T, r release) {
		c := newCluster(t, r, func(n *node) { n.taints = "{key: " + startupTaint + ", effect: NoSchedule}" })
		if taints := c.Must(t, "get", "node", kubernetes.NodeName, "-o", "jsonpath={.spec.taints}"); !strings.Contains(taints, startupTaint) {
			t.Errorf("before the agent the node has the taints %q", taints)
		}
		c.dockerfile(t)
		c.Namespace(t, "sallyport")
		at := inventory.Place{NetNS: c.net.Node, Cgroup: c.name, Pins: c.path("bpf")}
		before := inventory.Take(t, at)
		c.install(t, nil)
		c.Apply(t, c.webPolicy())
		// It tolerates nothing: that it runs says that the agent has removed the node's taint.
		// Nobody calls before containers start here on containerd 1.6: what is forbidden waits until the pod is governed.
		c.run(t, manifest{name: "web", main: "until test -e /tmp/go; do sleep 0.1; done; (" + c.knock(forbiddenPort) + " | sed 's/^/forbidden-/') & " +
			c.knock(testutil.EchoPort)})
		testutil.Eventually(t, "the pod is governed", func() error { return c.execGets(t, "EPERM") })
		c.Must(t, "-n", "shop", "exec", "web", "--", "touch", "/tmp/go")
		main := func() string { return c.Must(t, "-n", "shop", "logs", "web") }
		more(t, "the main program is allowed", main, "connect-tcp: ok", 3)
		denied := func(when string) {
			t.Helper()
			if err := c.execGets(t, "EPERM"); err != nil {
				t.Errorf("an exec %s: %v", when, err)
			}
		}
		denied("under the chart's agent")
		c.plugin(t)
		c.policyInTheAPI(t)
		c.asked(t)
		c.install(t, map[string]any{"config": map[string]any{"log": map[string]string{"level": "debug"}, "alerts": map[string]any{"jsonl": map[string]string{"path": "-"}}}})
		denied("under its successor")
		more(t, "the main program goes on", main, "connect-tcp: ok", 3)
		onlyOK(t, "the main program, over the roll-out", main(), "ok")
		if n := count(main(), "forbidden-connect-tcp: ") - count(main(), "forbidden-connect-tcp: EPERM"); n > 0 {
			t.Errorf("%d forbidden connections were not denied", n)
		}
		c.forbidden.ExpectNone(t)

		c.uninstall(t, at, before)
	})
}

// dockerfile makes the agent's image as its Dockerfile says, of programs that are built already, and imports it.
func (c *cluster) dockerfile(t *testing.T) {
	t.Helper()
	programs := t.TempDir()
	for name, path := range map[string]string{"sallyport": program.Binary(t), "sallyport-hook": program.Hook(t)} {
		text, err := os.ReadFile(path)
		if err == nil {
			err = os.WriteFile(filepath.Join(programs, name), text, 0o755)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	dockerfile, err := filepath.Abs("../../contrib/image/Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	c.load(t, testutil.NewPodman(t, "runc", false).Build(t, dockerfile, agentImage, map[string]string{"build": programs}), agentImage)
}

// uninstall takes everything out as the README says: out of the kernel first, and then out of the API.
func (c *cluster) uninstall(t *testing.T, at inventory.Place, before inventory.Inventory) {
	t.Helper()
	if here := inventory.Take(t, at).But(before); !here.Has("program", "gate_") || !here.Has("link", "") || !here.Has("pin", "") {
		t.Errorf("the chart's agent has put too little into the kernel for this test:\n%s", here)
	}
	c.install(t, map[string]any{"cleanup": true})
	left, err := os.ReadDir(filepath.Join(c.path("bpf"), "sallyport"))
	if err == nil || !errors.Is(err, os.ErrNotExist) {
		t.Errorf("after the clean-up there is %v: %v", left, err)
	}
	if err := c.execGets(t, "ok"); err != nil {
		t.Error("an exec without Sallyport: ", err)
	}
	if out := c.Must(t, "get", "validatingwebhookconfigurations", "-o", "name"); out != "" {
		t.Errorf("after the clean-up the API asks %s", out)
	}
	c.Helm(t, "uninstall", "sallyport", "--namespace", "sallyport", "--wait", "--timeout", "60s")
	const kinds = "daemonsets,deployments,pods,services,configmaps,secrets,serviceaccounts,roles,rolebindings,clusterroles,clusterrolebindings,priorityclasses"
	testutil.Eventually(t, "helm uninstall leaves nothing in the API", func() error { // the kubelet lets containers end
		if out := c.Must(t, "get", kinds, "--all-namespaces", "-o", "name", "--selector", "app.kubernetes.io/instance=sallyport"); out != "" {
			return fmt.Errorf("there is\n%s", out)
		}
		return nil
	})
	c.Must(t, "-n", "shop", "delete", "pod", "web", "--now")
	inventory.AwaitGone(t, at, before)
}

// execGets executes a program in the pod web that connects to what its main program may reach, and checks what it gets.
func (c *cluster) execGets(t *testing.T, result string) error {
	t.Helper()
	out, err := c.kubectl(t, append([]string{"exec", "web", "--"}, strings.Fields(c.connect(testutil.EchoPort))...)...)
	return expect(out, err, result)
}

// policyInTheAPI waits until kubectl get says that the policy web is in force for one workload.
func (c *cluster) policyInTheAPI(t *testing.T) {
	t.Helper()
	row := regexp.MustCompile(`(?m)^web +True +True +1 .* True +1/1 +Enforcing `)
	testutil.Eventually(t, "kubectl get shows the policy in force", func() error {
		if out := c.Must(t, "-n", "shop", "get", "processpolicies", "-o", "wide"); !row.MatchString(out) {
			return fmt.Errorf("it is\n%s", out)
		}
		return nil
	})
}

// asked waits until the API asks the webhook: wrong policies are refused, with the field named, and the report has the
// user of a session.
func (c *cluster) asked(t *testing.T) {
	t.Helper()
	c.Must(t, "-n", "sallyport", "rollout", "status", "deployment/sallyport-webhook", "--timeout=60s")
	testutil.Eventually(t, "a wrong policy is refused", func() error {
		r, err := c.Kubectl(t, brokenPolicy, "apply", "-f", "-")
		if err == nil && r.Code == 0 { // what is there is not sent again
			c.Must(t, "-n", "shop", "delete", "processpolicy", "broken")
		}
		if err == nil && (r.Code == 0 || !strings.Contains(r.Stderr, "broken: spec.rules[0].egress[0].toFQDNs[0].matchPattern: ")) {
			err = fmt.Errorf("exit code %d: %s", r.Code, r.Stderr)
		}
		return err
	})
	testutil.Eventually(t, "the report has the user of a session", func() error {
		if err := c.execGets(t, "EPERM"); err != nil {
			return err
		}
		events := program.Events[event](t, c.plugged(t, "observe", "--verdict", "Deny", "--origin", "Exec", "-o", "json"))
		if !slices.ContainsFunc(events, func(e event) bool { return e.User == "admin" }) {
			return fmt.Errorf("none of %+v", events)
		}
		return nil
	})
}

// plugin asks the agent by kubectl's plugin.
func (c *cluster) plugin(t *testing.T) {
	t.Helper()
	if out := c.plugged(t, "status", "--node", kubernetes.NodeName); !strings.Contains(out, "NODE "+kubernetes.NodeName) || !strings.Contains(out, "shop/web") {
		t.Errorf("kubectl sallyport status wrote %q", out)
	}
	if out := c.plugged(t, "observe", "--verdict", "Deny", "--origin", "Exec", "-o", "json"); len(program.Events[event](t, out)) == 0 {
		t.Error("kubectl sallyport observe tells no denial")
	}
	if r, err := c.Plugin(t, "../../contrib/kubectl/kubectl-sallyport", "status", "--node", "none"); err != nil || r.Code != 1 {
		t.Errorf("kubectl sallyport about a node that is not there: %v, %+v", err, r)
	}
}

// plugged is what the plugin wrote, which must end well.
func (c *cluster) plugged(t *testing.T, args ...string) string {
	t.Helper()
	r, err := c.Plugin(t, "../../contrib/kubectl/kubectl-sallyport", args...)
	if err != nil || r.Code != 0 {
		t.Fatalf("kubectl sallyport %v: %v, %+v", args, err, r)
	}
	return r.Stdout
}

// TestChartIsSound lints the chart, and compares the plain manifests with what it makes.
func TestChartIsSound(t *testing.T) {
	if out := kubernetes.Helm(t, "lint", "--strict", kubernetes.Chart(t), "--set", "webhook.enabled=true"); !strings.Contains(out, "0 chart(s) failed") {
		t.Errorf("helm lint says %s", out)
	}
	rendered := kubernetes.Manifests(t)
	for _, forbidden := range []string{"privileged: true", "SYS_MODULE", "SYS_RESOURCE", "resources: [secrets", "create"} {
		if strings.Contains(rendered, forbidden) {
			t.Errorf("the manifests have %s", forbidden)
		}
	}
	plain, err := os.ReadFile("../../contrib/manifests/sallyport.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(rendered, string(plain)); diff != "" {
		t.Errorf("contrib/manifests is not what the chart makes; run make manifests (-chart +file):\n%s", diff)
	}
}
