// Package read tests rules.http with real traffic: processes in a container behind a gated veth, and a web server behind
// the node, over plain TCP.
package read

import (
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/vishvananda/netns"

	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/policy/compile"
	"github.com/sallyport/sallyport/probes"
	"github.com/sallyport/sallyport/probes/event"
	"github.com/sallyport/sallyport/probes/gate"
	"github.com/sallyport/sallyport/probes/judge"
	"github.com/sallyport/sallyport/tests/testutil"
	"github.com/sallyport/sallyport/tests/testutil/attached"
	"github.com/sallyport/sallyport/tests/testutil/pod"
)

// Where servers listen: outside that of the scene and nginx, and in the pod.
const (
	port      = 8080
	nginxPort = 8082
	inPort    = 8081
	loopPort  = 8083
)

// holdQuery in a request makes the server answer it only when its connection has ended.
const holdQuery = "hold"

// rules lets the pod land at the server, and nothing else. %s are its mode and what a violation gets.
const rules = `
apiVersion: sallyport.dev/v1alpha1
kind: ProcessPolicy
metadata: {name: web, namespace: default}
spec:
  podSelector: {}
  mode: %s
  onViolation: {verdict: %s}
  rules:
  - name: land
    egress:
    - toPorts: [{ports: [{port: 8080, protocol: TCP}, {port: 8082, protocol: TCP}, {port: 8083, protocol: TCP}], rules: {http: [{method: POST, path: "/v1/request-landing"}]}}]
    - toPorts: [{ports: [{port: 8081, protocol: TCP}]}]
    ingress:
    - toPorts: [{ports: [{port: 8081, protocol: TCP}], rules: {http: [{method: GET, path: "/open"}]}}]
    - toPorts: [{ports: [{port: 8083, protocol: TCP}]}]
`

// scene is a pod behind a gate, and a web server.
type scene struct {
	*testutil.Net
	node   *pod.Node
	kernel *probes.Kernel
	judge  *judge.Judge
	pod    *pod.Container

	mu     sync.Mutex
	events *attached.Recorder
	seen   []string // requests that the server saw: method and path
}

func newScene(t *testing.T, mode string) *scene {
	t.Helper()
	s := newUngated(t, mode)
	s.govern(t)
	return s
}

// govern gates the pod's veth.
func (s *scene) govern(t *testing.T) {
	t.Helper()
	g, err := gate.Attach(s.kernel)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = g.Close() }) // handles only
	veth := gate.Veth{Ifindex: uint32(s.Gate.Attrs().Index), NetNS: s.Pod.Cookie(t), Container: s.pod.ID}
	s.Node.Do(t, func() error { return g.Govern(veth) })
}

// newUngated is a scene without the gate.
func newUngated(t *testing.T, mode string) *scene {
	t.Helper()
	return newUngatedOf(t, mode, probes.Config{})
}

// newUngatedOf is one with a kernel side of this configuration.
func newUngatedOf(t *testing.T, mode string, cfg probes.Config) *scene {
	t.Helper()
	node := pod.NewNode(t)
	s := &scene{node: node, Net: testutil.NewNet(t, testutil.NetOptions{})}
	s.kernel, s.judge = attached.Open(t, node, cfg, attached.Enforcing())
	s.events = attached.Record(t, s.kernel)
	ns, err := netns.GetFromPath(s.Pod.Path())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ns.Close() }) // read only
	s.pod = node.Container(t, "a", ns)
	s.swap(t, mode, policy.VerdictDeny)
	s.serve(t)
	return s
}

// swap puts the policy of rules in force.
func (s *scene) swap(t *testing.T, mode string, verdict policy.Verdict) {
	t.Helper()
	s.inForce(t, fmt.Sprintf(rules, mode, verdict))
}

// inForce puts policies in force.
func (s *scene) inForce(t *testing.T, text string) {
	t.Helper()
	policies, err := policy.Parse("read", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	workload := compile.Workload{Key: s.pod.ID, Namespace: "default", Pod: "pod", Container: "c", ContainerType: "App"}
	attached.InForce(t, s.judge, compile.Enforced{}, compile.Input{Policies: policies, Workloads: []compile.Workload{workload}})
}

// serve starts the web server, which writes down what it sees.
func (s *scene) serve(t *testing.T) {
	t.Helper()
	protocols := &http.Protocols{}
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	server := &http.Server{Protocols: protocols, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		s.seen = append(s.seen, r.Method+" "+r.URL.Path)
		s.mu.Unlock()
		if r.URL.RawQuery == holdQuery {
			<-r.Context().Done() // the end of the connection
			return
		}
		_, _ = io.Copy(io.Discard, r.Body)  // it may be large
		_, _ = fmt.Fprint(w, "Ship landed") // who waits for it says that it did not come
	})}
	for _, addr := range []netip.Addr{s.ServerAddr, s.ServerAddr6} {
		listener := s.Server.Listen(t, netip.AddrPortFrom(addr, port))
		go func() { _ = server.Serve(listener) }() // ends with Close
	}
	t.Cleanup(func() { _ = server.Close() })
}

// requests are what the server has seen, and forgets it.
func (s *scene) requests() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	seen := strings.Join(s.seen, ", ")
	s.seen = nil
	return seen
}

// await waits for an event about a request.
func (s *scene) await(t *testing.T, wanted func(event.Event) bool) event.Event {
	t.Helper()
	return s.events.Wait(t, "an event", func(e event.Event) bool { return e.Kind == event.KindRequest && wanted(e) })
}

// curl runs curl in the pod. It returns what it printed, and its exit code.
func (s *scene) curl(t *testing.T, args ...string) (text string, code int) {
	t.Helper()
	if _, err := os.Stat("/usr/bin/curl"); err != nil {
		t.Fatal("curl is needed: ", err)
	}
	p := s.pod.Command(append([]string{"/usr/bin/curl", "-sS", "--max-time", "5"}, args...)...)
	text = p.Run(t)
	return text, p.ProcessState.ExitCode()
}

func at(a netip.Addr) string { return "http://" + netip.AddrPortFrom(a, port).String() }
