package match_test

import (
	"strings"
	"testing"

	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/policy/match"
)

// TestJudgeInside is the meaning of rules.http and serverNames.
func TestJudgeInside(t *testing.T) {
	t.Parallel()
	p := match.Process{Workload: policy.Workload{Namespace: "shop"}, Origin: policy.OriginMain, Exe: "/web"}
	http := func(rules string) string {
		return "{egress: [{toPorts: [{ports: [{port: 80, protocol: TCP}], rules: {http: [" + rules + "]}}]}]}"
	}
	const yes, no = "Allow rule shop/p0/rule-0", "Deny warning rule shop/p0/rule-0"
	request := policy.Request{
		Call: call(tcp, "203.0.113.9", 80), Method: "POST", Path: "/v1/charge/7", Host: "pay.example",
		Headers: []policy.Header{{Name: "X-Token", Value: "a"}, {Name: "x-token", Value: "b"}},
	}
	for _, tt := range []struct{ name, rule, want string }{
		{"any request", http("{}"), yes},
		{"method and path", http("{method: POST, path: '/v1/charge(/.*)?'}"), yes},
		{"other method", http("{method: GET, path: '/v1/charge(/.*)?'}"), no},
		{"a part of the path", http("{path: /v1/charge}"), no},
		{"one of two", http("{method: GET}, {host: '.*[.]example'}"), yes},
		{"no mixture of two", http("{method: GET}, {method: POST, host: other}"), no},
		{"header", http("{headers: [x-token]}"), yes},
		{"header with one of its values", http("{headers: ['X-TOKEN: b']}"), yes},
		{"header with another value", http("{headerMatches: [{name: X-Token, value: c}]}"), no},
		{"missing header", http("{headers: [X-Token, X-Other]}"), no},
		{"nothing said about requests", "{egress: [{toPorts: [{ports: [{port: 80, protocol: TCP}]}]}]}", yes},
		{"a server name, which only TLS asks for", "{egress: [{toPorts: [{ports: [{port: 80, protocol: TCP}], serverNames: [pay.example]}]}]}", no},
		{"another port", "{egress: [{toPorts: [{ports: [{port: 81, protocol: TCP}], rules: {http: [{}]}}]}]}", "Deny warning default shop/p0/rule-0"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			e := match.ExplainRequest(input(t, tt.rule), p, request)
			if got := short(e.Decision); got != tt.want || e.Decision != match.JudgeRequest(input(t, tt.rule), p, request) {
				t.Errorf("got %s, not %s\n%s", got, tt.want, e.Why)
			}
		})
	}
	e := match.ExplainRequest(input(t, http("{method: GET}")), p, request)
	if e.Why != "Deny: rule shop/p0/rule-0 denies the request POST pay.example/v1/charge/7" || e.Rules[0].Why != "allows the peer, but the request POST pay.example/v1/charge/7 matches none of rules.http" {
		t.Errorf("%s; %s", e.Why, e.Rules[0].Why)
	}
	const inTLS = "{egress: [{toPorts: [{ports: [{port: 80, protocol: TCP}], serverNames: ['*.example']}]}]}"
	for server, want := range map[string]string{"pay.example": yes, "pay.other": no, "": no} {
		r := request
		r.Server = server
		e := match.ExplainRequest(input(t, inTLS), p, r)
		if short(e.Decision) != want || e.Decision != match.JudgeRequest(input(t, inTLS), p, r) {
			t.Errorf("in TLS for %q: %s", server, e.Why)
		}
		if why := e.Rules[0].Why; want == no && !strings.HasSuffix(why, " is none of [*.example]") {
			t.Errorf("in TLS for %q: %s", server, why)
		}
	}
	const names = "{egress: [{toPorts: [{ports: [{port: 443, protocol: TCP}], serverNames: ['*.example']}]}]}"
	for name, want := range map[string]string{"pay.example": yes, "example": no, "": no} {
		h := policy.Hello{Call: call(tcp, "203.0.113.9", 443), ServerName: name}
		if e := match.ExplainHello(input(t, names), p, h); short(e.Decision) != want || e.Decision != match.JudgeHello(input(t, names), p, h) {
			t.Errorf("%q: %s", name, e.Why)
		}
	}
}
