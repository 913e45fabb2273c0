package oracle

import (
	"testing"

	"github.com/cilium/ebpf"

	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/policy/compile"
)

// Connection is what a process says on a connection.
type Connection struct {
	Process policy.Process
	Call    policy.Call // that opened it
	Said    string
	Server  string // that it asks for, if it is TLS
	HTTP2   bool   // of what is said; else HTTP/1
	Piece   int    // bytes of what is said that come at once
}

// Requests reads a connection. It returns what is decided of each request, and the flaw (enum flaw) for which nothing more
// can be read; 0: none.
func (o *Oracle) Requests(t testing.TB, c Connection) (decisions []compile.Decision, flaw KernelFlaw) {
	t.Helper()
	o.Put(t, c.Process, c.Call, false)
	o.put(t, func(query *KernelQuery) { query.Server = uint16(o.accepts(t, "oracle_server", c.Server)) })
	o.Begin(t)
	program := o.Program("oracle_http")
	if c.HTTP2 {
		program = o.Program("oracle_http2")
	}
	for at := 0; at < len(c.Said); at += c.Piece {
		piece := c.Said[at:min(at+c.Piece, len(c.Said))]
		if code, err := program.Run(&ebpf.RunOptions{Data: Frame([]byte(piece))}); err != nil || code != 0 {
			t.Fatalf("the oracle ended with %d: %v: %q", code, err, piece)
		}
	}
	return o.Judged(t)
}

// Begin begins a connection, of the process and to the peer of the question last put. oracle_http or oracle_http2 read what
// is said on it, in packets as Frame makes them.
func (o *Oracle) Begin(t testing.TB) {
	t.Helper()
	set(t, o.coll, "oracle_request", &KernelRequest{})
	set(t, o.coll, "oracle_h2", &KernelH2{})
	set(t, o.coll, "oracle_judged", &KernelJudged{})
}

// Judged is what has been decided since Begin, as Requests returns it.
func (o *Oracle) Judged(t testing.TB) (decisions []compile.Decision, flaw KernelFlaw) {
	t.Helper()
	var judged KernelJudged
	get(t, o.coll, "oracle_judged", &judged)
	for _, a := range judged.Answer[:min(int(judged.Requests), len(judged.Answer))] {
		decisions = append(decisions, a.decision())
	}
	return decisions, judged.Flaw
}
