package kubernetes

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/sallyport/sallyport/tests/testutil"
)

// NodeName is the name of a cluster's only node.
const NodeName = "node"

// ClusterOptions says where a cluster is.
type ClusterOptions struct {
	Net        *testutil.NetNS   // of the node
	Node       netip.Addr        // the node's address in it
	Mounts     *testutil.MountNS // of containerd, and with Sealed in it
	Dir        string            // for the kubelet's files
	Containerd string            // its socket
	Cgroup     string            // name of the cgroup that holds all pods; it is made, and whoever made the node removes it
	Taints     string            // of the node at its start, as a kubelet's registerWithTaints in YAML; "": none
	APIFlags   []string          // more flags of kube-apiserver
}

// Cluster is an API server, the controllers, the scheduler and a kubelet.
type Cluster struct {
	*API
	options     ClusterOptions
	controllers component
	scheduler   component
	kubelet     component
}

// sealed are the kernel parameters that a kubelet sets for the whole machine.
var sealed = []string{
	"kernel/keys/root_maxbytes", "kernel/keys/root_maxkeys", "kernel/panic", "kernel/panic_on_oops", "vm/overcommit_memory", "vm/panic_on_oom",
}

// Sealed is what has to lie over others in the mount namespace of a kubelet, over what, from where in dir: kernel
// parameters that it sets, which are the machine's, and folders of the machine that it writes to.
func Sealed(t testing.TB, dir string) map[string]string {
	t.Helper()
	over := map[string]string{}
	for name, value := range KernelParameters(t) {
		file := filepath.Join("/proc/sys", name)
		over[file] = filepath.Join(dir, "sysctl."+filepath.Base(name))
		if err := os.WriteFile(over[file], []byte(value), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, at := range []string{"/var/log", "/var/lib/kubelet"} {
		over[at] = filepath.Join(dir, strings.ReplaceAll(at[1:], "/", "-"))
		if err := os.Mkdir(over[at], 0o711); err != nil {
			t.Fatal(err)
		}
	}
	return over
}

// KernelParameters reads the parameters that a kubelet sets, as the machine has them, by their names below /proc/sys.
func KernelParameters(t testing.TB) map[string]string {
	t.Helper()
	values := map[string]string{}
	for _, name := range sealed {
		value, err := os.ReadFile(filepath.Join("/proc/sys", name))
		if err != nil {
			t.Fatal(err)
		}
		values[name] = string(value)
	}
	return values
}

// NewCluster starts a cluster and waits until its node is ready for pods, which takes some 5 s. Who calls it removes the
// pods at the end, through containerd, before the node's cgroup.
func NewCluster(t testing.TB, options ClusterOptions) *Cluster {
	t.Helper()
	address(t, options.Net)
	makeCgroups(t, options.Cgroup)
	if err := os.MkdirAll(filepath.Join(options.Dir, "manifests"), 0o700); err != nil {
		t.Fatal(err)
	}
	c := &Cluster{API: NewAPI(t, APIOptions{Net: options.Net, Node: options.Node, Flags: options.APIFlags}), options: options}
	c.controllers = c.component("kube-controller-manager", nil)
	c.scheduler = c.component("kube-scheduler", nil)
	c.kubelet = c.component("kubelet", options.Mounts)
	for _, part := range []*component{&c.controllers, &c.scheduler, &c.kubelet} { // the kubelet ends first
		t.Cleanup(func() { part.close(t, syscall.SIGTERM) })
	}
	c.pki.files(t, "kubelet", identity{user: "system:node:" + NodeName, groups: []string{"system:nodes"}, hosts: []string{NodeName, options.Node.String()}})
	c.Kubeconfig(t, "kubelet", "system:node:"+NodeName, "system:nodes")
	c.StartKubelet(t)
	c.control(t)
	c.AwaitNode(t)
	return c
}

func (c *Cluster) component(name string, mounts *testutil.MountNS) component {
	return component{name: name, log: c.path(name + ".log"), spec: testutil.DaemonSpec{NetNS: c.options.Net, Mounts: mounts}}
}

// address gives the node the address of the API server's service, which stands in for kube-proxy where that does not run.
func address(t testing.TB, ns *testutil.NetNS) {
	t.Helper()
	h := ns.Handle(t)
	lo, err := h.LinkByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	addr, err := netlink.ParseAddr(ServiceAddress + "/32")
	if err != nil {
		t.Fatal(err)
	}
	if err := h.AddrAdd(lo, addr); err != nil {
		t.Fatal("giving the node the API server's address: ", err)
	}
}

// makeCgroups makes the cgroup of all pods in every hierarchy, as a kubelet wants it.
func makeCgroups(t testing.TB, name string) {
	t.Helper()
	for _, hierarchy := range testutil.CgroupHierarchies(t) {
		dir := filepath.Join(hierarchy, name)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal("making the pods' cgroup: ", err)
		}
		for _, file := range []string{"cpuset.cpus", "cpuset.mems"} { // of version 1, where a new cgroup has none
			text, err := os.ReadFile(filepath.Join(hierarchy, file))
			if err == nil {
				err = os.WriteFile(filepath.Join(dir, file), text, 0o600)
			}
			if err != nil && !os.IsNotExist(err) {
				t.Fatal("preparing the pods' cgroup: ", err)
			}
		}
	}
}

// control starts the controllers and the scheduler.
func (c *Cluster) control(t testing.TB) {
	t.Helper()
	for part, user := range map[*component]string{&c.controllers: "system:kube-controller-manager", &c.scheduler: "system:kube-scheduler"} {
		config := c.Kubeconfig(t, part.name, user)
		args := []string{
			"--kubeconfig=" + config, "--authentication-kubeconfig=" + config, "--authorization-kubeconfig=" + config,
			"--leader-elect=false", "--bind-address=127.0.0.1", "--kube-api-qps=500", "--kube-api-burst=1000", "--cert-dir=" + c.path("certs"),
		}
		if part == &c.controllers {
			args = append(args, "--use-service-account-credentials=true", "--node-monitor-period=500ms",
				"--service-account-private-key-file="+c.path("sa.key"), "--root-ca-file="+c.path("ca.crt"))
		}
		part.start(t, Program(t, part.name), args...)
	}
}

// StartKubelet starts the kubelet, again after StopKubelet.
func (c *Cluster) StartKubelet(t testing.TB) {
	t.Helper()
	in := func(name string) string { return filepath.Join(c.options.Dir, name) }
	c.pki.write(t, "kubelet.yaml", fmt.Appendf(nil, `apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
failCgroupV1: false
cgroupDriver: cgroupfs
cgroupRoot: /%s
containerRuntimeEndpoint: unix://%s
authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: %s}}
authorization: {mode: Webhook}
tlsCertFile: %s
tlsPrivateKeyFile: %s
staticPodPath: %s
fileCheckFrequency: 1s
volumePluginDir: %s
podLogsDir: %s
failSwapOn: false
makeIPTablesUtilChains: false
oomScoreAdj: 0
maxOpenFiles: 20000
resolvConf: ""
clusterDNS: [10.96.0.10]
evictionHard: {memory.available: "100Mi"}
imageGCHighThresholdPercent: 100
nodeStatusUpdateFrequency: 5s
volumeStatsAggPeriod: -1s
kubeAPIQPS: 500
kubeAPIBurst: 1000
registerWithTaints: [%s]
`, c.options.Cgroup, c.options.Containerd, c.path("ca.crt"), c.path("kubelet.crt"), c.path("kubelet.key"),
		in("manifests"), in("plugins"), in("pods"), c.options.Taints))
	c.kubelet.start(t, Program(t, "kubelet"), "--config="+c.path("kubelet.yaml"), "--kubeconfig="+c.path("kubelet.kubeconfig"),
		"--root-dir="+in("root"), "--cert-dir="+c.path("certs"), "--hostname-override="+NodeName, "--node-ip="+c.options.Node.String())
}

// StopKubelet ends the kubelet by a signal. Pods go on.
func (c *Cluster) StopKubelet(t testing.TB, signal syscall.Signal) {
	t.Helper()
	if err := c.kubelet.daemon.Stop(signal); err != nil {
		t.Fatal("stopping the kubelet: ", err)
	}
}

// AwaitNode waits until the node is ready for pods.
func (c *Cluster) AwaitNode(t testing.TB) {
	t.Helper()
	c.kubelet.await(t, "the node is ready", func() error {
		var node struct {
			Spec   struct{ Taints []struct{ Key string } }
			Status struct {
				Conditions []struct{ Type, Status, Message string }
			}
		}
		if err := c.Get(t.Context(), "/api/v1/nodes/"+NodeName, &node); err != nil {
			return err
		}
		for _, condition := range node.Status.Conditions {
			if condition.Type == "Ready" && condition.Status != "True" {
				return fmt.Errorf("not ready: %s", condition.Message)
			}
		}
		for _, taint := range node.Spec.Taints {
			if strings.HasPrefix(taint.Key, "node.kubernetes.io/") {
				return fmt.Errorf("it has the taint %s", taint.Key)
			}
		}
		return c.Get(t.Context(), "/api/v1/namespaces/default/serviceaccounts/default", nil)
	})
}

// Static writes a static pod's manifest for the kubelet to find.
func (c *Cluster) Static(t testing.TB, name, manifest string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(c.options.Dir, "manifests", name+".yaml"), []byte(manifest), 0o600); err != nil {
		t.Fatal(err)
	}
}

