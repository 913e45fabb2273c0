package correlate

import (
	"net/http"
	"net/netip"
	"testing"

	"github.com/sallyport/sallyport/probes/event"
)

// An answer gets the question of the request that its connection was told with, once; of too many the oldest is forgotten.
func TestAnswersGetTheirQuestions(t *testing.T) {
	g := New(Config{})
	at := func(asked uint64) event.Event {
		return event.Event{
			Kind: event.KindRequest, NetNS: 7, Asked: asked, Verdict: event.VerdictAllow,
			Local: netip.MustParseAddrPort("10.0.0.2:40000"), Remote: netip.MustParseAddrPort("192.0.2.1:80"),
		}
	}
	ask := func(asked uint64, path string) {
		e := at(asked)
		e.Method, e.Host, e.Path, e.Rule = http.MethodGet, "a.example", path, 9
		g.Join(e)
	}
	answer := func(asked uint64) event.Event {
		e := at(asked)
		e.Kind, e.Verdict, e.Status = event.KindResponse, event.VerdictNone, 200
		return g.Join(e).Event
	}
	ask(1, "/one")
	ask(2, "/two")
	if e := answer(2); e.Path != "/two" || e.Method != http.MethodGet || e.Host != "a.example" || e.Rule != 9 || e.Status != 200 {
		t.Errorf("the second is told as %+v", e)
	}
	if e := answer(2); e.Path != "" {
		t.Errorf("a second answer is told with the question %q", e.Path)
	}
	denied := at(3)
	denied.Verdict, denied.Path = event.VerdictDeny, "/denied"
	g.Join(denied)
	if e := answer(3); e.Path != "" {
		t.Errorf("a request that was denied got an answer: %+v", e)
	}
	for i := range uint64(maxRequests) {
		ask(10+i, "/more")
	}
	if e := answer(1); e.Path != "" || e.Status != 200 {
		t.Errorf("of too many the oldest is told as %+v", e)
	}
	if e := answer(10 + maxRequests - 1); e.Path != "/more" {
		t.Errorf("the newest is told as %+v", e)
	}
	if n := len(g.requests.order); n != maxRequests || len(g.requests.byKey) >= maxRequests {
		t.Errorf("%d requests are kept, of which %d wait", n, len(g.requests.byKey))
	}
}
