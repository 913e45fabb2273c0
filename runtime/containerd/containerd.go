// Package containerd owns the agent's view of containerd: which containers there are, of which pod, with which process
// and cgroup, and which execs run in them. It lists, subscribes and follows over restarts of the daemon. It is the only
// package that may import containerd; of this module it imports runtime/identity, runtime/cgroup and runtime/procfs.
//
// What it tells is never what enforcement waits for: the kernel labels a process before any event arrives. A daemon
// that is away, or an event that is late, leaves what was known in force.
package containerd

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/sallyport/sallyport/runtime/cgroup"
	"github.com/sallyport/sallyport/runtime/identity"
	"github.com/sallyport/sallyport/runtime/procfs"
)

// Runtime is the name of this runtime in identity.Container.
const Runtime = "containerd"

// Config says which daemon to watch and how.
type Config struct {
	Socket       string        // path of containerd's socket
	Namespaces   []string      // containerd namespaces to watch; empty: all, those that come later too
	ReconnectMin time.Duration // pause after the first failure; 0: 100 ms. It doubles up to
	ReconnectMax time.Duration // this; 0: 10 s. Pauses vary by half, so that agents do not call all at once
	Relist       time.Duration // how often everything is listed anew, against lost events; 0: 1 minute
	CallTimeout  time.Duration // for one call; 0: 10 s
	Cgroups      cgroup.Hierarchy
	Proc         procfs.FS // must show processes by the numbers containerd uses
}

func (c Config) withDefaults() (Config, error) {
	for _, d := range []struct {
		value    *time.Duration
		fallback time.Duration
		name     string
	}{
		{&c.ReconnectMin, 100 * time.Millisecond, "ReconnectMin"},
		{&c.ReconnectMax, 10 * time.Second, "ReconnectMax"},
		{&c.Relist, time.Minute, "Relist"},
		{&c.CallTimeout, 10 * time.Second, "CallTimeout"},
	} {
		if *d.value < 0 {
			return c, fmt.Errorf("configuring the containerd watch: %s is negative", d.name)
		}
		if *d.value == 0 {
			*d.value = d.fallback
		}
	}
	switch {
	case !filepath.IsAbs(c.Socket):
		return c, fmt.Errorf("configuring the containerd watch: socket %q is not an absolute path", c.Socket)
	case c.Cgroups.Dir() == "":
		return c, errors.New("configuring the containerd watch: no cgroup hierarchy")
	case c.ReconnectMax < c.ReconnectMin:
		return c, errors.New("configuring the containerd watch: ReconnectMax is less than ReconnectMin")
	}
	return c, nil
}

// Watch tells changes to the channel until ctx ends, and then returns nil. It returns an error for a Config that cannot
// work, and for nothing else: a daemon that is away is waited for.
//
// Of each connection the first change is Resynced, which lists everything, then an ExecStarted for each exec that runs
// already (with a zero StartedAt; other execs are over), and from then on the changes in their order. A change may be
// told again, also after a Resynced that held it; a later Resynced tells that events were lost. Disconnected is told once for each time the daemon is away. Watch waits for the reader of
// the channel; meanwhile containerd keeps the events. It does not close the channel.
//
// In ContainerStopped the container keeps the CgroupID and InitPID it had.
func Watch(ctx context.Context, config Config, log logrus.FieldLogger, changes chan<- identity.Change) error {
	config, err := config.withDefaults()
	if err != nil {
		return err
	}
	w := watch{Config: config, log: log.WithField("component", Runtime), changes: changes}
	pause := newBackoff(config.ReconnectMin, config.ReconnectMax)
	away := false
	for {
		err := w.follow(ctx, func() {
			pause.reset()
			away = false
			w.log.WithField("socket", config.Socket).Info("containerd is watched")
		})
		if ctx.Err() != nil {
			return nil //nolint:nilerr // the caller asked to stop
		}
		if !away {
			away = true
			w.log.WithError(err).WithField("socket", config.Socket).Warn("containerd is away; what is known stays in force")
			if w.tell(ctx, identity.Change{Kind: identity.Disconnected, Err: err}) != nil {
				return nil //nolint:nilerr // the caller asked to stop
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause.next()):
		}
	}
}

type watch struct {
	Config
	log     logrus.FieldLogger
	changes chan<- identity.Change
}

// tell hands a change over. Its only error is that of ctx.
func (w *watch) tell(ctx context.Context, change identity.Change) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case w.changes <- change:
		return nil
	}
}

// backoff doubles pauses up to a limit, and varies each between half of it and the whole.
type backoff struct{ first, limit, now time.Duration }

func newBackoff(first, limit time.Duration) *backoff {
	return &backoff{first: first, limit: limit, now: first}
}

func (b *backoff) reset() { b.now = b.first }

func (b *backoff) next() time.Duration {
	pause := b.now
	b.now = min(2*b.now, b.limit)
	return pause/2 + rand.N(pause/2+1) //nolint:gosec // spreads load, hides nothing
}
