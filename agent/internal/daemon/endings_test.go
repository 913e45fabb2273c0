package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"testing"

	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/probes/event"
	"github.com/sallyport/sallyport/runtime/netns"
)

// TestEndingsNeverBlock: however many requests are denied, who reads events is not held up, and what waits is bounded.
func TestEndingsNeverBlock(t *testing.T) {
	log := logrus.New()
	log.SetOutput(io.Discard)
	d := newEndings(&agent{log: log})
	for i := range 2 * endingsQueued {
		d.push(&event.Event{Socket: uint64(i) + 1})
	}
	if n := len(d.queue); n != endingsQueued {
		t.Errorf("%d connections wait", n)
	}
	if e := <-d.queue; e.Socket != 1 {
		t.Errorf("the first that waits is that of socket %d", e.Socket)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if pause(ctx, endingsPause) {
		t.Error("the agent's end is not heard while waiting")
	}
}

// TestEndedElsewhere: only where another process may be in the network namespace it is looked for.
func TestEndedElsewhere(t *testing.T) {
	for err, want := range map[error]bool{
		nil: false, unix.EPERM: false, errors.ErrUnsupported: false,
		netns.ErrElsewhere: true, fmt.Errorf("opening: %w", fs.ErrNotExist): true, unix.ESRCH: true,
	} {
		if got := isElsewhere(err); got != want {
			t.Errorf("%v: %t", err, got)
		}
	}
}
