package node

import (
	"fmt"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/tests/testutil"
)

// kindsPolicy gives each kind of container a verdict of its own: App may call the server, Init the one of probes, Sidecar
// both, Ephemeral none.
func (s *scene) kindsPolicy() string {
	rule := func(kind string, ports ...int) string {
		var list []string
		for _, port := range ports {
			list = append(list, fmt.Sprintf("{port: %q, protocol: TCP}", fmt.Sprint(port)))
		}
		return fmt.Sprintf("  - name: %s\n    processes: [{origins: [Main], containerTypes: [%s]}]\n    egress: [{toCIDR: [%s/32], toPorts: [{ports: [%s]}]}]\n",
			strings.ToLower(kind), kind, s.net.ServerAddr, strings.Join(list, ", "))
	}
	return `apiVersion: sallyport.dev/v1alpha1
kind: ProcessPolicy
metadata: {name: kinds, namespace: shop}
spec:
  podSelector: {matchLabels: {app: web}}
  rules:
` + rule("App", testutil.EchoPort) + rule("Init", probePort) + rule("Sidecar", testutil.EchoPort, probePort) + `  - name: ephemeral
    processes: [{containerTypes: [Ephemeral]}]
    action: Deny
  - name: others
    processes: [{origins: [Exec, Host, Unknown]}]
    action: Deny
`
}

// both is a script that connects to the server and to that of probes, once each.
func (s *scene) both() string { return s.connect(testutil.EchoPort) + "; " + s.connect(probePort) }

// TestKindsOfPods has one pod of each kind that Kubernetes knows, made through its API or by the kubelet itself.
func TestKindsOfPods(t *testing.T) {
	c := newCluster(t, current)
	c.agent.Policy(t, "kinds.yaml", c.kindsPolicy())
	c.agent.start(t)
	again := "while :; do " + c.both() + "; sleep 0.2; done"
	container := func(name, script, more string) string {
		return fmt.Sprintf("  - name: %s\n    image: %s\n    %s\n%s", name, boxImage, shell(script), more)
	}
	inits := "  initContainers:\n" + container("init", c.both(), "") + container("sidecar", again, "    restartPolicy: Always\n")
	static := manifest{name: "static", main: again}.yaml()
	c.Static(t, "static", strings.TrimSuffix(static, "---\n"))
	c.run(t,
		manifest{name: "kinds", main: again, spec: inits},
		manifest{name: "shared", main: again, spec: "  shareProcessNamespace: true\n", more: container("other", again, "")},
		manifest{name: "hostnet", main: again, spec: "  hostNetwork: true\n"},
		manifest{name: "hostpid", main: again, spec: "  hostPID: true\n"},
	)
	c.AwaitPods(t, "shop", "static-node")
	c.Must(t, "-n", "shop", "debug", "kinds", "--attach=false", "--image="+boxImage, "--container=debug", "--target=main", "--", "sh", "-c", c.both())

	c.outcomes(t, "kinds", "init", "EPERM", "ok")
	c.outcomes(t, "kinds", "sidecar", "ok", "ok")
	c.outcomes(t, "kinds", "debug", "EPERM", "EPERM")
	for _, at := range []string{"kinds main", "shared main", "shared other", "hostnet main", "hostpid main", "static-node main"} {
		pod, name, _ := strings.Cut(at, " ")
		c.outcomes(t, pod, name, "ok", "EPERM")
		out, err := c.kubectl(t, append([]string{"exec", pod, "-c", name, "--"}, strings.Fields(c.connect(testutil.EchoPort))...)...)
		if err := expect(out, err, "EPERM"); err != nil {
			t.Errorf("an exec into %s: %v", at, err)
		}
	}
	if out := c.onNode(t, c.pidOf(t, c.idOf(t, "kinds", "main"))); out != "connect-tcp: EPERM\n" {
		t.Errorf("a process of the node in a pod's network got %q, want EPERM", out)
	}
	c.noLosses(t)
}

// outcomes checks what became of a container's connections to the server and to that of probes, which take turns.
func (c *cluster) outcomes(t *testing.T, pod, container, server, probes string) {
	t.Helper()
	var out string
	testutil.Eventually(t, container+" of "+pod+" has tried", func() (err error) {
		if out, err = c.kubectl(t, "logs", pod, "-c", container); err == nil && count(out, "connect-tcp:") < 2 {
			err = fmt.Errorf("it wrote %q", out)
		}
		return err
	})
	want := []string{"connect-tcp: " + server + "\n", "connect-tcp: " + probes + "\n"}
	i := 0
	for line := range strings.Lines(out) {
		if line != want[i%2] {
			t.Errorf("attempt %d of %s of %s was %q, want %q", i, container, pod, line, want[i%2])
			return
		}
		i++
	}
}

// idOf is the id of a pod's container.
func (c *cluster) idOf(t *testing.T, pod, name string) string {
	t.Helper()
	path := fmt.Sprintf(`jsonpath={.status.containerStatuses[?(@.name==%q)].containerID}`, name)
	return strings.TrimPrefix(c.Must(t, "-n", "shop", "get", "pod", pod, "-o", path), "containerd://")
}
