package daemon

import (
	"context"
	"errors"
	"io/fs"

	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/probes/event"
	"github.com/sallyport/sallyport/runtime/netns"
)

// endingsQueued bounds how many connections wait for their end; a workload can make as many as it likes.
const endingsQueued = 256

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
			if err := d.end(&e); err != nil {
				d.log.WithError(err).WithField("container", e.Subject.Container).Warn("the connection of a denied request was not ended, and hangs")
			}
		}
	}
}

// end finds a process in the connection's network namespace, the socket's owner first, and ends the connection there.
func (d *endings) end(e *event.Event) error {
	c := netns.Connection{Local: e.Local, Remote: e.Remote, Socket: e.Socket}
	err := netns.Abort(e.Subject.PID, e.NetNS, c)
	if !isElsewhere(err) {
		return err
	}
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
