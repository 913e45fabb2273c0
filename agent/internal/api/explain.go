package api

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/netip"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	apiv1 "github.com/sallyport/sallyport/agent/internal/api/v1"

	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/policy/match"
)

// ErrNoProcess is wrapped by an Explainer where no process has the number.
var ErrNoProcess = errors.New("there is no such process")

// Explainer says what the policies in force do with something that a running process could do. Its errors are for the
// caller to read.
type Explainer interface {
	Explain(ctx context.Context, pid uint32, q policy.Question) (*apiv1.ExplainResponse, error)
}

// Explain says what the policies in force do with a call of a running process.
func (s *Server) Explain(ctx context.Context, req *apiv1.ExplainRequest) (*apiv1.ExplainResponse, error) {
	if s.cfg.Explainer == nil {
		return nil, status.Error(codes.Unimplemented, "this agent explains nothing")
	}
	q, err := toQuestion(req)
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	answer, err := s.cfg.Explainer.Explain(ctx, req.GetPid(), q)
	switch {
	case errors.Is(err, ErrNoProcess):
		return nil, status.Error(codes.NotFound, err.Error())
	case err != nil:
		return nil, status.Error(codes.FailedPrecondition, err.Error())
	}
	makeValid(answer.ProtoReflect())
	return answer, nil
}

// ExplainRequest is a question about a process as the API takes it.
func ExplainRequest(pid uint32, q policy.Question) *apiv1.ExplainRequest {
	c := &q.Call
	out := &apiv1.ExplainRequest{
		Pid: pid, Ingress: c.Direction == policy.Ingress, Listen: c.Listen, Protocol: uint32(c.Protocol), Port: uint32(c.Port), Names: c.Names,
		Query: q.Query, ServerName: q.ServerName,
	}
	if c.Peer.IsValid() {
		out.Peer = c.Peer.Unmap().WithZone("").AsSlice()
	}
	if c.ICMPType != nil {
		n := uint32(*c.ICMPType)
		out.IcmpType = &n
	}
	if r := q.Request; r != nil {
		out.Request = &apiv1.HTTPRequest{Method: r.Method, Path: r.Path, Host: r.Host}
		for _, h := range r.Headers {
			out.Request.Headers = append(out.Request.Headers, &apiv1.HTTPHeader{Name: h.Name, Value: h.Value})
		}
	}
	return out
}

// toQuestion is what ExplainRequest was made of.
func toQuestion(req *apiv1.ExplainRequest) (policy.Question, error) {
	if req.GetPid() == 0 || req.GetPid() > math.MaxInt32 || req.GetProtocol() > math.MaxUint8 || req.GetPort() > math.MaxUint16 || req.GetIcmpType() > math.MaxUint8 {
		return policy.Question{}, errors.New("a pid, protocol, port or type is out of range")
	}
	q := policy.Question{
		Call: policy.Call{
			Protocol: uint8(req.GetProtocol()), Port: uint16(req.GetPort()), Listen: req.GetListen(), // bounded above
			Names: req.GetNames(),
		},
		Query: req.Query, ServerName: req.ServerName, //nolint:protogetter // whether it is there counts
	}
	if req.GetIngress() {
		q.Call.Direction = policy.Ingress
	}
	if len(req.GetPeer()) > 0 {
		peer, ok := netip.AddrFromSlice(req.GetPeer())
		if !ok {
			return q, fmt.Errorf("a peer of %d bytes is no address", len(req.GetPeer()))
		}
		q.Call.Peer = peer
	}
	if req.IcmpType != nil { //nolint:protogetter // the same
		n := uint8(req.GetIcmpType()) // bounded above
		q.Call.ICMPType = &n
	}
	if r := req.GetRequest(); r != nil {
		q.Request = &policy.Request{Method: r.GetMethod(), Path: r.GetPath(), Host: r.GetHost()}
		for _, h := range r.GetHeaders() {
			q.Request.Headers = append(q.Request.Headers, policy.Header{Name: h.GetName(), Value: h.GetValue()})
		}
	}
	return q, q.Check()
}

// SetExplanation puts an explanation into an answer.
func SetExplanation(out *apiv1.ExplainResponse, e match.Explanation) {
	d := &e.Decision
	out.Why = e.Why
	out.Decision = &apiv1.Decision{
		Verdict: string(d.Verdict), Would: string(d.Would), Severity: string(d.Severity), Reason: string(d.Reason), Rule: d.Rule, Ref: d.Ref,
	}
	for _, r := range e.Rules {
		out.Rules = append(out.Rules, &apiv1.RuleTrace{
			Rule: r.Rule, Selector: int32(r.Selector), Entry: int32(r.Entry), File: r.File, Line: int32(r.Line),
			Direction: r.Direction, Action: string(r.Action), Mode: string(r.Mode), Ref: r.Ref,
			Concerns: r.Concerns, Selects: r.Selects, Matches: r.Matches, Decides: r.Decides, Why: r.Why,
		})
	}
}

// Explanation is what SetExplanation put into an answer.
func Explanation(from *apiv1.ExplainResponse) match.Explanation {
	d := from.GetDecision()
	e := match.Explanation{
		Decision: match.Decision{
			Verdict: policy.Verdict(d.GetVerdict()), Would: policy.Verdict(d.GetWould()), Severity: policy.Severity(d.GetSeverity()),
			Reason: policy.Reason(d.GetReason()), Rule: d.GetRule(), Ref: d.GetRef(),
		},
		Why: from.GetWhy(), Rules: make([]match.RuleTrace, 0, len(from.GetRules())),
	}
	for _, r := range from.GetRules() {
		e.Rules = append(e.Rules, match.RuleTrace{
			Rule: r.GetRule(), Selector: int(r.GetSelector()), Entry: int(r.GetEntry()), File: r.GetFile(), Line: int(r.GetLine()),
			Direction: r.GetDirection(), Action: policy.Action(r.GetAction()), Mode: policy.Mode(r.GetMode()), Ref: r.GetRef(),
			Concerns: r.GetConcerns(), Selects: r.GetSelects(), Matches: r.GetMatches(), Decides: r.GetDecides(), Why: r.GetWhy(),
		})
	}
	return e
}
