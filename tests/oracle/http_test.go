package oracle

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/net/http2/hpack"

	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/policy/match"
	"github.com/sallyport/sallyport/policy/policytest"
	"github.com/sallyport/sallyport/probes/judge"
	"github.com/sallyport/sallyport/tests/internal/oracle"
	"github.com/sallyport/sallyport/tests/parse"
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

// fieldsOf are those of a request over HTTP/2, in an order by chance as far as there is a choice.
func fieldsOf(q policy.Request, random *rand.Rand) []hpack.HeaderField {
	fields := []hpack.HeaderField{
		{Name: ":method", Value: q.Method}, {Name: ":scheme", Value: "http"}, {Name: ":authority", Value: q.Host}, {Name: ":path", Value: q.Path},
	}
	random.Shuffle(len(fields), func(i, j int) { fields[i], fields[j] = fields[j], fields[i] })
	for _, h := range q.Headers {
		fields = append(fields, hpack.HeaderField{Name: strings.ToLower(h.Name), Value: h.Value})
	}
	return fields
}

// TestKernelJudgesRequestsAsTheReference: random rules.http and requests over HTTP/1.1 and HTTP/2, read and judged in the
// kernel, two on a connection, in pieces.
func TestKernelJudgesRequestsAsTheReference(t *testing.T) {
	k := open(t, pod.NewNode(t))
	j, o := judge.Open(k), oracle.New(t, k)
	outcomes := map[string]int{}
	policies, questions := cases()
	random := rand.New(rand.NewPCG(7, 7))
	client := parse.NewClient(7)
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
			if q.Hello != nil {
				want := match.JudgeHello(c.Input, q.Process, *q.Hello)
				outcomes["ClientHello: "+string(want.Verdict)+" by "+string(want.Reason)]++
				if diff := cmp.Diff(expect(want), o.AskHello(t, q.Process, *q.Hello)); diff != "" {
					rules, _ := json.MarshalIndent(c.Input.Policies, "", " ")
					t.Fatalf("seed %d, question %d: %+v, %+v\nreference: %+v (-reference +kernel)\n%s\n%s", seed, i, q.Process, q.Hello, want, diff, rules)
				}
				continue
			}
			text, request := said(*q.Request)
			want := match.JudgeRequest(c.Input, q.Process, request)
			outcomes[string(want.Verdict)+" by "+string(want.Reason)]++
			if call := match.Judge(c.Input, q.Process, q.Call); call.Verdict != want.Verdict {
				outcomes["decided by what is said"]++
			}
			fields := fieldsOf(request, random)
			for _, said := range []oracle.Connection{{Said: text + text}, {Said: string(client.Say(fields, fields)), HTTP2: true}} {
				said.Process, said.Call, said.Server, said.Piece = q.Process, q.Call, q.Request.Server, 1+(i*37)%240
				got, flaw := o.Requests(t, said)
				if len(got) != 2 || flaw != 0 {
					t.Fatalf("%d requests are judged, flaw %d: %q", len(got), flaw, said.Said)
				}
				for _, one := range got {
					if diff := cmp.Diff(expect(want), one); diff != "" {
						rules, _ := json.MarshalIndent(c.Input.Policies, "", " ")
						t.Fatalf("seed %d, question %d: %+v\n%q\nreference: %+v (-reference +kernel)\n%s\n%s", seed, i, q.Process, said.Said, want, diff, rules)
					}
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
	said := newSaid(t)
	const head = " HTTP/1.1\r\nHost: a.example\r\n"
	for _, c := range []struct {
		name, said string
		verdicts   string
		flaw       oracle.KernelFlaw
	}{
		{"allowed", "GET /v1/x" + head + "X-Token: a\r\n\r\n", "1", oracle.KernelFlawFLAW_NONE},
		{"without the header", "GET /v1/x" + head + "\r\n", "3", oracle.KernelFlawFLAW_NONE},
		{"the header twice", "GET /v1/x" + head + "X-Token: a\r\nx-token: b\r\n\r\n", "", oracle.KernelFlawFLAW_HEADER},
		{"a body that looks like a request", "POST /v1/x" + head + "X-Token: a\r\nContent-Length: 9\r\n\r\nGET / HTTGET /v1/y" + head + "\r\n", "13", oracle.KernelFlawFLAW_NONE},
		{"two lengths", "POST /v1/x" + head + "X-Token: a\r\nContent-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n", "", oracle.KernelFlawFLAW_FRAMING},
		{"a way out of the path", "GET /v1/../admin" + head + "X-Token: a\r\n\r\n", "", oracle.KernelFlawFLAW_PATH},
		{"HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "", oracle.KernelFlawFLAW_HTTP2},
		{"TLS", "\x16\x03\x01\x02\x00\x01", "", oracle.KernelFlawFLAW_TLS},
	} {
		said.judged(t, c.name, oracle.Connection{Said: c.said}, c.verdicts, c.flaw)
	}
}

// TestHTTP2ThatCannotBeRead: the same over HTTP/2, where what HTTP/1 cannot say can be said.
func TestHTTP2ThatCannotBeRead(t *testing.T) {
	said := newSaid(t)
	field := func(name, value string) hpack.HeaderField { return hpack.HeaderField{Name: name, Value: value} }
	request := func(method, path string, more ...hpack.HeaderField) []hpack.HeaderField {
		return append([]hpack.HeaderField{field(":path", path), field(":method", method), field(":scheme", "https"), field(":authority", "A.example:443")}, more...)
	}
	token := field("x-token", "a")
	for _, c := range []struct {
		name     string
		fields   []hpack.HeaderField
		verdicts string
		flaw     oracle.KernelFlaw
	}{
		{"allowed", request("GET", "/v1/x?y=/../z", field("accept", ""), token), "1", oracle.KernelFlawFLAW_NONE},
		{"without the header", request("GET", "/v1/x", field("accept", "x-token:a")), "3", oracle.KernelFlawFLAW_NONE},
		{"the header with more", request("GET", "/v1/x", field("x-token", "ab")), "3", oracle.KernelFlawFLAW_NONE},
		{"the header twice", request("GET", "/v1/x", token, token), "", oracle.KernelFlawFLAW_HEADER},
		{"the same host twice", request("GET", "/v1/x", token, field("host", "A.example:443")), "1", oracle.KernelFlawFLAW_NONE},
		{"two hosts", request("GET", "/v1/x", token, field("host", "b.example")), "", oracle.KernelFlawFLAW_HOST},
		{"an encoded letter", request("GET", "/v%31/x", token), "1", oracle.KernelFlawFLAW_NONE},
		{"an encoded slash", request("GET", "/v1/%2fadmin", token), "", oracle.KernelFlawFLAW_PATH},
		{"a way out of the path", request("GET", "/v1/../admin", token), "", oracle.KernelFlawFLAW_PATH},
		{"a way out at the end", request("GET", "/v1/..", token), "", oracle.KernelFlawFLAW_PATH},
		{"an absolute target", request("GET", "http://b.example/v1/x", token), "", oracle.KernelFlawFLAW_SYNTAX},
		{"a request line in the path", request("GET", "/v1/x HTTP/1.1", token), "", oracle.KernelFlawFLAW_SYNTAX},
		{"a request line in the method", request("GET /v1/x HTTP/1.1", "/v1/x", token), "", oracle.KernelFlawFLAW_SYNTAX},
		{"a line in a header", request("GET", "/v1/x", token, field("accept", "a\r\nx-token: a")), "", oracle.KernelFlawFLAW_SYNTAX},
		{"a header of HTTP/1", request("GET", "/v1/x", token, field("transfer-encoding", "chunked")), "", oracle.KernelFlawFLAW_FRAMING},
		{"a tunnel", []hpack.HeaderField{field(":method", "CONNECT"), field(":authority", "b.example:443"), token}, "", oracle.KernelFlawFLAW_TUNNEL},
		{"a name too long for any rule", request("GET", "/v1/x", field("x-"+strings.Repeat("long", 30), "a"), token), "1", oracle.KernelFlawFLAW_NONE},
		{"a value of several chunks", request("GET", "/v1/"+strings.Repeat("x", 1000), token), "1", oracle.KernelFlawFLAW_NONE},
	} {
		stream := parse.NewClient(1).Say(c.fields)
		said.judged(t, c.name, oracle.Connection{Said: string(stream), HTTP2: true}, c.verdicts, c.flaw)
	}
	broken := append(parse.NewClient(1).Say(), 0, 0, 1, 1, 5, 0, 0, 0, 1, 0xff, 0xff)
	said.judged(t, "a field that is in no table", oracle.Connection{Said: string(broken), HTTP2: true}, "", oracle.KernelFlawFLAW_HPACK)
}

// saidTo judges what one process says to one peer, under a rule that asks for a path and for a header.
type saidTo struct {
	oracle  *oracle.Oracle
	process policy.Process
}

func newSaid(t *testing.T) *saidTo {
	t.Helper()
	k := open(t, pod.NewNode(t))
	s := &saidTo{oracle.New(t, k), policy.Process{Workload: policy.Workload{Key: 7, Namespace: "default"}, Origin: policy.OriginMain, Exe: "/bin/a"}}
	parsed, err := policy.Parse("p", []byte(`{"apiVersion": "sallyport.dev/v1alpha1", "kind": "ProcessPolicy", "metadata": {"name": "p"},
		"spec": {"podSelector": {}, "rules": [{"egress": [{"toPorts": [{"ports": [{"port": 80, "protocol": "TCP"}], "rules": {"http": [{"path": "/v1/.*", "headers": ["X-Token: a"]}]}}]}]}]}}`))
	if err != nil {
		t.Fatal(err)
	}
	inForce(t, judge.Open(k), policy.Input{Policies: parsed, Workloads: []policy.Workload{s.process.Workload}})
	return s
}

// judged checks what becomes of a connection, in pieces of several sizes: the verdict of each request, and the flaw.
func (s *saidTo) judged(t *testing.T, name string, c oracle.Connection, verdicts string, flaw oracle.KernelFlaw) {
	t.Helper()
	c.Process = s.process
	c.Call = policy.Call{Protocol: 6, Peer: netip.MustParseAddr("192.0.2.9"), Port: 80}
	for _, c.Piece = range []int{1, 7, 240} {
		decisions, found := s.oracle.Requests(t, c)
		got := ""
		for _, d := range decisions {
			got += fmt.Sprint(d.Verdict)
		}
		if got != verdicts || found != flaw {
			t.Errorf("%s, in pieces of %d: verdicts %q, flaw %d; want %q, %d", name, c.Piece, got, found, verdicts, flaw)
		}
	}
}
