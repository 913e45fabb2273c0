package daemon

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/sallyport/sallyport/agent/internal/config"
	"github.com/sallyport/sallyport/probes/event"
	"github.com/sallyport/sallyport/runtime/cgroup"
	"github.com/sallyport/sallyport/runtime/identity"
	"github.com/sallyport/sallyport/runtime/nri"
	"github.com/sallyport/sallyport/runtime/oci"
)

// start is a container whose first instruction waits until its policies are in force. It belongs to the engine
// from when it was taken until inForce is closed or nobody waits any more.
type start struct {
	container identity.Container
	inForce   chan struct{}
	left      <-chan struct{} // closed when nobody waits any more
}

// errEnding is what a start gets that waits while the agent ends.
var errEnding = errors.New("the agent is ending")

// errUnseen is what a start gets whose cgroup the kernel did not take for a container's when it was made: its first
// process has no label, and so would its main program.
var errUnseen = errors.New("the kernel does not take its cgroup for a container's: add the cgroup's parent to runtime.containerParents")

// seen reports whether the kernel takes the cgroup at p for a container's by its path: the rule of label_cgroup_mkdir.
func (e *engine) seen(p string) bool {
	return cgroup.ContainerID(path.Base(p)) != "" || slices.Contains(e.a.cfg.Runtime.ContainerParents, path.Dir(p))
}

// await brings the policies of a container that is about to start into force, and returns nil when they are: the
// kernel's tables know the container, its processes get their labels, and its packets are gated. It returns earlier
// with the end of ctx or of the engine; the container is then taken in all the same, as soon as that can be.
func (e *engine) await(ctx context.Context, c identity.Container) error {
	e.a.registry.Apply(identity.Change{Kind: identity.ContainerCreated, Container: c}) // so that reports name it at once
	if !e.seen(c.CgroupPath) {
		return fmt.Errorf("governing container %s in %s: %w", c.ID, c.CgroupPath, errUnseen)
	}
	s := &start{container: c, inForce: make(chan struct{}), left: ctx.Done()}
	err := errEnding
	select {
	case e.starts <- s:
		select {
		case <-s.inForce:
			return nil
		case <-ctx.Done():
			err = ctx.Err()
		case <-e.ended:
		}
	case <-ctx.Done():
		err = ctx.Err()
	case <-e.ended:
	}
	return fmt.Errorf("waiting for the policies of container %s: %w", c.ID, err)
}

// begin takes in a start, and those that wait behind it, so that a burst is one compilation.
func (e *engine) begin(s *start) {
	for {
		e.change(identity.Change{Kind: identity.ContainerCreated, Container: s.container})
		e.waiting = append(e.waiting, s)
		select {
		case s = <-e.starts:
		default:
			return
		}
	}
}

// release lets go of the starts whose policies are in force, and forgets those that nobody waits for.
func (e *engine) release() {
	var waiting []*start
	for _, s := range e.waiting {
		select {
		case <-s.left:
			continue
		default:
		}
		if e.workloads.inForce(s.container.CgroupID) && e.cluster.knows(&s.container) {
			close(s.inForce)
			continue
		}
		waiting = append(waiting, s)
	}
	e.waiting = waiting
}

// inForce reports whether a container is governed in every way that it can be.
func (w *workloads) inForce(id uint64) bool {
	g := w.byCgroup[id]
	return g != nil && g.named && g.applied && g.confirmed && !g.ungated
}

// late tells that a container was not governed in time, and what became of it; by is who waited.
func (a *agent) late(c identity.Container, by string, err error, refused bool) {
	log := a.log.WithError(err).WithFields(logrus.Fields{"container": c.ID, "name": c.Name, "pod": c.Pod.Namespace + "/" + c.Pod.Name, "by": by})
	e := event.Event{
		Time: time.Now(), Kind: event.KindLate, Subject: event.Subject{Container: c.CgroupID},
		Verdict: event.VerdictAllow, Reason: event.ReasonUnknown, Severity: event.SeverityWarning, Site: by,
	}
	if refused {
		e.Verdict = event.VerdictDeny
		log.Error("a container was refused, since its policies were not in force in time")
	} else {
		log.Error("a container was admitted before its policies were in force")
	}
	a.publish(e)
}

// newNRI makes the plugin that the runtime calls; nil: switched off.
func (a *agent) newNRI(log logrus.FieldLogger) (*nri.Plugin, error) {
	c := a.cfg.Runtime.NRI
	if c.Enabled == config.PresenceNever {
		return nil, nil //nolint:nilnil // the field says what nil means
	}
	return nri.New(nri.Config{
		Socket: c.Socket, Required: c.Enabled == config.PresenceAlways, Timeout: c.Timeout,
		Refuse: c.OnTimeout == config.OnTimeoutRefuse, Sole: !a.cfg.Runtime.Containerd.Enabled,
		Locator: oci.Locator{Cgroups: a.cgroups, Proc: a.proc},
		Start:   a.engine.await,
		Late:    func(c identity.Container, err error, refused bool) { a.late(c, "nri", err, refused) },
	}, log)
}
