package daemon

import (
	"context"
	"errors"
	"io/fs"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/probes/event"
	"github.com/sallyport/sallyport/runtime/netns"
)

// A workload can have as many requests denied as it likes: so many wait for the end of their connections, and after one
// that had to be looked for, which costs a walk over all cgroups, or that failed, the next waits that long.
const (
	endingsQueued = 256
	endingsPause  = 100 * time.Millisecond
)

// endings ends the connections of denied requests that no gate at a veth can answer: over loopback, and on the node's own
// network. The kernel lets nothing more of them pass, so that one that is not ended here opens nothing: it hangs.
type endings struct {
	a     *agent
	log   logrus.FieldLogger
	queue chan event.Event
}

func newEndings(a *agent) *endings {
	return &endings{a: a, log: a.log.WithField("component", "endings"), queue: make(chan event.Event, endingsQueued)}
}

// push takes the news of a denied request. It never blocks: what does not fit hangs until one side gives up.
func (d *endings) push(e *event.Event) {
	select {
	case d.queue <- *e:
	default:
	}
}

// run ends connections until ctx ends.
func (d *endings) run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case e := <-d.queue:
			c := netns.Connection{Local: e.Local, Remote: e.Remote, Socket: e.Socket}
			err := netns.Abort(e.Subject.PID, e.NetNS, c) // who made the socket
			looked := isElsewhere(err)
			if looked {
				err = d.look(&e, c)
			}
			if err != nil {
				d.log.WithError(err).WithField("container", e.Subject.Container).Warn("the connection of a denied request was not ended, and hangs")
			}
			if (looked || err != nil) && !pause(ctx, endingsPause) {
				return nil
			}
		}
	}
}

// pause waits, and reports whether ctx goes on.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// look finds another process of the container in the connection's network namespace, and ends the connection there.
func (d *endings) look(e *event.Event, c netns.Connection) error {
	err := fs.ErrNotExist
	path, pathErr := d.a.cgroups.Path(e.Subject.Container)
	if pathErr != nil {
		return pathErr // the container is gone, and its connections go with it
	}
	dir, pathErr := d.a.cgroups.DirOf(path)
	if pathErr != nil {
		return pathErr
	}
	for _, pid := range pidsBelow(dir) {
		if err = netns.Abort(pid, e.NetNS, c); !isElsewhere(err) {
			return err
		}
	}
	return err
}

// isElsewhere reports whether another process may be in the namespace.
func isElsewhere(err error) bool {
	return errors.Is(err, netns.ErrElsewhere) || errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH)
}
