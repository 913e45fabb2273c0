package api

import (
	"cmp"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/sallyport/sallyport/agent/internal/alert"
)

// Feed gives records to observers and keeps the newest for those who come later: alerts apart from
// traffic, so that traffic cannot displace them. It never blocks who publishes.
type Feed struct {
	mu        sync.Mutex
	alerts    ring
	traffic   ring
	published uint64
	observers map[*observer]struct{}
}

// The newest records that are kept, each of about a KiB, and the records that wait for one observer.
const (
	keptAlerts   = 4096
	keptTraffic  = 4096
	observeQueue = 4096
)

// NewFeed makes a feed.
func NewFeed() *Feed {
	return &Feed{
		alerts: ring{limit: keptAlerts}, traffic: ring{limit: keptTraffic}, observers: map[*observer]struct{}{},
	}
}

// Publish gives a record to the observers that want it. The record must not be changed any more.
func (f *Feed) Publish(r *alert.Record) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.published++
	kept := &f.traffic
	if r.Important() {
		kept = &f.alerts
	}
	kept.add(numbered{f.published, r})
	for o := range f.observers {
		if !o.match(r) {
			continue
		}
		select {
		case o.queue <- r:
		default:
			o.lost.Add(1)
		}
	}
}

// observer is one caller of Observe.
type observer struct {
	match   func(*alert.Record) bool
	backlog []*alert.Record // kept records that match, oldest first
	queue   chan *alert.Record
	lost    atomic.Uint64 // records that found the queue full
}

// observe starts an observer: what is not in its backlog comes through its queue.
func (f *Feed) observe(match func(*alert.Record) bool) *observer {
	o := &observer{match: match, queue: make(chan *alert.Record, observeQueue)}
	f.mu.Lock()
	kept := slices.Concat(f.alerts.records, f.traffic.records)
	f.observers[o] = struct{}{}
	f.mu.Unlock()

	slices.SortFunc(kept, func(a, b numbered) int { return cmp.Compare(a.number, b.number) })
	for _, k := range kept {
		if match(k.record) {
			o.backlog = append(o.backlog, k.record)
		}
	}
	return o
}

// leave ends an observer.
func (f *Feed) leave(o *observer) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.observers, o)
}

// numbered is a record and its place among all that were published.
type numbered struct {
	number uint64
	record *alert.Record
}

// ring keeps the newest limit records, in no order.
type ring struct {
	limit   int
	next    int // place of the oldest, once the ring is full
	records []numbered
}

func (r *ring) add(n numbered) {
	if len(r.records) < r.limit {
		r.records = append(r.records, n)
		return
	}
	r.records[r.next] = n
	r.next = (r.next + 1) % r.limit
}
