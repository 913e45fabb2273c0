// Package details has what clients may say in a query and in headers, hostile things among it, and what is to be told of it.
package details

import (
	"fmt"
	"strings"

	"github.com/google/go-cmp/cmp"

	"github.com/sallyport/sallyport/probes/event"
)

// The most that is told of a query, and of a header's value.
const (
	mostQuery = 256
	mostValue = 128
)

// Headers are those that the cases are about.
func Headers() []string {
	return []string{"x-request-id", "user-agent", "x-" + strings.Repeat("n", 38)}
}

// Secret is in the query and the headers of every case, but for what is told.
const Secret = "s3cr3t"

// Case is a request by curl, and what is told of it beside method, host and path.
type Case struct {
	Name    string
	Args    []string // of curl, before the URL
	Query   string   // of the URL, with its question mark
	Told    string
	Cut     bool
	Headers []event.Header
	HTTP1   bool // over HTTP/2 this is no request
	Large   bool // it may come in several packets
}

// Cases are the cases. curl itself sends Host, User-Agent and Accept.
func Cases() []Case {
	agent := event.Header{Name: "user-agent", Value: "agent", There: true}
	with := func(value string, cut bool) []event.Header {
		return []event.Header{{Name: "x-request-id", Value: value, There: true, Cut: cut}, agent}
	}
	long := Headers()[2]
	id := func(value string) []string { return []string{"-H", "X-Request-ID: " + value} }
	cases := []Case{
		{Name: "nothing", Headers: []event.Header{agent}},
		{Name: "both", Args: id("1234"), Query: "?ship=x&to=%2e%2E/?", Told: "ship=x&to=%2e%2E/?", Headers: with("1234", false)},
		{Name: "an-empty-query", Query: "?", Headers: []event.Header{agent}},
		{Name: "a-long-query", Query: "?" + strings.Repeat("q", 1000), Told: strings.Repeat("q", mostQuery), Cut: true, Headers: []event.Header{agent}},
		{Name: "a-query-that-just-fits", Query: "?" + strings.Repeat("q", mostQuery), Told: strings.Repeat("q", mostQuery), Headers: []event.Header{agent}},
		{Name: "bytes", Args: id("a\xff\tb\"\\\u202e\u2028, c"), Query: "?\xff\"\\", Told: "\xff\"\\", Headers: with("a\xff\tb\"\\\u202e\u2028, c", false)},
		{Name: "no-value", Args: []string{"-H", "X-Request-ID;"}, Headers: with("", false)},
		{Name: "no-header", Args: []string{"-H", "User-Agent:"}},
		{Name: "a-value-that-just-fits", Args: id(strings.Repeat("v", mostValue)), Headers: with(strings.Repeat("v", mostValue), false)},
		{Name: "a-long-value", Args: id(strings.Repeat("v", mostValue+1)), Headers: with(strings.Repeat("v", mostValue), true)},
		{Name: "twice", Args: append(id("first"), id(Secret)...), Headers: with("first", true)},
		{
			Name: "a-long-name", Args: []string{"-H", long + ": value", "-H", long + "n: " + Secret, "-H", long[:39] + ": " + Secret},
			Headers: []event.Header{agent, {Name: long, Value: "value", There: true}},
		},
		{Name: "other-names", Args: []string{
			"-H", "X-Request-I: " + Secret, "-H", "X-Request-IDs: " + Secret, "-H", "X: x-request-id:" + Secret, "-H", "Authorization: x-request-id: " + Secret, "-H", "Cookie: " + Secret,
		}, Headers: []event.Header{agent}},
		{Name: "eight-kibibytes", Large: true, Args: append(id("1234"), "-H", "X-A: "+strings.Repeat(Secret, 1200)), Headers: with("1234", false)},
	}
	many := Case{Name: "a-thousand-headers", HTTP1: true, Large: true, Headers: []event.Header{agent}}
	for range 1000 {
		many.Args = append(many.Args, "-H", "X: y")
	}
	for i := range cases {
		if !strings.HasPrefix(cases[i].Name, "no-header") {
			cases[i].Args = append(cases[i].Args, "-A", "agent")
		}
	}
	many.Args = append(many.Args, "-A", "agent")
	return append(cases, many)
}

// LeftOut says whether an event has nothing of a query and of headers, and says so.
func LeftOut(e *event.Event) bool {
	for _, h := range e.Headers {
		if h.There || !h.Cut || h.Value != "" {
			return false
		}
	}
	return e.URLQuery == "" && e.URLQueryCut && len(e.Headers) == len(Headers())
}

// Differs says how an event is not what is to be told of a case; "" where it is.
func (c *Case) Differs(e *event.Event) string {
	if strings.Contains(fmt.Sprintf("%+v", e), Secret) {
		return fmt.Sprintf("it has a secret in it: %+v", e)
	}
	type told struct {
		Query   string
		Cut     bool
		Headers []event.Header
	}
	return cmp.Diff(told{c.Told, c.Cut, c.Headers}, told{e.URLQuery, e.URLQueryCut, e.Headers})
}
