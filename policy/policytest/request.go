package policytest

import "github.com/sallyport/sallyport/policy"

// inside makes what a rule says about what passes on TCP ports: requests, or server names.
func (g *generator) inside() policy.PortRule {
	r := policy.PortRule{Ports: some(g, 0,
		policy.Port{Port: 443, Protocol: policy.ProtocolTCP}, policy.Port{Protocol: policy.ProtocolTCP}, policy.Port{Port: 80, EndPort: 8080, Protocol: policy.ProtocolTCP})}
	switch g.IntN(5) {
	case 0:
		r.Rules = &policy.L7Rules{GRPC: []policy.GRPCRule{{Service: "v1", Method: pick(g, "a", "b", "")}}}
		return r
	case 1, 2:
		r.Rules = &policy.L7Rules{}
		for range 1 + g.IntN(2) {
			r.Rules.HTTP = append(r.Rules.HTTP, g.httpRule())
		}
		return r
	}
	for _, s := range g.fqdns() {
		r.ServerNames = append(r.ServerNames, s.Pattern())
	}
	return r
}

func (g *generator) httpRule() (r policy.HTTPRule) {
	maybe := func(list ...string) policy.Regex {
		if g.IntN(2) == 0 {
			return policy.Regex{}
		}
		return regex(pick(g, list...))
	}
	r.Method, r.Path, r.Host = maybe("GET", "GET|POST", "P.*"), maybe("/v1(/.*)?", "/[a-z]*", "/v[0-9]/a+"), maybe("a.example", `(?i).*\.EXAMPLE`)
	if g.IntN(3) == 0 {
		r.Headers = []string{pick(g, "X-A", "x-a: 1", "X-B: 2")}
	}
	if g.IntN(4) == 0 {
		r.HeaderMatches = []policy.HeaderMatch{{Name: "X-C", Value: pick(g, "1", "")}}
	}
	return r
}

// regex parses an expression that is known to be good.
func regex(text string) policy.Regex {
	r, err := policy.ParseRegex(text)
	if err != nil {
		panic(err) // a constant of this file is wrong
	}
	return r
}

// server is a name that a TLS client asks for, or none.
func (g *generator) server() string {
	if g.IntN(4) == 0 {
		return ""
	}
	return g.name()
}

func (g *generator) request(c policy.Call) *policy.Request {
	r := &policy.Request{
		Call: c, Method: pick(g, "GET", "POST", "PUT", "get"), Path: pick(g, "/v1", "/v1/x", "/v2/aa", "/", ""), Host: pick(g, "a.example", "A.EXAMPLE", "other"), Server: g.server(),
	}
	for range g.IntN(4) {
		r.Headers = append(r.Headers, policy.Header{Name: pick(g, "x-a", "X-A", "X-B", "x-c"), Value: pick(g, "1", "2", "")})
	}
	return r
}
