package kube

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/watch"
)

// Health is how well the API is heard.
type Health struct {
	Away  bool      // something cannot be heard
	Since time.Time // since when; zero: it never could be
	Err   error     // why
}

// String is for people.
func (h Health) String() string {
	switch {
	case !h.Away:
		return "connected"
	case h.Since.IsZero():
		return fmt.Sprintf("never heard: %v", h.Err)
	}
	return fmt.Sprintf("away since %s: %v", h.Since.UTC().Format(time.RFC3339), h.Err)
}

// health remembers of each resource whether it could be heard the last time that was tried.
type health struct {
	changed func()

	mu    sync.Mutex
	heard map[string]time.Time // when each was heard last
	away  map[string]error     // why those cannot be heard that cannot
	lost  map[string]time.Time // since when
}

func newHealth(changed func()) *health {
	return &health{changed: changed, heard: map[string]time.Time{}, away: map[string]error{}, lost: map[string]time.Time{}}
}

// saw notes how an attempt on a resource went. One that the caller called off says nothing.
func (h *health) saw(ctx context.Context, name string, err error) {
	if err != nil && ctx.Err() != nil {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	_, was := h.away[name]
	if err == nil {
		h.heard[name] = time.Now()
		delete(h.away, name)
		delete(h.lost, name)
	} else {
		h.away[name] = err
		if _, before := h.heard[name]; before && !was {
			h.lost[name] = time.Now()
		}
	}
	if was != (err != nil) {
		h.changed()
	}
}

// now sums up.
func (h *health) now() Health {
	h.mu.Lock()
	defer h.mu.Unlock()
	out := Health{Away: len(h.away) > 0 || len(h.heard) == 0}
	for name, err := range h.away {
		since := h.lost[name]
		if out.Err == nil || since.Before(out.Since) {
			out.Since, out.Err = since, fmt.Errorf("%s: %w", name, err)
		}
	}
	if out.Away && out.Err == nil {
		out.Err = errUnasked
	}
	return out
}

var (
	errUnasked = errors.New("nothing has answered yet")
	errClosed  = errors.New("the connection was closed at once")
)

// settled is how long a watch must last to be one, if it tells nothing. client-go hands out empty ones where the
// connection is closed before an answer.
const settled = time.Second

// hearing is a watch of which it is noted whether it tells anything.
type hearing struct {
	watch.Interface
	out     chan watch.Event
	stopped chan struct{}
	once    sync.Once
}

// hear notes what a watch is worth, and passes on what it tells.
func (h *health) hear(ctx context.Context, name string, w watch.Interface) watch.Interface {
	out := &hearing{Interface: w, out: make(chan watch.Event), stopped: make(chan struct{})}
	go out.run(func(err error) { h.saw(ctx, name, err) })
	return out
}

// ResultChan implements watch.Interface.
func (w *hearing) ResultChan() <-chan watch.Event { return w.out }

// Stop implements watch.Interface.
func (w *hearing) Stop() {
	w.once.Do(func() {
		close(w.stopped)
		w.Interface.Stop()
	})
}

// ended says whether nobody listens any more.
func (w *hearing) ended() bool {
	select {
	case <-w.stopped:
		return true
	default:
		return false
	}
}

func (w *hearing) run(saw func(error)) {
	defer close(w.out)
	timer := time.NewTimer(settled)
	defer timer.Stop()
	for heard := false; ; {
		select {
		case <-w.stopped:
			return
		case <-timer.C:
			heard = true
			saw(nil)
		case e, ok := <-w.Interface.ResultChan():
			if !ok {
				if !heard && !w.ended() {
					saw(errClosed)
				}
				return
			}
			if !heard {
				heard = true
				saw(nil)
			}
			select {
			case <-w.stopped:
				return
			case w.out <- e:
			}
		}
	}
}
