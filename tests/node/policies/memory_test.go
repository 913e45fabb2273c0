package policies

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/tests/testutil/fakeapi"
)

// What a large cluster has.
const (
	manyPods       = 100_000
	manyServices   = 5_000
	manyNamespaces = 500
	manyNodes      = 1_000
	mostMiB        = 150 // in a cluster where nothing happens
	changingMiB    = 190 // while objects come: garbage that Go gives back in its own time
)

// TestMemoryInALargeCluster has an agent in a cluster with 100,000 pods: after it has heard them all, while pods come and
// go, and after the API was away and has forgotten what happened meanwhile.
func TestMemoryInALargeCluster(t *testing.T) {
	api := fakeapi.New(t)
	large(api)
	kubeconfig := filepath.Join(t.TempDir(), "kubeconfig")
	if err := os.WriteFile(kubeconfig, []byte(api.Kubeconfig()), 0o600); err != nil {
		t.Fatal(err)
	}
	a := newAgent(t, kubeconfig)
	began := time.Now()
	a.hears(t, manyPods)
	t.Logf("heard after %s", time.Since(began).Round(100*time.Millisecond))
	a.fits(t, "heard", mostMiB)
	const pods = "/api/v1/pods"
	for i := range 200 {
		api.Put(t, pods, podOf(i, fmt.Sprintf("new-%d", i)))
		time.Sleep(20 * time.Millisecond)
	}
	a.hears(t, manyPods+200)
	a.fits(t, "while pods come", changingMiB)
	api.Away(true)
	a.shows(t, "kubernetes", "away")
	api.Put(t, pods, podOf(200, "new-200")) // it is known when the list is
	api.Compact()
	api.Away(false)
	a.hears(t, manyPods+201)
	a.fits(t, "after a new list", mostMiB)
}

// large fills an API.
func large(api *fakeapi.Server) {
	api.Fill("/api/v1/pods", manyPods, func(i int) string { return podOf(i, fmt.Sprintf("pod-%d", i)) })
	api.Fill("/api/v1/namespaces", manyNamespaces, func(i int) string {
		return fmt.Sprintf(`{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"team-%d","resourceVersion":"1","labels":{"team":"%d"}}}`, i, i%20)
	})
	api.Fill("/api/v1/nodes", manyNodes, func(i int) string {
		return fmt.Sprintf(`{"apiVersion":"v1","kind":"Node","metadata":{"name":"node-%d","resourceVersion":"1"},"spec":{"podCIDRs":["10.%d.%d.0/24"]},
		 "status":{"addresses":[{"type":"InternalIP","address":"172.16.%d.%d"}],"images":[%s{"names":["x"]}]}}`,
			i, i/256, i%256, i/256, i%256, strings.Repeat(`{"names":["registry.example/some/image@sha256:0123456789abcdef"],"sizeBytes":1},`, 50))
	})
	api.Fill("/api/v1/services", manyServices, func(i int) string {
		return fmt.Sprintf(`{"apiVersion":"v1","kind":"Service","metadata":{"namespace":"team-%d","name":"app-%d","resourceVersion":"1","labels":{"app":"app-%d"}},
		 "spec":{"clusterIPs":["10.200.%d.%d"],"ports":[{"name":"http","port":80,"protocol":"TCP"}]}}`, i%manyNamespaces, i, i, i/256, i%256)
	})
	api.Fill("/apis/discovery.k8s.io/v1/endpointslices", manyServices, func(i int) string {
		endpoints := make([]string, 0, manyPods/manyServices)
		for j := i; j < manyPods; j += manyServices {
			endpoints = append(endpoints, fmt.Sprintf(`{"addresses":["%s"],"conditions":{"ready":true},"nodeName":"node-1","targetRef":{"kind":"Pod","name":"pod-%d"}}`, addressOf(j), j))
		}
		return fmt.Sprintf(`{"apiVersion":"discovery.k8s.io/v1","kind":"EndpointSlice","metadata":{"namespace":"team-%d","name":"app-%d","resourceVersion":"1",
		 "labels":{"kubernetes.io/service-name":"app-%d"}},"addressType":"IPv4","ports":[{"name":"http","port":8080,"protocol":"TCP"}],"endpoints":[%s]}`,
			i%manyNamespaces, i, i, strings.Join(endpoints, ","))
	})
}

func addressOf(i int) string { return fmt.Sprintf("10.%d.%d.%d", 8+i>>16, i>>8&255, i&255) }

// podOf is a pod of one of as many deployments as there are services; each tenth is of a stateful set, with a label that no
// other has.
func podOf(i int, name string) string {
	app, more := i%manyServices, ""
	if i%10 == 0 {
		more = fmt.Sprintf(`,"statefulset.kubernetes.io/pod-name":%q`, name)
	}
	return fmt.Sprintf(`{"apiVersion":"v1","kind":"Pod","metadata":{"namespace":"team-%d","name":%q,"uid":"6f2a8c1e-0000-4000-8000-%012d","resourceVersion":"1",
	 "labels":{"app":"app-%d","pod-template-hash":"7d9c6b%04d","app.kubernetes.io/part-of":"shop"%s},"annotations":{"note":"%s"}},
	 "spec":{"nodeName":"node-%d","serviceAccountName":"app-%d","containers":[{"name":"app","image":"registry.example/app:1.0","env":[%[11]s{"name":"LAST"}],
	  "ports":[{"name":"http","containerPort":8080,"protocol":"TCP"}]},{"name":"proxy","image":"registry.example/proxy:1.0"}]},
	 "status":{"phase":"Running","podIP":"%[10]s","podIPs":[{"ip":"%[10]s"}],"conditions":[{"type":"Ready","status":"True"}]}}`,
		app%manyNamespaces, name, i, app, app, more, strings.Repeat("x", 200), i%manyNodes, app, addressOf(i), strings.Repeat(`{"name":"SOME_VARIABLE","value":"and its value"},`, 20))
}

// settling is how long the agent may have more: Go collects at the latest after two minutes, and gives memory back in the
// background.
const settling = 4 * time.Minute

// hears waits until the agent knows so many pods, which may take the longest pause between two attempts and a long list.
func (a *agent) hears(t *testing.T, pods int) {
	t.Helper()
	want := strconv.Itoa(pods) + " pods"
	for began := time.Now(); ; time.Sleep(500 * time.Millisecond) {
		out, err := a.status()
		if err == nil && strings.Contains(out, want) {
			return
		}
		if time.Since(began) > settling {
			t.Fatalf("the agent does not know %s after %s: %v: %s", want, settling, err, out)
		}
	}
}

// fits measures how much memory the agent has when it has settled, which may be no more than most MiB.
func (a *agent) fits(t *testing.T, when string, most int) {
	t.Helper()
	for began := time.Now(); ; time.Sleep(time.Second) {
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", a.daemon.PID()))
		if err != nil {
			t.Fatal(err)
		}
		rss, peak := kibOf(status, "VmRSS")>>10, kibOf(status, "VmHWM")>>10
		if rss <= most {
			t.Logf("%s: %d MiB, %d at most so far", when, rss, peak)
			return
		}
		if time.Since(began) > settling {
			t.Fatalf("%s the agent has %d MiB after %s, not %d; %d at most", when, rss, settling, most, peak)
		}
	}
}

func kibOf(status []byte, field string) int {
	m := regexp.MustCompile(`(?m)^` + field + `:\s+(\d+) kB$`).FindSubmatch(status)
	if m == nil {
		return 1 << 30
	}
	n, _ := strconv.Atoi(string(m[1])) // digits
	return n
}
