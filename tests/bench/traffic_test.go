package bench

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netns"

	"github.com/sallyport/sallyport/probes/gate"
	"github.com/sallyport/sallyport/tests/testutil"
	"github.com/sallyport/sallyport/tests/testutil/nginx"
	"github.com/sallyport/sallyport/tests/testutil/pod"
)

const (
	trafficRounds = 5
	trafficTime   = "2s" // of one side in one round
	webPort       = 8080
	proxyPort     = 8081
)

// webRules let the pod ask for one path, and be asked for it.
const webRules = `
apiVersion: sallyport.dev/v1alpha1
kind: ProcessPolicy
metadata: {name: web}
spec:
  podSelector: {}
  rules:
  - name: items
    egress: &items
    - toPorts: [{ports: [{port: 8080, protocol: TCP}], rules: {http: [{method: GET, path: "/items/[0-9]+"}]}}]
    ingress: *items
`

// The configurations of nginx: what answers, and a proxy in user space before it, as a sidecar of a mesh is. Their
// arguments: where they listen, and where what answers does.
const (
	webServer = `server { listen %s; root %[2]s; sendfile on; tcp_nopush on; access_log %[2]s/log; }`
	webProxy  = `
upstream web { server %[2]s; keepalive 64; keepalive_requests 1000000000; }
server {
	listen %[1]s;
	location ~ "^/items/[0-9]+$" { proxy_pass http://web; proxy_http_version 1.1; proxy_set_header Connection ""; }
	location / { return 403 "Access denied"; }
}`
)

// traffic is a pod behind a veth, a web server behind the node, one in the pod, and a proxy on the node.
type traffic struct {
	*testutil.Net
	node    *pod.Node
	pod     *pod.Container
	servers []*os.Process
}

func newTraffic(t *testing.T) *traffic {
	t.Helper()
	w := &traffic{Net: testutil.NewNet(t, testutil.NetOptions{}), node: pod.NewNode(t)}
	ns, err := netns.GetFromPath(w.Pod.Path())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ns.Close() }) // read only
	w.pod = w.node.Container(t, "web", ns)
	web := netip.AddrPortFrom(w.ServerAddr, webPort)
	server := nginx.Start(t, w.Server, fmt.Sprintf(webServer, web, site(t)), web)
	proxy := netip.AddrPortFrom(w.NodeAddr, proxyPort)
	w.servers = []*os.Process{server, nginx.Start(t, w.Node, fmt.Sprintf(webProxy, proxy, web), proxy)}
	return w
}

// site is a folder with a page, as nginx serves one.
func site(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "items"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "items", "1"), bytes.Repeat([]byte("page "), 200), 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestTraffic measures what wrk in a pod gets of an nginx, by what stands between them: requests a second, and what one takes
// of a processor in wrk, in both nginx and in the agent, which says more where others use the machine.
func TestTraffic(t *testing.T) {
	if testutil.InVM() {
		t.Skip("the throughput of an emulated machine means nothing")
	}
	w := newTraffic(t)
	direct, proxied := netip.AddrPortFrom(w.ServerAddr, webPort), netip.AddrPortFrom(w.NodeAddr, proxyPort)
	sides := []struct {
		what string
		run  func() load
	}{
		{"nothing", func() load { return w.wrk(t, direct) }},
		{"Sallyport, `rules.http` on the client", func() load { return w.under(t, false, direct) }},
		{"the same, every request told", func() load { return w.under(t, true, direct) }},
		{"nginx as a proxy on the node", func() load { return w.wrk(t, proxied) }},
	}
	all := make([]load, len(sides))
	for range trafficRounds { // in turns, so that what else the machine does meets all
		for i, side := range sides {
			all[i] = all[i].better(side.run())
		}
	}
	var b strings.Builder
	for i, side := range sides {
		fmt.Fprintf(&b, "| %s | %.0f | %.2f | %s | %.2f |\n", side.what, all[i].perSecond, all[i].perSecond/all[0].perSecond,
			nanos(all[i].processor), float64(all[0].processor)/float64(all[i].processor))
	}
	fmt.Printf("\nPlain HTTP, wrk in a pod and nginx behind the node, by what is between them; the best of %d rounds\n\n"+
		"| between | requests/s | ratio | processor, of one | ratio |\n|---|---|---|---|---|\n%s\n", trafficRounds, &b)
}

// load is what came of some seconds of requests.
type load struct {
	perSecond float64
	processor time.Duration // of one request
}

// better is the best of both. The zero load is worse than any.
func (l load) better(than load) load {
	if l == (load{}) {
		return than
	}
	return load{max(l.perSecond, than.perSecond), min(l.processor, than.processor)}
}

// under is wrk with an agent in place.
func (w *traffic) under(t *testing.T, told bool, to netip.AddrPort) load {
	t.Helper()
	a := startAgent(t, w.node, w.pod, agentOptions{policy: webRules, told: told})
	defer func() {
		a.end(t, w.node)
		settle() // or the next side is still governed
	}()
	veth := gate.Veth{Ifindex: uint32(w.Gate.Attrs().Index), NetNS: w.Pod.Cookie(t), Container: w.pod.ID}
	w.Node.Do(t, func() error { return a.gate.Govern(veth) })
	denied := w.pod.Command("/usr/bin/curl", "-sS", "--max-time", "20", fmt.Sprintf("http://%s/other", to))
	if got := denied.Run(t); got != "Access denied" {
		t.Fatalf("a request that no rule allows gets %q: not what was to be measured; %s", got, denied.Complaint())
	}
	return w.wrk(t, to)
}

// What wrk says: how many requests, how many a second, and what went wrong.
var (
	requests  = regexp.MustCompile(`(\d+) requests in`)
	perSecond = regexp.MustCompile(`Requests/sec:\s+([0-9.]+)`)
	wentWrong = regexp.MustCompile(`Non-2xx|Socket errors`)
)

// wrk runs it in the pod.
func (w *traffic) wrk(t *testing.T, to netip.AddrPort) load {
	t.Helper()
	path, err := exec.LookPath("wrk")
	if err != nil {
		testutil.Unsupported(t, "wrk", err.Error())
	}
	p := w.pod.Command(path, "-t1", "-c16", "-d"+trafficTime, fmt.Sprintf("http://%s/items/1", to))
	var out bytes.Buffer
	p.Stdout = &out
	before := w.processor(t)
	p.Run(t)
	used := w.processor(t) - before + p.ProcessState.UserTime() + p.ProcessState.SystemTime()
	count, rate := requests.FindSubmatch(out.Bytes()), perSecond.FindSubmatch(out.Bytes())
	if count == nil || rate == nil || wentWrong.Match(out.Bytes()) {
		t.Fatalf("wrk says %s, and complains %s", &out, p.Complaint())
	}
	n, countErr := strconv.Atoi(string(count[1]))
	each, rateErr := strconv.ParseFloat(string(rate[1]), 64)
	if err := errors.Join(countErr, rateErr); err != nil || n == 0 {
		t.Fatalf("wrk says %s: %v", &out, err)
	}
	return load{each, used / time.Duration(n)}
}

// processor is how much of a processor this process, in which the agent is, and both nginx have used.
func (w *traffic) processor(t *testing.T) time.Duration {
	t.Helper()
	used := processor(t)
	for _, server := range w.servers {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/schedstat", server.Pid))
		if err != nil {
			t.Fatal(err)
		}
		var ran int64
		if _, err := fmt.Sscan(string(text), &ran); err != nil {
			t.Fatalf("reading %q: %v", text, err)
		}
		used += time.Duration(ran)
	}
	return used
}
