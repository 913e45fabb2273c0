package oracle

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/policy/match"
	"github.com/sallyport/sallyport/policy/policytest"
	"github.com/sallyport/sallyport/probes/judge"
	"github.com/sallyport/sallyport/tests/internal/oracle"
	"github.com/sallyport/sallyport/tests/testutil"
	"github.com/sallyport/sallyport/tests/testutil/pod"
)

// said is a request as a client sends it, and as it is then judged.
func said(q policy.Request) (string, policy.Request) {
	if q.Path == "" {
		q.Path = "/"
	}
	q.Host = strings.ToLower(q.Host)
	text := q.Method + " " + q.Path + " HTTP/1.1\r\nHost: " + q.Host + "\r\n"
	var once []policy.Header
	for _, h := range q.Headers {
		// Of a header that is there twice servers take the one or the other: the parser refuses it.
		if strings.Contains(strings.ToLower(text), "\r\n"+strings.ToLower(h.Name)+":") {
			continue
		}
		once = append(once, h)
		text += h.Name + ": " + h.Value + "\r\n"
	}
	q.Headers = once
	return text + "\r\n", q
}

// TestKernelJudgesRequestsAsTheReference: random rules.http and requests over HTTP/1.1, read and judged in the kernel, two on
// a connection, in pieces.
func TestKernelJudgesRequestsAsTheReference(t *testing.T) {
	k := open(t, pod.NewNode(t))
	j, o := judge.Open(k), oracle.New(t, k)
	outcomes := map[string]int{}
	policies, questions := cases()
	for seed := range uint64(policies) {
		c, err := policytest.Requests(seed, questions)
		if err != nil {
			t.Fatal(err)
		}
		inForce(t, j, c.Input)
		for i, q := range c.Questions {
			if !q.Call.Peer.IsValid() {
				continue // nobody to send it to
			}
			o.Tell(t, q.Process.Workload.Key, q.Call.Canonical().Peer, q.Call.Names)
			text, request := said(*q.Request)
			want := match.JudgeRequest(c.Input, q.Process, request)
			outcomes[string(want.Verdict)+" by "+string(want.Reason)]++
			if call := match.Judge(c.Input, q.Process, q.Call); call.Verdict != want.Verdict {
				outcomes["decided by what is said"]++
			}
			got, flaw := o.Requests(t, oracle.Connection{Process: q.Process, Call: q.Call, Said: text + text, Piece: 1 + (i*37)%240})
			if len(got) != 2 || flaw != 0 {
				t.Fatalf("%d requests are judged, flaw %d: %q", len(got), flaw, text)
			}
			for _, one := range got {
				if diff := cmp.Diff(expect(want), one); diff != "" {
					rules, _ := json.MarshalIndent(c.Input.Policies, "", " ")
					t.Fatalf("seed %d, question %d: %+v\n%q\nreference: %+v (-reference +kernel)\n%s\n%s", seed, i, q.Process, text, want, diff, rules)
				}
			}
		}
	}
	t.Logf("%d requests under %d sets of policies: %v", policies*questions, policies, outcomes)
	if !testutil.InVM() && outcomes["decided by what is said"] < 100 {
		t.Error("the comparison proves little about rules.http")
	}
}

// TestRequestsThatCannotBeRead: what could be two things is none that a rule allows, and ends the reading.
func TestRequestsThatCannotBeRead(t *testing.T) {
	k := open(t, pod.NewNode(t))
	j, o := judge.Open(k), oracle.New(t, k)
	process := policy.Process{Workload: policy.Workload{Key: 7, Namespace: "default"}, Origin: policy.OriginMain, Exe: "/bin/a"}
	call := policy.Call{Protocol: 6, Peer: netip.MustParseAddr("192.0.2.9"), Port: 80}
	parsed, err := policy.Parse("p", []byte(`{"apiVersion": "sallyport.dev/v1alpha1", "kind": "ProcessPolicy", "metadata": {"name": "p"},
		"spec": {"podSelector": {}, "rules": [{"egress": [{"toPorts": [{"ports": [{"port": 80, "protocol": "TCP"}], "rules": {"http": [{"path": "/v1/.*", "headers": ["X-Token: a"]}]}}]}]}]}}`))
	if err != nil {
		t.Fatal(err)
	}
	in := policy.Input{Policies: parsed, Workloads: []policy.Workload{process.Workload}}
	inForce(t, j, in)
	const head = " HTTP/1.1\r\nHost: a.example\r\n"
	for _, c := range []struct {
		name, said string
		verdicts   string
		flawed     bool
	}{
		{"allowed", "GET /v1/x" + head + "X-Token: a\r\n\r\n", "1", false},
		{"without the header", "GET /v1/x" + head + "\r\n", "3", false},
		{"the header twice", "GET /v1/x" + head + "X-Token: a\r\nx-token: b\r\n\r\n", "", true},
		{"a body that looks like a request", "POST /v1/x" + head + "X-Token: a\r\nContent-Length: 9\r\n\r\nGET / HTTGET /v1/y" + head + "\r\n", "13", false},
		{"two lengths", "POST /v1/x" + head + "X-Token: a\r\nContent-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n", "", true},
		{"a way out of the path", "GET /v1/../admin" + head + "X-Token: a\r\n\r\n", "", true},
		{"HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "", true},
		{"TLS", "\x16\x03\x01\x02\x00\x01", "", true},
	} {
		for _, size := range []int{1, 7, 240} {
			got, flaw := o.Requests(t, oracle.Connection{Process: process, Call: call, Said: c.said, Piece: size})
			verdicts := ""
			for _, d := range got {
				verdicts += fmt.Sprint(d.Verdict)
			}
			if verdicts != c.verdicts || (flaw != 0) != c.flawed {
				t.Errorf("%s, in pieces of %d: verdicts %q, flaw %d", c.name, size, verdicts, flaw)
			}
		}
	}
}
