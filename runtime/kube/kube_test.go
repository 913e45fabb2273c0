package kube

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
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/sirupsen/logrus"
	"github.com/sirupsen/logrus/hooks/test"
	"go.uber.org/goleak"
	corev1 "k8s.io/api/core/v1"

	"github.com/sallyport/sallyport/runtime/identity"
	"github.com/sallyport/sallyport/tests/testutil"
	"github.com/sallyport/sallyport/tests/testutil/fakeapi"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// start follows a fake API as node-1 until the test ends.
func start(t *testing.T, api *fakeapi.Server, change func(*Source)) *Source {
	t.Helper()
	return startWith(t, api, Config{}, change)
}

// startWith does so with what cfg says apart from where and who.
func startWith(t *testing.T, api *fakeapi.Server, cfg Config, change func(*Source)) *Source {
	t.Helper()
	path := filepath.Join(t.TempDir(), "kubeconfig")
	if err := os.WriteFile(path, []byte(api.Kubeconfig()), 0o600); err != nil {
		t.Fatal(err)
	}
	log, _ := test.NewNullLogger()
	log.SetLevel(logrus.DebugLevel)
	cfg.Kubeconfig, cfg.NodeName = path, "node-1"
	s, err := New(cfg, log)
	if err != nil {
		t.Fatal(err)
	}
	change(s)
	ended := make(chan error, 1)
	go func() { ended <- s.Run(t.Context()) }()
	t.Cleanup(func() {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return s
}

// eventually waits until the snapshot is as wanted.
func eventually(t *testing.T, s *Source, what string, ok func(Snapshot) bool) Snapshot {
	t.Helper()
	var now Snapshot
	testutil.Eventually(t, what, func() error {
		if now = s.Snapshot(); !now.Synced || !ok(now) {
			return fmt.Errorf("it is %+v, %v", now, s.Health())
		}
		return nil
	})
	return now
}

const pods = "/api/v1/pods"

func pod(name, ip, rest string) string {
	return fmt.Sprintf(`{"metadata":{"namespace":"shop","name":%q,"uid":"uid-%s","labels":{"app":"web"}},
		"spec":{"nodeName":"node-2","serviceAccountName":"web"},"status":{"phase":"Running","podIPs":[{"ip":%q}]}%s}`, name, name, ip, rest)
}

func TestFollowsPods(t *testing.T) {
	t.Parallel()
	api := fakeapi.New(t)
	api.Put(t, pods, pod("a", "10.0.0.1", ""))
	s := start(t, api, func(*Source) {})
	now := eventually(t, s, "a pod", func(s Snapshot) bool { return len(s.Pods) == 1 })
	want := &Pod{
		Template: &Template{Namespace: "shop", ServiceAccount: "web", Labels: map[string]string{"app": "web"}},
		Name:     "a", Addresses: []netip.Addr{netip.MustParseAddr("10.0.0.1")},
	}
	if diff := cmp.Diff(want, now.Pods[0], cmpopts.EquateComparable(netip.Addr{})); diff != "" {
		t.Errorf("the pod (-want +got):\n%s", diff)
	}
	api.Put(t, pods, pod("b", "10.0.0.2", ""))
	now = eventually(t, s, "a second", func(s Snapshot) bool { return len(s.Pods) == 2 })
	if now.Pods[0].Template != now.Pods[1].Template {
		t.Error("pods that are alike do not share what they have in common")
	}
	api.Delete(t, pods, "shop/a")
	later := eventually(t, s, "one less", func(s Snapshot) bool { return len(s.Pods) == 1 })
	if later.Pods[0].Name != "b" || !sameList(now.Namespaces, later.Namespaces) {
		t.Errorf("left are %+v", later.Pods)
	}
}

func TestWhatChangesNothingIsNoChange(t *testing.T) {
	t.Parallel()
	api := fakeapi.New(t)
	api.Put(t, pods, pod("a", "10.0.0.1", ""))
	s := start(t, api, func(*Source) {})
	before := eventually(t, s, "a pod", func(s Snapshot) bool { return len(s.Pods) == 1 })
	api.Put(t, pods, pod("a", "10.0.0.1", `,"extra":{"of":"no interest"}`))
	api.Put(t, "/api/v1/namespaces", `{"metadata":{"name":"shop","labels":{"team":"a"}}}`)
	after := eventually(t, s, "a namespace", func(s Snapshot) bool { return len(s.Namespaces) == 1 })
	if !sameList(before.Pods, after.Pods) {
		t.Error("the list of pods is another one")
	}
}

func TestAnAPIThatIsAwayIsNoReasonToForget(t *testing.T) {
	t.Parallel()
	api := fakeapi.New(t)
	api.Put(t, pods, pod("a", "10.0.0.1", ""))
	s := start(t, api, func(*Source) {})
	eventually(t, s, "a pod", func(s Snapshot) bool { return len(s.Pods) == 1 })
	lists, _ := api.Asked(pods)
	began := time.Now()
	api.Away(true)
	testutil.Eventually(t, "the API is away", func() error {
		if h := s.Health(); !h.Away || h.Since.Before(began) || h.Err == nil {
			return fmt.Errorf("it is %+v", h)
		}
		return nil
	})
	if now := s.Snapshot(); len(now.Pods) != 1 || !now.Synced {
		t.Errorf("known is %+v", now)
	}
	api.Put(t, pods, pod("b", "10.0.0.2", ""))
	api.Away(false)
	eventually(t, s, "what happened meanwhile", func(now Snapshot) bool { return len(now.Pods) == 2 && !s.Health().Away })
	if after, _ := api.Asked(pods); after > lists+1 {
		t.Errorf("pods were listed %d times, %d before the API went", after, lists)
	}
}

func TestANewListTakesNoSecondRoom(t *testing.T) {
	t.Parallel()
	api := fakeapi.New(t)
	api.Put(t, pods, pod("a", "10.0.0.1", ""))
	api.Put(t, pods, pod("b", "10.0.0.2", ""))
	s := start(t, api, func(*Source) {})
	before := eventually(t, s, "two pods", func(s Snapshot) bool { return len(s.Pods) == 2 })
	lists, _ := api.Asked(pods)
	api.Away(true)
	testutil.Eventually(t, "the API is away", func() error {
		if h := s.Health(); !h.Away {
			return fmt.Errorf("it is %+v", h)
		}
		return nil
	})
	api.Put(t, pods, pod("b", "10.0.0.3", ""))
	api.Compact()
	api.Away(false)
	after := eventually(t, s, "what happened meanwhile", func(s Snapshot) bool {
		return len(s.Pods) == 2 && s.Pods[1].Addresses[0] == netip.MustParseAddr("10.0.0.3")
	})
	if again, _ := api.Asked(pods); again == lists {
		t.Error("there was no new list")
	}
	if before.Pods[0] != after.Pods[0] {
		t.Error("a pod that has not changed is in memory anew")
	}
}

func TestWhatTheAPIForgotIsListedAgain(t *testing.T) {
	t.Parallel()
	for _, stream := range []bool{true, false} {
		t.Run(fmt.Sprint("stream ", stream), func(t *testing.T) {
			t.Parallel()
			api := fakeapi.New(t)
			if !stream {
				api.NoStream()
			}
			for i := range 700 { // more than a page
				api.Put(t, pods, pod(fmt.Sprintf("p%03d", i), "10.0.0.1", ""))
			}
			s := start(t, api, func(*Source) {})
			eventually(t, s, "all pods", func(s Snapshot) bool { return len(s.Pods) == 700 })
			api.Away(true)
			api.Delete(t, pods, "shop/p005")
			api.Compact()
			api.Away(false)
			now := eventually(t, s, "one less", func(s Snapshot) bool { return len(s.Pods) == 699 })
			if !slices.IsSortedFunc(now.Pods, func(a, b *Pod) int { return strings.Compare(a.Name, b.Name) }) {
				t.Error("the pods are in no order")
			}
		})
	}
}

func TestPodsOfThisNode(t *testing.T) {
	t.Parallel()
	api := fakeapi.New(t)
	api.Put(t, pods, `{"metadata":{"namespace":"shop","name":"web","uid":"u","annotations":{"kubernetes.io/config.hash":"static"}},
	"spec":{"nodeName":"node-1","hostNetwork":true,
	 "initContainers":[{"name":"setup"},{"name":"mesh","restartPolicy":"Always"}],
	 "containers":[{"name":"app","ports":[{"name":"http","containerPort":8080,"protocol":"TCP"},{"containerPort":9}],
	  "livenessProbe":{"exec":{"command":["cat","/ok"]}},"readinessProbe":{"httpGet":{"port":1}},
	  "lifecycle":{"preStop":{"exec":{"command":["/bin/stop"]}}}}],
	 "ephemeralContainers":[{"name":"debug"}]},
	"status":{"phase":"Running","podIPs":[{"ip":"192.0.2.7"}]}}`)
	api.Put(t, pods, pod("done", "10.0.0.9", `,"status":{"phase":"Succeeded","podIPs":[{"ip":"10.0.0.9"}]}`))
	s := start(t, api, func(*Source) {})
	now := eventually(t, s, "two pods", func(s Snapshot) bool { return len(s.Pods) == 2 })
	if done := now.Pods[0]; len(done.Addresses) != 0 || done.Local != nil {
		t.Errorf("a pod that has ended is %+v", done)
	}
	want := &LocalPod{UIDs: []string{"u", "static"}, HostNetwork: true, Containers: []PodContainer{
		{Name: "setup", Type: identity.TypeInit},
		{Name: "mesh", Type: identity.TypeSidecar},
		{Name: "app", Type: identity.TypeApp, Probes: [][]string{{"cat", "/ok"}, {"/bin/stop"}}},
		{Name: "debug", Type: identity.TypeEphemeral},
	}}
	if diff := cmp.Diff(want, now.Pods[1].Local); diff != "" || len(now.Pods[1].Addresses) != 0 {
		t.Errorf("addresses %v, local (-want +got):\n%s", now.Pods[1].Addresses, diff)
	}
	if diff := cmp.Diff([]Port{{"http", "TCP", 8080}}, now.Pods[1].Ports); diff != "" {
		t.Errorf("ports (-want +got):\n%s", diff)
	}
}

func TestServicesHaveWhatIsBehindThem(t *testing.T) {
	t.Parallel()
	api := fakeapi.New(t)
	const services, slices = "/api/v1/services", "/apis/discovery.k8s.io/v1/endpointslices"
	api.Put(t, services, `{"metadata":{"namespace":"shop","name":"web","labels":{"tier":"front"}},
	 "spec":{"clusterIPs":["10.96.0.5"],"externalIPs":["203.0.113.5"],"ports":[{"name":"http","port":80,"protocol":"TCP"},{"name":"dns","port":53,"protocol":"UDP"}]},
	 "status":{"loadBalancer":{"ingress":[{"ip":"198.51.100.1"},{"ip":"198.51.100.2","ipMode":"Proxy"},{"hostname":"x"}]}}}`)
	api.Put(t, services, `{"metadata":{"namespace":"shop","name":"headless"},"spec":{"clusterIPs":["None"],"ports":[{"port":80}]}}`)
	api.Put(t, services, `{"metadata":{"namespace":"default","name":"kubernetes"},"spec":{"clusterIPs":["10.96.0.1"],"ports":[{"name":"https","port":443}]}}`)
	slice := func(namespace, name, service, port, endpoints string) {
		api.Put(t, slices, fmt.Sprintf(`{"metadata":{"namespace":%q,"name":%q,"labels":{"kubernetes.io/service-name":%q}},
		 "addressType":"IPv4","ports":[%s],"endpoints":[%s]}`, namespace, name, service, port, endpoints))
	}
	slice("shop", "web-1", "web", `{"name":"http","port":8080,"protocol":"TCP"}`,
		`{"addresses":["10.0.0.1"]},{"addresses":["10.0.0.2"],"conditions":{"ready":false}},{"addresses":["10.0.0.3"],"conditions":{"ready":false,"serving":true,"terminating":true}}`)
	slice("shop", "web-2", "web", `{"name":"http","port":8081,"protocol":"TCP"}`, `{"addresses":["10.0.0.4"],"conditions":{"ready":true}}`)
	slice("shop", "headless-1", "headless", `{"name":"","port":80,"protocol":"TCP"}`, `{"addresses":["10.0.0.1"]}`)
	slice("default", "kubernetes", "kubernetes", `{"name":"https","port":6443,"protocol":"TCP"}`, `{"addresses":["192.0.2.10"]},{"addresses":["192.0.2.9"]}`)
	s := start(t, api, func(*Source) {})
	now := eventually(t, s, "services", func(s Snapshot) bool { return len(s.Services) == 3 && len(s.APIServers) == 2 })
	addr, port := netip.MustParseAddr, netip.MustParseAddrPort
	want := []*Service{
		{
			Namespace: "default", Name: "kubernetes", Labels: map[string]string{}, Addresses: []netip.Addr{addr("10.96.0.1")},
			Ports: []ServicePort{{"TCP", 443, []netip.AddrPort{port("192.0.2.9:6443"), port("192.0.2.10:6443")}}},
		},
		{Namespace: "shop", Name: "headless", Labels: map[string]string{}, Ports: []ServicePort{{"TCP", 80, []netip.AddrPort{port("10.0.0.1:80")}}}},
		{
			Namespace: "shop", Name: "web", Labels: map[string]string{"tier": "front"}, Addresses: []netip.Addr{addr("10.96.0.5"), addr("203.0.113.5"), addr("198.51.100.1")},
			Ports: []ServicePort{{"TCP", 80, []netip.AddrPort{port("10.0.0.1:8080"), port("10.0.0.3:8080"), port("10.0.0.4:8081")}}, {Protocol: "UDP", Port: 53}},
		},
	}
	if diff := cmp.Diff(want, now.Services, cmpopts.EquateComparable(netip.Addr{}, netip.AddrPort{})); diff != "" {
		t.Errorf("services (-want +got):\n%s", diff)
	}
	if got := fmt.Sprint(now.APIServers); got != "[192.0.2.9 192.0.2.10]" {
		t.Errorf("API servers %s", got)
	}
}

func TestNodes(t *testing.T) {
	t.Parallel()
	api := fakeapi.New(t)
	api.Put(t, "/api/v1/nodes", `{"metadata":{"name":"node-2","annotations":{"network.cilium.io/ipv4-health-ip":"10.1.0.9","network.cilium.io/ipv4-cilium-host":"10.1.0.8"}},
	 "spec":{"podCIDRs":["10.1.0.0/24","fd00:1::/64"]},"status":{"addresses":[{"type":"InternalIP","address":"192.0.2.2"},{"type":"Hostname","address":"node-2"}]}}`)
	s := start(t, api, func(*Source) {})
	now := eventually(t, s, "a node", func(s Snapshot) bool { return len(s.Nodes) == 1 })
	if got := fmt.Sprint(*now.Nodes[0]); got != "{node-2 [192.0.2.2 10.1.0.8] [10.1.0.9] [10.1.0.0/24 fd00:1::/64] false}" {
		t.Errorf("the node is %s", got)
	}
}

func TestNodesWithTheStartupTaint(t *testing.T) {
	t.Parallel()
	node := &corev1.Node{Spec: corev1.NodeSpec{Taints: []corev1.Taint{{Key: "other"}, {Key: "sallyport.dev/not-ready"}}}}
	for taint, want := range map[string]bool{"sallyport.dev/not-ready": true, "sallyport.dev/other": false, "": false} {
		if n, err := nodeTrimmer(taint)(node); err != nil || n.Tainted != want {
			t.Errorf("taint %q: %+v, %v", taint, n, err)
		}
	}
}

func TestTemplatesOfPodsThatAreGoneAreForgotten(t *testing.T) {
	t.Parallel()
	r := newPodTrimmer("n")
	for i := range 20 * leastSweep {
		p, err := r.trim(podObject(fmt.Sprint(i)))
		if err != nil || p.Labels["i"] != fmt.Sprint(i) {
			t.Fatal(p, err)
		}
	}
	if n := len(r.known); n > 10*leastSweep {
		t.Errorf("%d templates are known, and no pod", n)
	}
}

func podObject(i string) *corev1.Pod {
	p := &corev1.Pod{}
	p.Labels = map[string]string{"i": i}
	return p
}
