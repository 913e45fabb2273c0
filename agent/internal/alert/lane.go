package alert

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/sallyport/sallyport/probes/event"
)

// lane is one sink with its queue: a ring that grows up to its capacity.
type lane struct {
	cfg  Config
	sink Sink
	log  logrus.FieldLogger
	wake chan struct{} // holds one token when there may be something to send

	mu         sync.Mutex
	queue      ring
	closed     bool      // nothing is taken any more
	sending    bool      // one record is out of the queue and not yet sent
	unreported uint64    // losses the sink was not told of yet
	told       time.Time // when it was last told
	counts     Stats
}

// noticeEvery bounds how often losses are told while the queue is not empty, so that a sink that is
// merely slow does not spend half its time on Lost records.
const noticeEvery = time.Second

// flushEvery is the pause between calls of Flush on an idle sink.
const flushEvery = time.Second

func newLane(cfg Config, sink Sink) *lane {
	return &lane{
		cfg:    cfg,
		sink:   sink,
		log:    cfg.Log.WithFields(logrus.Fields{"component": "alert", "sink": sink.Name()}),
		wake:   make(chan struct{}, 1),
		queue:  ring{limit: cfg.Queue},
		counts: Stats{Sink: sink.Name(), Capacity: cfg.Queue},
	}
}

// push takes r or counts it as lost. Important records may use the whole queue, traffic half of it.
func (l *lane) push(r *Record) {
	room := l.cfg.Queue
	if !r.Important() {
		room /= 2
	}
	l.mu.Lock()
	l.counts.Published++
	if l.closed || l.queue.n >= room {
		// Fails open for the report only: what was decided was decided in the kernel. The loss is
		// counted here and told to the sink before its next record.
		l.counts.Lost++
		l.unreported++
		l.mu.Unlock()
		return
	}
	l.queue.push(r)
	l.mu.Unlock()
	l.signal()
}

func (l *lane) signal() {
	select {
	case l.wake <- struct{}{}:
	default: // a token is there already
	}
}

func (l *lane) stats() Stats {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.counts
	s.Queued = l.queue.n
	if l.sending {
		s.Queued++
	}
	return s
}

// run sends until ctx is done and the queue is empty, or send is done.
func (l *lane) run(ctx, send context.Context) {
	for {
		r, notice, ok := l.next(ctx, send)
		if !ok {
			break
		}
		err := l.deliver(send, r)
		l.settle(r, notice, err)
	}
	// Whatever is left or comes after this counts as lost, so that the sums stay exact.
	l.mu.Lock()
	l.closed = true
	l.counts.Lost += uint64(l.queue.n)
	l.unreported += uint64(l.queue.n)
	l.queue = ring{limit: l.cfg.Queue}
	untold, lost := l.unreported, l.counts.Lost
	l.mu.Unlock()
	if untold > 0 {
		l.log.WithFields(logrus.Fields{"untold": untold, "lost": lost}).Warn("alert sink ended with losses it was not told of")
	}
}

// next waits for what is to be sent next: a Lost record when one is due, else the oldest of the
// queue. ok is false when the lane is to end.
func (l *lane) next(ctx, send context.Context) (r *Record, notice, ok bool) {
	for {
		if send.Err() != nil {
			return nil, false, false
		}
		l.mu.Lock()
		switch {
		case l.unreported > 0 && (l.queue.n == 0 || l.cfg.Now().Sub(l.told) >= noticeEvery):
			l.told = l.cfg.Now()
			r, notice = l.lostRecord(l.told, l.unreported), true
			l.unreported = 0
		case l.queue.n > 0:
			r = l.queue.pop()
			l.sending = true
		}
		l.mu.Unlock()
		if r != nil {
			return r, notice, true
		}
		if !l.idle(ctx, send) {
			return nil, false, false
		}
	}
}

// idle waits until there may be something to send, and reports false when nothing will come.
func (l *lane) idle(ctx, send context.Context) bool {
	var tick <-chan time.Time
	flusher, ok := l.sink.(Flusher)
	if ok {
		timer := time.NewTimer(flushEvery)
		defer timer.Stop()
		tick = timer.C
	}
	select {
	case <-l.wake:
	case <-tick:
		l.note(flusher.Flush(send))
	case <-ctx.Done():
		// Draining: one more look, since a record may have come with the end.
		l.mu.Lock()
		defer l.mu.Unlock()
		l.closed = l.queue.n == 0 && l.unreported == 0
		return !l.closed
	}
	return true
}

func (l *lane) lostRecord(at time.Time, n uint64) *Record {
	return &Record{Event: event.Event{
		Time:     at,
		Kind:     event.KindLost,
		Severity: event.SeverityWarning,
		Lost:     n,
		Site:     "sink/" + l.sink.Name(),
	}}
}

// deliver sends r, again and again with growing pauses until it arrived, was rejected or send is
// done.
func (l *lane) deliver(send context.Context, r *Record) error {
	pause := l.cfg.RetryMin
	for {
		err := l.sink.Send(send, r)
		l.note(err)
		if err == nil || errors.Is(err, ErrRejected) {
			return err
		}
		if send.Err() != nil {
			return err
		}
		// Half of the pause is random, so that the agents of a cluster do not return in step.
		timer := time.NewTimer(pause/2 + rand.N(pause/2+1)) //nolint:gosec // jitter, not a secret
		select {
		case <-timer.C:
		case <-send.Done():
			timer.Stop()
			return err
		}
		pause = min(pause*2, l.cfg.RetryMax)
	}
}

// note keeps the state of the sink, and logs when it changes rather than at every failure.
func (l *lane) note(err error) {
	rejected := errors.Is(err, ErrRejected)
	l.mu.Lock()
	was := l.counts.Down
	l.counts.Down = err != nil && !rejected
	if l.counts.Down {
		l.counts.Retries++
	}
	down := l.counts.Down
	l.mu.Unlock()
	switch {
	case rejected:
		l.log.WithError(err).Debug("alert sink rejected a record")
	case down && !was:
		l.log.WithError(err).Warn("alert sink is down, records wait")
	case !down && was:
		l.log.Info("alert sink is up again")
	}
}

// settle does the books for one record, or for a notice of losses.
func (l *lane) settle(r *Record, notice bool, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if notice {
		if err != nil && !errors.Is(err, ErrRejected) {
			l.unreported += r.Event.Lost // to be told once more
		}
		return
	}
	l.sending = false
	if err != nil {
		l.counts.Lost++
		l.unreported++
		return
	}
	l.counts.Sent++
}

// ring is a first-in first-out queue of at most limit records. It grows by need, so that an idle
// sink costs nothing.
type ring struct {
	limit int
	buf   []*Record
	head  int
	n     int
}

func (q *ring) push(r *Record) {
	if q.n == len(q.buf) {
		const start = 64
		grown := make([]*Record, min(max(2*len(q.buf), start), q.limit))
		for i := range q.n {
			grown[i] = q.buf[(q.head+i)%len(q.buf)]
		}
		q.buf, q.head = grown, 0
	}
	q.buf[(q.head+q.n)%len(q.buf)] = r
	q.n++
}

func (q *ring) pop() *Record {
	r := q.buf[q.head]
	q.buf[q.head] = nil // let it go
	q.head = (q.head + 1) % len(q.buf)
	q.n--
	return r
}
