package metrics

import (
	"strconv"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sallyport/sallyport/agent/internal/alert"
	"github.com/sallyport/sallyport/probes/event"
)

// Observe counts one event.
func (m *Metrics) Observe(e *event.Event) {
	if e.Kind == event.KindLost {
		m.events.WithLabelValues(known(alert.KindName(e.Kind))).Inc()
		m.lost.WithLabelValues(m.sites.bounded(e.Site)).Add(float64(e.Lost))
		return
	}
	for _, c := range m.found.of(sortOf{e.Kind, e.Call, e.Verdict, e.Reason}, m.countersOf) {
		c.Inc()
	}
}

// countersOf are those that an event of a sort adds to.
func (m *Metrics) countersOf(s sortOf) []prometheus.Counter {
	found := []prometheus.Counter{m.events.WithLabelValues(known(alert.KindName(s.kind)))}
	if s.verdict == event.VerdictNone {
		return found
	}
	verdict, reason := known(alert.VerdictName(s.verdict)), known(alert.ReasonName(s.reason))
	switch s.kind {
	case event.KindFlow, event.KindForeign, event.KindDNS, event.KindRequest, event.KindHello:
		found = append(found, m.gated.WithLabelValues(verdict, reason))
	case event.KindExec, event.KindExit, event.KindSessionStart, event.KindSessionEnd, event.KindConnect,
		event.KindListen, event.KindSocket, event.KindCgroup, event.KindLost, event.KindBorrow, event.KindTamper, event.KindKTLS:
		found = append(found, m.judged.WithLabelValues(known(alert.CallName(s.call)), verdict, reason))
	case event.KindLate, event.KindStale, event.KindResponse, event.KindTunnel: // counted by their kinds
	}
	return found
}

// sortOf is what the counters of an event depend on.
type sortOf struct {
	kind    event.Kind
	call    event.Call
	verdict event.Verdict
	reason  event.Reason
}

// maxSorts bounds a counterCache; there are some two hundred sorts of events.
const maxSorts = 1024

// counterCache keeps which counters the sorts of events add to: to look them up by their labels takes longer than to read an
// event, of which there may be one for each request. The zero cache is ready.
type counterCache struct {
	mu     sync.RWMutex
	bySort map[sortOf][]prometheus.Counter
}

// of returns the counters of a sort, which find knows.
func (c *counterCache) of(s sortOf, find func(sortOf) []prometheus.Counter) []prometheus.Counter {
	c.mu.RLock()
	counters, ok := c.bySort[s]
	c.mu.RUnlock()
	if ok {
		return counters
	}
	counters = find(s)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.bySort == nil {
		c.bySort = map[sortOf][]prometheus.Counter{}
	}
	if len(c.bySort) < maxSorts {
		c.bySort[s] = counters
	}
	return counters
}

// known keeps what the tables of names do not know (a number) from becoming a series each.
func known(name string) string {
	if _, err := strconv.Atoi(name); err == nil {
		return "other"
	}
	if name == "" {
		return "none"
	}
	return name
}