// Namespace makes a namespace and waits until pods can be made in it.
func (c *Cluster) Namespace(t testing.TB, name string) {
	t.Helper()
	c.Apply(t, "apiVersion: v1\nkind: Namespace\nmetadata: {name: "+name+"}\n")
	testutil.Eventually(t, "pods can be made in namespace "+name, func() error {
		return c.Get(t.Context(), "/api/v1/namespaces/"+name+"/serviceaccounts/default", nil)
	})
}

// AwaitPods waits until pods of a namespace are ready.
func (c *Cluster) AwaitPods(t testing.TB, namespace string, names ...string) {
	t.Helper()
	testutil.Eventually(t, fmt.Sprintf("pods %v are ready", names), func() error {
		var list struct {
			Items []struct {
				Metadata struct{ Name string }
				Status   struct {
					Phase      string
					Conditions []struct{ Type, Status, Message string }
				}
			}
		}
		if err := c.Get(t.Context(), "/api/v1/namespaces/"+namespace+"/pods", &list); err != nil {
			return err
		}
		ready := 0
		for _, pod := range list.Items {
			for _, condition := range pod.Status.Conditions {
				if condition.Type != "Ready" || !slices.Contains(names, pod.Metadata.Name) {
					continue
				}
				if condition.Status != "True" {
					return fmt.Errorf("%s is %s: %s", pod.Metadata.Name, pod.Status.Phase, condition.Message)
				}
				ready++
			}
		}
		if ready != len(names) {
			return fmt.Errorf("%d of them have run", ready)
		}
		return nil
	})
}
