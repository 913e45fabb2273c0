package daemon

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/sirupsen/logrus/hooks/test"

	"github.com/sallyport/sallyport/agent/internal/config"
	"github.com/sallyport/sallyport/agent/internal/correlate"
	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/policy/compile"
	"github.com/sallyport/sallyport/probes/event"
	"github.com/sallyport/sallyport/runtime/identity"
	"github.com/sallyport/sallyport/tests/testutil"
	"github.com/sallyport/sallyport/tests/testutil/fakeapi"
)

const (
	apiPods     = "/api/v1/pods"
	apiServices = "/api/v1/services"
	apiSlices   = "/apis/discovery.k8s.io/v1/endpointslices"
)

// follow follows a fake API as node-1 until the test ends.
func follow(t *testing.T, api *fakeapi.Server, tell func(event.Event)) *cluster {
	t.Helper()
	path := filepath.Join(t.TempDir(), "kubeconfig")
	if err := os.WriteFile(path, []byte(api.Kubeconfig()), 0o600); err != nil {
		t.Fatal(err)
	}
	log, _ := test.NewNullLogger()
	a := &agent{log: log}
	a.cfg.Kube = config.Kube{Enabled: config.PresenceAuto, Kubeconfig: path, NodeName: "node-1", StaleAfter: 50 * time.Millisecond}
	c, err := newCluster(a)
	if err != nil {
		t.Fatal(err)
	}
	c.tell, c.reloaded = tell, func(error) {}
	ended := make(chan error)
	go func() { ended <- c.run(t.Context()) }()
	t.Cleanup(func() {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return c
}

// until looks at the cluster until it is as wanted.
func (c *cluster) until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	testutil.Eventually(t, what, func() error {
		select {
		case <-c.news():
			c.refresh()
			c.done()
		default:
		}
		if !c.synced() || !ok() {
			return fmt.Errorf("it is %+v", c.world)
		}
		return nil
	})
}

// fill makes a small cluster: a web server behind a service, and the API itself.
func fill(t *testing.T, api *fakeapi.Server) {
	t.Helper()
	api.Put(t, "/api/v1/namespaces", `{"metadata":{"name":"shop","labels":{"team":"a"}}}`)
	api.Put(t, apiPods, `{"metadata":{"namespace":"shop","name":"web","uid":"u1","labels":{"app":"web"}},
	 "spec":{"nodeName":"node-2","containers":[{"name":"web","ports":[{"name":"http","containerPort":8080,"protocol":"TCP"}]}]},
	 "status":{"podIPs":[{"ip":"10.1.0.5"}]}}`)
	api.Put(t, apiPods, `{"metadata":{"namespace":"shop","name":"client","uid":"u2","labels":{"app":"client"}},
	 "spec":{"nodeName":"node-1","serviceAccountName":"buyer","initContainers":[{"name":"setup"}],
	  "containers":[{"name":"app","readinessProbe":{"exec":{"command":["/bin/ready"]}}}]},"status":{"podIPs":[{"ip":"10.1.1.5"}]}}`)
	api.Put(t, apiServices, `{"metadata":{"namespace":"shop","name":"web","labels":{"tier":"front"}},"spec":{"clusterIPs":["10.96.0.5"],"ports":[{"name":"http","port":80}]}}`)
	api.Put(t, apiSlices, `{"metadata":{"namespace":"shop","name":"web","labels":{"kubernetes.io/service-name":"web"}},"addressType":"IPv4",
	 "ports":[{"name":"http","port":8080,"protocol":"TCP"}],"endpoints":[{"addresses":["10.1.0.5"]}]}`)
	api.Put(t, apiServices, `{"metadata":{"namespace":"default","name":"kubernetes"},"spec":{"clusterIPs":["10.96.0.1"],"ports":[{"name":"https","port":443}]}}`)
	api.Put(t, apiSlices, `{"metadata":{"namespace":"default","name":"kubernetes","labels":{"kubernetes.io/service-name":"kubernetes"}},"addressType":"IPv4",
	 "ports":[{"name":"https","port":6443,"protocol":"TCP"}],"endpoints":[{"addresses":["192.0.2.10"]}]}`)
	api.Put(t, "/api/v1/nodes", `{"metadata":{"name":"node-1"},"spec":{"podCIDRs":["10.1.1.0/24"]},"status":{"addresses":[{"type":"InternalIP","address":"192.0.2.1"}]}}`)
	api.Put(t, "/api/v1/nodes", `{"metadata":{"name":"node-2","annotations":{"network.cilium.io/ipv4-health-ip":"10.1.0.99"}},"spec":{"podCIDRs":["10.1.0.0/24"]},"status":{"addresses":[{"type":"InternalIP","address":"192.0.2.2"}]}}`)
}

func (c *cluster) filled() bool {
	return len(c.world.Endpoints) == 2 && len(c.world.Services) == 2 && len(c.world.RemoteNodes) == 1 && len(c.own) == 1 &&
		len(c.world.Services[0].Ports[0].Backends) == 1 && len(c.world.Services[1].Ports[0].Backends) == 1 && c.world.Namespaces["shop"] != nil
}

// client is the container app of the pod client, as its runtime describes it.
func client() identity.Container {
	c := container("app", 7)
	c.Namespace, c.Name = "k8s.io", "app"
	c.Pod = identity.Pod{Namespace: "shop", Name: "client", UID: "u2"}
	return c
}

// TestPoliciesKnowTheCluster has each kind of peer that only the API can tell, by every address that leads there.
func TestPoliciesKnowTheCluster(t *testing.T) {
	t.Parallel()
	api := fakeapi.New(t)
	fill(t, api)
	cluster := follow(t, api, func(event.Event) {})
	cluster.until(t, "a cluster", cluster.filled)
	const pod, service, server, apiAddress, remote, own, health, other = "10.1.0.5:8080", "10.96.0.5:80", "192.0.2.10:6443", "10.96.0.1:443",
		"192.0.2.2:22", "192.0.2.1:22", "10.1.0.99:4240", "10.1.1.77:1"
	for _, tc := range []struct {
		name, egress string
		allowed      []string
	}{
		{"pods by label", `toEndpoints: [{matchLabels: {app: web}}]`, []string{pod, service}},
		{"pods of a namespace by its labels", `toEndpoints: [{matchLabels: {io.cilium.k8s.namespace.labels.team: a}}]`, []string{pod, service}},
		{"a service by its name", `toServices: [{k8sService: {serviceName: web, namespace: shop}}]`, []string{pod, service}},
		{"services by label", `toServices: [{k8sServiceSelector: {selector: {matchLabels: {tier: front}}}}]`, []string{pod, service}},
		{"pods at a port by its name", `{toEndpoints: [{matchLabels: {app: web}}], toPorts: [{ports: [{port: http}]}]}`, []string{pod, service}},
		{"the API", `toEntities: [kube-apiserver]`, []string{server, apiAddress}},
		{"other nodes", `toEntities: [remote-node]`, []string{remote}},
		{"this node", `toEntities: [host]`, []string{own}},
		{"health checks", `toEntities: [health]`, []string{health}},
		{"the cluster", `toEntities: [cluster]`, []string{pod, service, remote, own, health, other}},
		{"the world", `toEntities: [world]`, []string{server, apiAddress}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			egress := tc.egress
			if !strings.HasPrefix(egress, "{") {
				egress = "{" + egress + "}"
			}
			policies, err := policy.Parse("p.yaml", []byte(`{apiVersion: sallyport.dev/v1alpha1, kind: ClusterProcessPolicy, metadata: {name: p},
			 spec: {podSelector: {}, namespaceSelector: {matchLabels: {team: a}}, serviceAccounts: [shop/buyer], rules: [{name: r, egress: [`+egress+`]}]}}`))
			if err != nil {
				t.Fatal(err)
			}
			c := client()
			w := workloadOf(7, &c, cluster)
			tables, err := compile.Enforced{World: true}.Compile(compile.Input{
				Policies: policies, Workloads: []compile.Workload{w}, Node: compile.Node{Addresses: cluster.nodeAddresses()}, World: cluster.known(),
			})
			if err != nil {
				t.Fatal(err)
			}
			for _, to := range []string{pod, service, server, apiAddress, remote, own, health, other} {
				peer := netip.MustParseAddrPort(to)
				d := tables.Judge(policy.Process{Workload: w, Exe: "/bin/x", Origin: policy.OriginMain}, policy.Call{Protocol: 6, Peer: peer.Addr(), Port: peer.Port()})
				if got, want := d.Verdict == 1, slices.Contains(tc.allowed, to); got != want || d.Reason == 3 {
					t.Errorf("%s: allowed %t, want %t, for reason %d", to, got, want, d.Reason)
				}
			}
		})
	}
}

