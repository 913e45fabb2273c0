package attached

import (
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/sallyport/sallyport/probes"
	"github.com/sallyport/sallyport/probes/event"
	"github.com/sallyport/sallyport/probes/tell"
	"github.com/sallyport/sallyport/tests/testutil"
)

// Recorder keeps what the kernel tells.
type Recorder struct {
	mu     sync.Mutex
	events []event.Event
}

// Record reads the rings until the end of the test.
func Record(t testing.TB, k *probes.Kernel) *Recorder {
	t.Helper()
	r := &Recorder{}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- tell.NewReader(k, r.add).Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error("reading events: ", err)
		}
	})
	return r
}

func (r *Recorder) add(e event.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, e)
}

// Find returns the events so far that match, the oldest first.
func (r *Recorder) Find(match func(event.Event) bool) (found []event.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range r.events {
		if match(e) {
			found = append(found, e)
		}
	}
	return found
}

// Wait returns the first event that matches. what it is of is for who reads that it did not come.
func (r *Recorder) Wait(t testing.TB, what string, match func(event.Event) bool) event.Event {
	t.Helper()
	var found []event.Event
	testutil.Eventually(t, what, func() error {
		if found = r.Find(match); len(found) == 0 {
			return errors.New("no such event")
		}
		return nil
	})
	return found[0]
}

// Reset forgets what was told.
func (r *Recorder) Reset() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = nil
}
