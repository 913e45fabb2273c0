package bench

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"

	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/probes/judge"
	"github.com/sallyport/sallyport/tests/internal/oracle"
	"github.com/sallyport/sallyport/tests/testutil"
	"github.com/sallyport/sallyport/tests/testutil/pod"
)

// pathRules is how many rules the requests are judged by, each with a path of its own.
const pathRules = 100

// allowed is what the programs return, and decide, of a request that passes.
const allowed = 1

// headLen is how long the head of an HTTP/1 request is.
const headLen = 300

// paths are rules of a container that differ in the path.
func paths(t testing.TB) policy.Input {
	t.Helper()
	text := fmt.Sprintf("apiVersion: %s\nkind: %s\nmetadata: {name: paths, namespace: bench}\nspec:\n  podSelector: {}\n  rules:\n", policy.APIVersion, policy.KindProcessPolicy)
	const rule = "  - {name: r%d, egress: [{toPorts: [{ports: [{port: 80, protocol: TCP}], rules: {http: [{method: %s, path: '%s'}]}}]}]}\n"
	for i := range pathRules {
		text += fmt.Sprintf(rule, i, "GET", fmt.Sprintf("/api/v[0-9]+/resource-%d/.*", i))
	}
	text += fmt.Sprintf(rule, pathRules, "POST", "/shop\\.v1\\.Checkout/.*")
	policies, err := policy.Parse("paths", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return policy.Input{Policies: policies, Workloads: []policy.Workload{{Key: 1, Namespace: "bench", Container: "c"}}}
}

// request is a head as a browser or library sends it, of the last of the rules.
func request() string {
	head := fmt.Sprintf("GET /api/v1/resource-%d/items/4711?verbose=1 HTTP/1.1\r\nHost: api.shop.svc.cluster.local:8080\r\n"+
		"User-Agent: python-requests/2.31.0\r\nAccept-Encoding: gzip, deflate\r\nAccept: */*\r\nConnection: keep-alive\r\nX-Request-Id: ", pathRules-1)
	const end = "\r\n\r\n"
	return head + strings.Repeat("a", headLen-len(head)-len(end)) + end
}

// segment is what TCP carries over IPv4 in an Ethernet frame.
func segment(payload string) []byte {
	p := make([]byte, 14+20+20, 14+20+20+len(payload))
	binary.BigEndian.PutUint16(p[12:], 0x0800)
	ip, tcp := p[14:34], p[34:]
	ip[0], ip[8], ip[9] = 0x45, 64, 6
	binary.BigEndian.PutUint16(ip[2:], uint16(40+len(payload)))
	copy(ip[12:], []byte{10, 0, 0, 2, 10, 0, 0, 1})
	binary.BigEndian.PutUint16(tcp, 40000)
	binary.BigEndian.PutUint16(tcp[2:], 80)
	tcp[12], tcp[13] = 5<<4, 0x18 // PSH, ACK
	return append(p, payload...)
}

// TestRequests measures what a request costs that is read and judged: at the gate, and over HTTP/2 as a tap on a TLS library
// reads it.
func TestRequests(t *testing.T) {
	if testutil.InVM() {
		t.Skip("nanoseconds of an emulated machine mean nothing")
	}
	k := open(t, pod.NewNode(t), false)
	defer k.Close() // the test is over
	in := paths(t)
	if _, err := judge.Open(k).Swap(compiled(t, in)); err != nil {
		t.Fatal(err)
	}
	o := oracle.New(t, k)
	process := policy.Process{Workload: in.Workloads[0], Origin: policy.OriginMain, Exe: "/usr/bin/client"}
	o.Put(t, process, policy.Call{Protocol: 6, Peer: netip.MustParseAddr("10.0.0.1"), Port: 80}, true)
	noop := nothing(t, ebpf.ProgramSpec{Type: ebpf.SchedCLS}, allowed)
	p := segment(request())
	base, ours := alternate(programRounds, timed(t, noop, p, allowed), timed(t, o.Program("oracle_gate"), p, allowed))
	if a := o.LastAnswer(t); a.Verdict != allowed || a.Reason != policy.ReasonRule.Number() {
		t.Fatalf("judged is %+v: not what was to be measured", a)
	}
	rows := []row{{fmt.Sprintf("HTTP/1 request at the gate, head of %d bytes, %d path rules", headLen, pathRules), base, ours, "≤ 3 µs over"}}
	calls := oracle.Frame(grpcCalls(t, requestsAtOnce))
	base, ours = alternate(programRounds, timed(t, noop, calls, allowed), func() time.Duration {
		quickest := time.Hour
		for range 100 {
			quickest = min(quickest, http2Calls(t, o, calls))
		}
		return quickest / requestsAtOnce
	})
	rows = append(rows, row{fmt.Sprintf("HTTP/2 request, the head of a gRPC call, %d path rules", pathRules), base, ours, "≤ 6 µs over"})
	printTable("Requests read and judged, BPF_PROG_RUN against a no-op tc program", rows)
}

// http2Calls returns how long it takes to read and judge all calls on a new connection.
func http2Calls(t *testing.T, o *oracle.Oracle, calls []byte) time.Duration {
	t.Helper()
	o.Begin(t)
	result, took, err := o.Program("oracle_http2").Benchmark(calls, 1, nil)
	if err != nil || result != 0 {
		t.Fatalf("oracle_http2 returned %d: %v", result, err)
	}
	decisions, flaw := o.Judged(t)
	if len(decisions) != requestsAtOnce || flaw != 0 || decisions[requestsAtOnce-1].Verdict != allowed {
		t.Fatalf("judged are %+v, flaw %d: not what was to be measured", decisions, flaw)
	}
	return took
}
