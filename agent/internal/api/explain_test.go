package api

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	apiv1 "github.com/sallyport/sallyport/agent/internal/api/v1"

	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/policy/match"
)

// explainer keeps what it is asked, and knows process 7 only.
type explainer struct{ asked policy.Question }

func (e *explainer) Explain(_ context.Context, pid uint32, q policy.Question) (*apiv1.ExplainResponse, error) {
	switch pid {
	case 7:
		e.asked = q
		return &apiv1.ExplainResponse{Why: "because of \xff"}, nil
	case 8:
		return nil, errors.New("it has no label")
	}
	return nil, fmt.Errorf("process %d: %w", pid, ErrNoProcess)
}

func TestExplain(t *testing.T) {
	cfg := config(t)
	asked := &explainer{}
	cfg.Explainer = asked
	client := start(t, cfg)
	echo, name := uint8(8), ""
	for what, q := range map[string]policy.Question{
		"a call":        {Call: policy.Call{Protocol: 6, Peer: netip.MustParseAddr("192.0.2.1"), Port: 443, Names: []string{"a.example"}}},
		"no address":    {Call: policy.Call{Protocol: 255}},
		"a message":     {Call: policy.Call{Protocol: 1, Peer: netip.MustParseAddr("192.0.2.1"), ICMPType: &echo}},
		"a listen":      {Call: policy.Call{Direction: policy.Ingress, Protocol: 6, Port: 80, Listen: true}},
		"a query":       {Call: policy.Call{Protocol: 17, Peer: netip.MustParseAddr("2001:db8::53"), Port: 53}, Query: &name},
		"a server name": {Call: policy.Call{Protocol: 6, Peer: netip.MustParseAddr("192.0.2.1"), Port: 443}, ServerName: &name},
		"a request": {
			Call:    policy.Call{Direction: policy.Ingress, Protocol: 6, Peer: netip.MustParseAddr("192.0.2.1"), Port: 80},
			Request: &policy.Request{Method: "GET", Path: "/", Host: "a", Headers: []policy.Header{{Name: "b", Value: "c"}}},
		},
	} {
		answer, err := client.Explain(t.Context(), ExplainRequest(7, q))
		if err != nil || answer.GetWhy() != "because of \uFFFD" {
			t.Errorf("%s: %v, %v", what, answer, err)
		}
		if diff := cmp.Diff(q, asked.asked, cmpopts.EquateComparable(netip.Addr{})); diff != "" {
			t.Errorf("%s arrives as another (-sent +got)\n%s", what, diff)
		}
	}
}

func TestExplainRefuses(t *testing.T) {
	cfg := config(t)
	cfg.Explainer = &explainer{}
	client := start(t, cfg)
	name := "a.example"
	for what, tt := range map[string]struct {
		req  *apiv1.ExplainRequest
		code codes.Code
	}{
		"no pid":              {&apiv1.ExplainRequest{Protocol: 6}, codes.InvalidArgument},
		"a protocol of 300":   {&apiv1.ExplainRequest{Pid: 7, Protocol: 300}, codes.InvalidArgument},
		"a port of 70000":     {&apiv1.ExplainRequest{Pid: 7, Protocol: 6, Port: 70000}, codes.InvalidArgument},
		"half an address":     {&apiv1.ExplainRequest{Pid: 7, Protocol: 6, Peer: []byte{1, 2}}, codes.InvalidArgument},
		"a query comes in":    {&apiv1.ExplainRequest{Pid: 7, Protocol: 17, Ingress: true, Query: &name}, codes.InvalidArgument},
		"another process":     {&apiv1.ExplainRequest{Pid: 9, Protocol: 6}, codes.NotFound},
		"one without a label": {&apiv1.ExplainRequest{Pid: 8, Protocol: 6}, codes.FailedPrecondition},
	} {
		if _, err := client.Explain(t.Context(), tt.req); status.Code(err) != tt.code {
			t.Errorf("%s: %v, want %s", what, err, tt.code)
		}
	}
	if _, err := start(t, config(t)).Explain(t.Context(), &apiv1.ExplainRequest{Pid: 7}); status.Code(err) != codes.Unimplemented {
		t.Errorf("got %v, want Unimplemented", err)
	}
}

func TestExplanationsComeBack(t *testing.T) {
	decision := match.Decision{Verdict: "Audit", Would: "Kill", Severity: "critical", Reason: "rule", Rule: "a/b/c", Ref: 7}
	trace := match.RuleTrace{
		Rule: "a/b/c", Selector: 1, Entry: -1, File: "f", Line: 3, Direction: "egress", Action: "Deny", Mode: "Audit", Ref: 7,
		Concerns: true, Selects: true, Matches: true, Decides: true, Why: "matches",
	}
	for _, v := range []any{decision, trace} { // a field that is forgotten here is forgotten on the way
		for field, value := range reflect.ValueOf(v).Fields() {
			if value.IsZero() {
				t.Errorf("field %s is not tested", field.Name)
			}
		}
	}
	want := match.Explanation{Decision: decision, Why: "because", Rules: []match.RuleTrace{trace, {Rule: "d"}}}
	var answer apiv1.ExplainResponse
	SetExplanation(&answer, want)
	if diff := cmp.Diff(want, Explanation(&answer)); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}
