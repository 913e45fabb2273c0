package alert

import (
	"context"
	"errors"
	"io"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/sirupsen/logrus"
	"github.com/sirupsen/logrus/hooks/test"
	"go.uber.org/goleak"

	"github.com/sallyport/sallyport/probes/event"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// memory is a sink that keeps what it got, and fails or waits as the test says.
type memory struct {
	name  string
	err   error         // returned by Send
	pause time.Duration // taken by Send

	mu      sync.Mutex
	got     []*Record
	flushes int
	closed  bool
}

func (m *memory) Name() string { return m.name }

func (m *memory) Send(ctx context.Context, r *Record) error {
	if m.pause > 0 {
		select {
		case <-time.After(m.pause):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err != nil {
		return m.err
	}
	m.got = append(m.got, r)
	return nil
}

func (m *memory) Flush(context.Context) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.flushes++
	return nil
}

func (m *memory) Close() error {
	m.closed = true
	return nil
}

func (m *memory) fail(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.err = err
}

// told splits what the sink got into records of the test and losses it was told of.
func (m *memory) told() (pids []uint32, lost uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, r := range m.got {
		if r.Event.Kind == event.KindLost {
			lost += r.Event.Lost
			continue
		}
		pids = append(pids, r.Event.Subject.PID)
	}
	return pids, lost
}

func record(pid int, verdict event.Verdict) *Record {
	return &Record{Event: event.Event{Kind: event.KindConnect, Verdict: verdict, Subject: event.Subject{PID: uint32(pid)}}}
}

// start runs a fan-out; the returned function ends it and returns what Run returned.
func start(t *testing.T, cfg Config, sinks ...Sink) (*Fanout, func() error) {
	t.Helper()
	log := logrus.New()
	log.SetOutput(io.Discard)
	cfg.Log = log
	f, err := NewFanout(cfg, sinks...)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- f.Run(ctx) }()
	return f, func() error {
		cancel()
		return <-done
	}
}

func sums(t *testing.T, f *Fanout) {
	t.Helper()
	for _, s := range f.Stats() {
		if s.Published != s.Sent+s.Lost+uint64(s.Queued) {
			t.Errorf("sink %s: %d published, but %d sent, %d lost, %d queued", s.Sink, s.Published, s.Sent, s.Lost, s.Queued)
		}
	}
}

func TestSlowSinkBlocksNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow, fast := &memory{name: "slow", pause: time.Hour}, &memory{name: "fast"}
		f, stop := start(t, Config{Queue: 4, Drain: time.Second}, slow, fast)
		for pid := range 10 {
			f.Publish(record(pid, event.VerdictDeny))
			synctest.Wait()
		}
		if diff := cmp.Diff(Stats{Sink: "slow", Queued: 5, Capacity: 4, Published: 10, Lost: 5}, f.Stats()[0]); diff != "" {
			t.Errorf("slow sink (-want +got):\n%s", diff)
		}
		if pids, lost := fast.told(); len(pids) != 10 || lost != 0 {
			t.Errorf("fast sink got %v and %d losses", pids, lost)
		}
		if err := stop(); err != nil {
			t.Error(err)
		}
		sums(t, f)
		if got := f.Stats()[0]; got.Lost != 10 || got.Queued != 0 {
			t.Errorf("after the drain time %+v, want all lost", got)
		}
		if !slow.closed || !fast.closed {
			t.Error("a sink was not closed")
		}
	})
}

func TestTrafficDoesNotDisplaceAlerts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sink := &memory{name: "m", err: errors.New("away")}
		f, stop := start(t, Config{Queue: 8}, sink)
		f.Publish(record(1000, event.VerdictAllow)) // taken out of the queue, being sent
		synctest.Wait()
		for pid := range 100 {
			f.Publish(record(pid, event.VerdictAllow))
		}
		for pid := 200; pid < 204; pid++ {
			f.Publish(record(pid, event.VerdictDeny))
		}
		sink.fail(nil)
		time.Sleep(time.Minute)
		pids, lost := sink.told()
		if diff := cmp.Diff([]uint32{1000, 0, 1, 2, 3, 200, 201, 202, 203}, pids); diff != "" {
			t.Errorf("sent (-want +got):\n%s", diff)
		}
		if lost != 96 || f.Stats()[0].Lost != 96 {
			t.Errorf("told of %d losses, counted %d, want 96", lost, f.Stats()[0].Lost)
		}
		sums(t, f)
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
}

func TestSinkDownAndUpAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sink := &memory{name: "m", err: errors.New("away")}
		f, stop := start(t, Config{Queue: 100, RetryMin: time.Second, RetryMax: 8 * time.Second}, sink)
		for pid := range 120 {
			f.Publish(record(pid, event.VerdictDeny))
		}
		time.Sleep(time.Hour)
		s := f.Stats()[0]
		if !s.Down || s.Sent != 0 {
			t.Errorf("while away %+v", s)
		}
		// Pauses are half fixed, half random: 8 s at most and 4 s at least once they have grown.
		if s.Retries < 450 || s.Retries > 905 {
			t.Errorf("%d attempts in an hour", s.Retries)
		}
		sink.fail(nil)
		time.Sleep(time.Minute)
		pids, lost := sink.told()
		if uint64(len(pids)) != f.Stats()[0].Sent || uint64(len(pids))+lost != 120 {
			t.Errorf("%d arrived and %d are told as lost, of 120", len(pids), lost)
		}
		for i := 1; i < len(pids); i++ {
			if pids[i] <= pids[i-1] {
				t.Fatalf("order broken: %v", pids)
			}
		}
		if f.Stats()[0].Down {
			t.Error("still down")
		}
		if err := stop(); err != nil {
			t.Error(err)
		}
		sums(t, f)
	})
}

func TestRejectedRecordsAreLostAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sink := &memory{name: "m", err: ErrRejected}
		f, stop := start(t, Config{}, sink)
		f.Publish(record(1, event.VerdictDeny))
		synctest.Wait()
		sink.fail(nil)
		f.Publish(record(2, event.VerdictDeny))
		time.Sleep(2 * time.Second)
		if s := f.Stats()[0]; s.Lost != 1 || s.Sent != 1 || s.Down {
			t.Errorf("%+v", s)
		}
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
}

func TestLossesThatCannotBeToldAreLogged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, hook := test.NewNullLogger()
		f, err := NewFanout(Config{Log: log, Queue: 2, Drain: time.Second}, &memory{name: "m", err: errors.New("away")})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- f.Run(ctx) }()
		for pid := range 10 {
			f.Publish(record(pid, event.VerdictDeny))
		}
		time.Sleep(time.Minute)
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		last := hook.LastEntry()
		if last == nil || last.Level != logrus.WarnLevel || last.Data["untold"] != uint64(10) || last.Data["lost"] != uint64(10) {
			t.Errorf("the last log line is %+v", last)
		}
		sums(t, f)
	})
}

func TestRunDrainsAndThenCountsAsLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sink := &memory{name: "m", pause: 100 * time.Millisecond}
		f, stop := start(t, Config{Drain: 5 * time.Second}, sink)
		for pid := range 30 {
			f.Publish(record(pid, event.VerdictDeny))
		}
		begin := time.Now()
		if err := stop(); err != nil {
			t.Error(err)
		}
		if took := time.Since(begin); took != 3*time.Second {
			t.Errorf("draining 30 records took %s", took)
		}
		f.Publish(record(31, event.VerdictDeny))
		if s := f.Stats()[0]; s.Sent != 30 || s.Lost != 1 || s.Queued != 0 {
			t.Errorf("%+v", s)
		}
		sums(t, f)
		if err := f.Run(t.Context()); err == nil {
			t.Error("a second Run did not fail")
		}
	})
}

func TestIdleSinkIsFlushed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sink := &memory{name: "m"}
		_, stop := start(t, Config{}, sink)
		time.Sleep(10*flushEvery + flushEvery/2)
		if err := stop(); err != nil {
			t.Error(err)
		}
		if sink.flushes != 10 {
			t.Errorf("%d flushes in ten pauses", sink.flushes)
		}
	})
}

func TestManyPublishers(t *testing.T) {
	t.Parallel()
	sink := &memory{name: "m"}
	f, stop := start(t, Config{Queue: 64}, sink)
	var publishers sync.WaitGroup
	for range 4 {
		publishers.Go(func() {
			for pid := range 5000 {
				f.Publish(record(pid, event.Verdict(pid%7)))
			}
		})
	}
	publishers.Wait()
	if err := stop(); err != nil {
		t.Error(err)
	}
	sums(t, f)
	pids, lost := sink.told()
	if uint64(len(pids))+lost != 20000 {
		t.Errorf("%d arrived and %d told as lost, of 20000", len(pids), lost)
	}
}

func TestNewFanoutRefusesNonsense(t *testing.T) {
	t.Parallel()
	log := logrus.New()
	for name, cfg := range map[string]Config{
		"no logger": {}, "tiny queue": {Log: log, Queue: 1}, "crossed pauses": {Log: log, RetryMin: 2, RetryMax: 1},
	} {
		if _, err := NewFanout(cfg); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if _, err := NewFanout(Config{Log: log}, &memory{name: "m"}, &memory{name: "m"}); err == nil {
		t.Error("two sinks of one name: no error")
	}
}
