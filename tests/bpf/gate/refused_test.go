package gate

import (
	"fmt"
	"structs"
	"testing"

	"github.com/sallyport/sallyport/probes/event"
)

// refusal is struct stream_refusal: what a client is told over TCP instead of an answer.
type refusal struct {
	_          structs.HostLayout
	Place, Len uint32
	Text       [512]byte
}

const flowRefused = 4

// The refusal of the tables, which begins at 5000, and what comes behind it and the end of the connection.
const (
	refused    = "REFUSED"
	refusedEnd = 5000 + uint32(len(refused)) + 1
)

// refusedExchanges are segments of connections that are over because a query at 1000 was refused. In passed is only
// whether something is noted, and what: its End.
func refusedExchanges() []exchange {
	told, broken := &passed{End: text}, &passed{End: reset}
	return []exchange{
		{name: "the query", passed: told, segment: segment(1000, 5000, "PA"), payload: "query", want: redirected, said: refused, is: said(5000, 1005, "PAF")},
		{name: "again, with more", passed: told, segment: segment(1000, 5000, "PA"), payload: "query, query", want: redirected, said: refused, is: said(5000, 1012, "PAF")},
		{name: "with its end", passed: told, segment: segment(1000, 5000, "PAF"), payload: "query", want: redirected, said: refused, is: said(5000, 1006, "PAF")},
		{name: "of a client that has other bytes", passed: told, segment: segment(1000, 4990, "PA"), payload: "query", want: drop},
		{name: "an acknowledgement before it was told", passed: told, segment: segment(1000, 5000, "A"), want: drop},
		{name: "an end before it was told", passed: told, segment: segment(1000, 5000, "AF"), want: drop},
		{name: "more behind the refusal", passed: told, segment: segment(1005, refusedEnd, "PA"), payload: "more", want: redirected, is: said(refusedEnd, 1009, "RA")},
		{name: "the client's end", passed: told, segment: segment(1005, refusedEnd, "AF"), want: redirected, is: said(refusedEnd, 1006, "A")},
		{name: "the refusal acknowledged", passed: told, segment: segment(1005, refusedEnd, "A"), want: drop},
		{name: "a reset by the client", passed: told, segment: segment(1005, 0, "R"), want: next},
		{name: "a reset that carries bytes", passed: told, segment: segment(1005, 0, "R"), payload: "secret", want: drop},
		{name: "a beginning", passed: told, segment: segment(77, 0, "S"), want: drop},
		{name: "nothing is noted", segment: segment(1000, 5000, "PA"), payload: "query", want: drop},
		{name: "nothing is noted, an end", segment: segment(1000, 5000, "AF"), want: drop},
		{name: "the resolver says more", passed: told, back: true, segment: segment(5000, 1000, "PA"), payload: "answer", want: redirected, is: said(1000, 5006, "RA")},
		{name: "the resolver acknowledges", passed: told, back: true, segment: segment(5000, 1000, "A"), want: redirected, is: said(1000, 5000, "RA")},
		{name: "the resolver's reset", passed: told, back: true, segment: segment(5000, 0, "R"), want: next},
		{name: "the resolver without an acknowledgement", passed: told, back: true, segment: segment(5000, 0, "P"), payload: "x", want: drop},
		{name: "to be reset, the query", passed: broken, segment: segment(1000, 5000, "PA"), payload: "query", want: redirected, is: said(5000, 1005, "RA")},
		{name: "to be reset, an acknowledgement", passed: broken, segment: segment(1000, 5000, "A"), want: redirected, is: said(5000, 1000, "RA")},
		{name: "to be reset, the resolver says more", passed: broken, back: true, segment: segment(5000, 1000, "PA"), payload: "answer", want: redirected, is: said(1000, 5006, "RA")},
	}
}

// TestRefused: what goes on at the veth of connections that are over, segment by segment.
func TestRefused(t *testing.T) {
	w := newWorld(t)
	for _, ip6 := range []bool{false, true} {
		for _, stamped := range []bool{false, true} {
			for _, x := range refusedExchanges() {
				t.Run(fmt.Sprintf("ip6=%t/stamped=%t/%s", ip6, stamped, x.name), func(t *testing.T) { x.checkRefused(t, w, ip6, stamped) })
			}
		}
	}
}

func (x exchange) checkRefused(t *testing.T, w *world, ip6, stamped bool) {
	key := tuple4(tcp).key()
	if ip6 {
		key = tuple6(tcp).key()
	}
	defer w.forget(t)
	if err := w.flows.Put(key, &flow{Decision: revision<<8 | uint64(event.VerdictAllow), State: flowRefused}); err != nil {
		t.Fatal(err)
	}
	_ = w.refusals.Delete(key) // of the case before
	if x.passed != nil {
		note := refusal{Place: 5000}
		if x.passed.End == text {
			note.Len = uint32(copy(note.Text[:], refused))
		}
		if err := w.refusals.Put(key, &note); err != nil {
			t.Fatal(err)
		}
	}
	x.run(t, w, ip6, stamped)
}
