package policy

import (
	"regexp"
	"slices"
	"strings"
)

// Request is an HTTP request that a process makes or gets. The call is that of its connection; a request
// inside is judged if the call is allowed by a rule that has rules.http. It is what comes inside of a TLS
// connection, too, which rules with serverNames have to allow by its name.
type Request struct {
	Call    Call
	Server  string // that the TLS connection it is in asks for, in the form of NormalName; "" if none, or it is in none
	Method  string
	Path    string // as it was sent, without the query
	Host    string
	Headers []Header // in their order; a name can be there more than once
}

// Header is one header of a request.
type Header struct {
	Name  string // in any case
	Value string
}

// Hello is the beginning of a TLS connection that a process makes or gets: the name that the client asks
// for. It is judged if the call is allowed by a rule that has serverNames.
type Hello struct {
	Call       Call
	ServerName string // in the form of NormalName; "" if none is asked for, which no serverNames match
}

// Requests returns the requests that may be made; nil where nothing is said about requests. A call of gRPC is
// one to the path "/" Service "/" Method, by POST (PROTOCOL-HTTP2.md of gRPC).
func (r *L7Rules) Requests() []HTTPRule {
	if r.GRPC == nil {
		return r.HTTP
	}
	out := make([]HTTPRule, 0, len(r.GRPC))
	for _, g := range r.GRPC {
		method := regexp.QuoteMeta(g.Method)
		if method == "" {
			method = "[^/]+"
		}
		out = append(out, HTTPRule{Method: known("POST"), Path: known("/" + regexp.QuoteMeta(g.Service) + "/" + method)})
	}
	return out
}

// known parses an expression of the letters that grammar_l7.go lets through, which cannot fail.
func known(text string) Regex {
	r, err := ParseRegex(text)
	if err != nil {
		panic("policy: " + text + ": " + err.Error())
	}
	return r
}

// Demands returns the headers that a request must have, in lower case and in the order of their names.
func (r *HTTPRule) Demands() (out []HeaderDemand) {
	for _, h := range r.Headers {
		name, value, valued := strings.Cut(h, ":")
		out = append(out, HeaderDemand{strings.ToLower(name), strings.TrimSpace(value), !valued})
	}
	for _, h := range r.HeaderMatches {
		out = append(out, HeaderDemand{strings.ToLower(h.Name), h.Value, false})
	}
	slices.SortStableFunc(out, func(a, b HeaderDemand) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// HeaderDemand is a header that a request must have.
type HeaderDemand struct {
	Name  string // in lower case
	Value string
	Any   bool // whatever its value
}

// Matches says whether a rule selects a request.
func (r *HTTPRule) Matches(q *Request) bool {
	is := func(e Regex, s string) bool { return e.IsZero() || e.Match(s) }
	if !is(r.Method, q.Method) || !is(r.Path, q.Path) || !is(r.Host, q.Host) {
		return false
	}
	for _, d := range r.Demands() {
		met := slices.ContainsFunc(q.Headers, func(h Header) bool {
			return strings.ToLower(h.Name) == d.Name && (d.Any || h.Value == d.Value)
		})
		if !met {
			return false
		}
	}
	return true
}
