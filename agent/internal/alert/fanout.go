package alert

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sirupsen/logrus"
)

// ErrRejected is wrapped by a Sink when a record can never be sent, so that trying again is of no
// use: the record counts as lost at once.
var ErrRejected = errors.New("record rejected")

// Sink is one place that records go to. Its methods are called from one goroutine at a time.
type Sink interface {
	// Name tells the sink apart in metrics, log lines and Lost records.
	Name() string
	// Send hands over one record. An error means that it did not arrive, and Send is called again
	// with the same record after a pause, unless the error wraps ErrRejected. It must return soon
	// after ctx is done, must not keep r, and must not change it.
	Send(ctx context.Context, r *Record) error
	// Close gives up what the sink holds. Send is not called any more.
	Close() error
}

// Flusher is a Sink that can have records on their way after Send took them. Flush is called about
// once a second while there is nothing to send, from the goroutine of Send, and brings on what a
// broken connection held up. An error marks the sink as down.
type Flusher interface {
	Flush(ctx context.Context) error
}

// Config says how a Fanout queues and repeats. Zero values get the defaults.
type Config struct {
	Log      logrus.FieldLogger // required
	Queue    int                // records that wait per sink; default 8192
	Drain    time.Duration      // how long Run may go on sending after its context is done; default 5 s
	RetryMin time.Duration      // pause after the first failed Send, doubled each time; default 100 ms
	RetryMax time.Duration      // the longest pause; default 10 s
	Now      func() time.Time   // clock of Lost records; default time.Now
}

const (
	defaultQueue    = 8192
	defaultDrain    = 5 * time.Second
	defaultRetryMin = 100 * time.Millisecond
	defaultRetryMax = 10 * time.Second
	minQueue        = 2 // below, nothing is left for traffic
)

func (c Config) withDefaults() Config {
	if c.Queue == 0 {
		c.Queue = defaultQueue
	}
	if c.Drain == 0 {
		c.Drain = defaultDrain
	}
	if c.RetryMin == 0 {
		c.RetryMin = defaultRetryMin
	}
	if c.RetryMax == 0 {
		c.RetryMax = max(defaultRetryMax, c.RetryMin)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return c
}

// Stats is what became of the records of one sink. Published = Sent + Lost + Queued.
type Stats struct {
	Sink      string
	Queued    int    // waiting, or being sent
	Capacity  int    // of the queue
	Published uint64 // records handed to Publish
	Sent      uint64 // records that Send took; Lost records that the fan-out made are not counted
	Lost      uint64 // records that did not fit, were rejected, or were left when Run ended
	Retries   uint64 // failed calls of Send and Flush that were or will be repeated
	Down      bool   // the last Send or Flush failed
}

// Fanout hands every record to every sink. Each sink has a queue and a goroutine of its own, so
// that a slow sink blocks neither the publisher nor another sink. When a queue is full the new
// record is lost for that sink, counted, and told to the sink as a Lost record before the next
// one. Traffic may fill only half of a queue; the rest is kept for what Record.Important says.
type Fanout struct {
	cfg   Config
	lanes []*lane
	ran   atomic.Bool
}

// NewFanout makes a fan-out that owns the sinks: Run closes them. It fails on settings that make
// no sense and on two sinks of one name.
func NewFanout(cfg Config, sinks ...Sink) (*Fanout, error) {
	cfg = cfg.withDefaults()
	switch {
	case cfg.Log == nil:
		return nil, errors.New("making the alert fan-out: no logger")
	case cfg.Queue < minQueue:
		return nil, fmt.Errorf("making the alert fan-out: a queue of %d, must be at least %d", cfg.Queue, minQueue)
	case cfg.Drain < 0, cfg.RetryMin < 0, cfg.RetryMax < cfg.RetryMin:
		return nil, errors.New("making the alert fan-out: negative or crossed durations")
	}
	f := &Fanout{cfg: cfg}
	names := map[string]bool{}
	for _, sink := range sinks {
		name := sink.Name()
		if names[name] {
			return nil, fmt.Errorf("making the alert fan-out: two sinks are called %q", name)
		}
		names[name] = true
		f.lanes = append(f.lanes, newLane(cfg, sink))
	}
	return f, nil
}

// Publish hands r to every sink and returns at once. After Run has ended, what is published counts
// as lost. r must not be changed afterwards.
func (f *Fanout) Publish(r *Record) {
	for _, l := range f.lanes {
		l.push(r)
	}
}

// Stats returns the figures of every sink, in the order of NewFanout.
func (f *Fanout) Stats() []Stats {
	all := make([]Stats, 0, len(f.lanes))
	for _, l := range f.lanes {
		all = append(all, l.stats())
	}
	return all
}

// Run sends until ctx is done, then goes on for at most Config.Drain to empty the queues, counts
// what is left as lost, and closes the sinks. It returns their close errors. It runs once.
func (f *Fanout) Run(ctx context.Context) error {
	if f.ran.Swap(true) {
		return errors.New("running the alert fan-out: it ran before")
	}
	// Sending outlives ctx, by the drain time.
	send, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	var lanes sync.WaitGroup
	for _, l := range f.lanes {
		lanes.Go(func() { l.run(ctx, send) })
	}
	<-ctx.Done()
	deadline := time.AfterFunc(f.cfg.Drain, stop)
	defer deadline.Stop()
	lanes.Wait()
	errs := make([]error, 0, len(f.lanes))
	for _, l := range f.lanes {
		if err := l.sink.Close(); err != nil {
			errs = append(errs, fmt.Errorf("closing sink %s: %w", l.sink.Name(), err))
		}
	}
	return errors.Join(errs...)
}