func TestContainersGetWhatTheAPISaysOfTheirPod(t *testing.T) {
	t.Parallel()
	api := fakeapi.New(t)
	fill(t, api)
	cluster := follow(t, api, func(event.Event) {})
	w := newWorkloads(&agent{registry: correlate.New(correlate.Config{})})
	c := client()
	if cluster.knows(&c) {
		t.Error("a pod is known before the API was heard")
	}
	w.put(c)
	cluster.until(t, "a cluster", cluster.filled)
	w.describeAll(cluster)
	g := w.byCgroup[7]
	if diff := cmp.Diff([][]string{{"/bin/ready"}}, g.container.Probes); diff != "" || !cluster.knows(&c) {
		t.Errorf("probes (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(map[string]string{"app": "client"}, g.container.Labels); diff != "" {
		t.Errorf("labels (-want +got):\n%s", diff)
	}
	g.applied = true
	w.describeAll(cluster)
	if !g.applied {
		t.Error("news that is none makes a container wait for its policies")
	}
	api.Put(t, apiPods, `{"metadata":{"namespace":"shop","name":"client","uid":"u2","labels":{"app":"other"}},"spec":{"nodeName":"node-1"},"status":{"podIPs":[{"ip":"10.1.1.5"}]}}`)
	cluster.until(t, "other labels", func() bool { return cluster.local["u2"].Labels["app"] == "other" })
	w.describeAll(cluster)
	if g.container.Labels["app"] != "other" || g.applied {
		t.Errorf("labels that changed: %v, applied %t", g.container.Labels, g.applied)
	}
	stranger := client()
	stranger.Pod.Name = "web"
	if cluster.knows(&stranger) {
		t.Error("a container with the uid of another pod is taken for that pod's")
	}
}

func TestAnAPIThatIsAwayForLongIsTold(t *testing.T) {
	t.Parallel()
	api := fakeapi.New(t)
	fill(t, api)
	told := make(chan event.Event, 8)
	cluster := follow(t, api, func(e event.Event) { told <- e })
	cluster.until(t, "a cluster", cluster.filled)
	api.Away(true)
	if e := <-told; e.Kind != event.KindStale || !e.Removed || e.Site == "" {
		t.Errorf("told is %+v", e)
	}
	if age, on := cluster.age(); !on || age == 0 {
		t.Errorf("the age is %s", age)
	}
	if state, detail := cluster.status(); state != "away" || !strings.Contains(detail, "away since") {
		t.Errorf("status says %s, %s", state, detail)
	}
	cluster.until(t, "what was known", cluster.filled)
	api.Away(false)
	if e := <-told; e.Kind != event.KindStale || e.Removed {
		t.Errorf("told is %+v", e)
	}
	if state, _ := cluster.status(); state != "connected" {
		t.Errorf("status says %s", state)
	}
}

func TestNoClusterIsNoReasonToWait(t *testing.T) {
	t.Parallel()
	a := &agent{}
	a.cfg.Kube.Enabled = config.PresenceAuto
	cluster, err := newCluster(a)
	c := client()
	if err != nil || cluster != nil || !cluster.synced() || !cluster.knows(&c) || cluster.pod(&c) != nil || cluster.news() != nil {
		t.Errorf("outside of a cluster there is %v, %v", cluster, err)
	}
	if state, _ := cluster.status(); state != "off" {
		t.Errorf("status says %s", state)
	}
}
