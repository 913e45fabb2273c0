package node

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sallyport/sallyport/tests/node/kubernetes"
)

// cluster is a scene whose node is one of Kubernetes: pods are made by its API, and execs by kubectl.
type cluster struct {
	*scene
	*kubernetes.Cluster
}

// newCluster makes a cluster with the namespace shop. The agent, which is to follow its API, does not run yet.
func newCluster(t *testing.T, r release, configure ...func(*node)) *cluster {
	t.Helper()
	s := newScene(t, r, append(configure, func(n *node) { n.kubelet = true })...)
	leavesTheMachineAlone(t)
	c := &cluster{scene: s, Cluster: kubernetes.NewCluster(t, kubernetes.ClusterOptions{
		Net: s.net.Node, Node: s.net.NodeAddr, Mounts: s.mounts, Dir: s.dir, Containerd: s.socket(), Cgroup: s.name,
		Taints: s.taints,
	})}
	c.Namespace(t, "shop")
	s.agent.kube = fmt.Sprintf("enabled: always, kubeconfig: %s, nodeName: %s", c.Admin(), kubernetes.NodeName)
	return c
}

// manifest says which pod to make. Its containers run shell scripts.
type manifest struct {
	name   string
	labels string // YAML of a mapping; "": {app: web}
	spec   string // lines of the pod's spec beside its containers, indented by two
	main   string // script of its container main
	probes string // lines of that container, indented by four
	more   string // further containers, indented by two
}

// shell is a line of a container that runs a script.
func shell(script string) string { return fmt.Sprintf(`command: [sh, -c, %q]`, script) }

// yaml is the manifest's text.
func (m manifest) yaml() string {
	if m.labels == "" {
		m.labels = "{app: web}"
	}
	return fmt.Sprintf(`apiVersion: v1
kind: Pod
metadata: {name: %s, namespace: shop, labels: %s}
spec:
  terminationGracePeriodSeconds: 0
  automountServiceAccountToken: false
%s  containers:
  - name: main
    image: %s
    %s
%s%s---
`, m.name, m.labels, m.spec, boxImage, shell(m.main), m.probes, m.more)
}

// run makes pods and waits until they are ready.
func (c *cluster) run(t *testing.T, manifests ...manifest) {
	t.Helper()
	var text strings.Builder
	var names []string
	for _, m := range manifests {
		text.WriteString(m.yaml())
		names = append(names, m.name)
	}
	c.Apply(t, text.String())
	c.AwaitPods(t, "shop", names...)
}

// leavesTheMachineAlone checks at the end that no kubelet has changed what is the machine's.
func leavesTheMachineAlone(t *testing.T) {
	t.Helper()
	before := kubernetes.KernelParameters(t)
	t.Cleanup(func() {
		if diff := cmp.Diff(before, kubernetes.KernelParameters(t)); diff != "" {
			t.Errorf("the kubelet has changed parameters of the kernel (-before +after):\n%s", diff)
		}
	})
}
