package correlate

import (
	"net/netip"

	"github.com/sallyport/sallyport/probes/event"
)

// maxRequests bounds the requests whose answers are waited for; what is said in each is at most 768 bytes.
const maxRequests = 4096

// requestKey tells requests apart: their connection, and when the kernel told them.
type requestKey struct {
	netns         uint64
	local, remote netip.AddrPort
	asked         uint64
}

// requests is what was asked lately, so that an answer can be told with its question. The oldest is forgotten for the
// newest: its answer is told with the connection only.
type requests struct {
	byKey map[requestKey]event.Event
	order []requestKey
	next  int // in order: the oldest, when it is full
}

func keyOfRequest(e *event.Event) requestKey {
	return requestKey{netns: e.NetNS, local: e.Local, remote: e.Remote, asked: e.Asked}
}

// asked remembers a request that passed.
func (q *requests) asked(e *event.Event) {
	if e.Verdict > event.VerdictAudit {
		return
	}
	if q.byKey == nil {
		q.byKey = make(map[requestKey]event.Event)
	}
	key := keyOfRequest(e)
	if len(q.order) < maxRequests {
		q.order = append(q.order, key)
	} else {
		delete(q.byKey, q.order[q.next])
		q.order[q.next], q.next = key, (q.next+1)%maxRequests
	}
	q.byKey[key] = event.Event{Method: e.Method, Host: e.Host, Path: e.Path, Rule: e.Rule, Revision: e.Revision}
}

// answered puts the question to an answer, where it is known.
func (q *requests) answered(e *event.Event) {
	key := keyOfRequest(e)
	of, ok := q.byKey[key]
	if !ok {
		return
	}
	delete(q.byKey, key)
	e.Method, e.Host, e.Path, e.Rule, e.Revision = of.Method, of.Host, of.Path, of.Rule, of.Revision
}
