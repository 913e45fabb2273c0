package daemon

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/sync/errgroup"

	"github.com/sallyport/sallyport/probes"
	"github.com/sallyport/sallyport/probes/event"
	"github.com/sallyport/sallyport/probes/gate"
)

const (
	// guardEvery is how often the agent looks whether all that it has attached and pinned is there.
	guardEvery = 300 * time.Millisecond
	// filtersEvery is how often it looks at the filters of all interfaces. The kernel tells of each that is removed; this
	// finds what was not heard.
	filtersEvery = 5 * time.Second
)

// namesTold bounds how many things one report names; the rest is a number.
const namesTold = 5

// guard looks after what enforces: what somebody takes away or changes is put back, and told.
type guard struct {
	kernel  *probes.Kernel
	gate    *gate.Gate // nil: switched off
	log     logrus.FieldLogger
	tell    func(event.Event)
	count   func(thing string, err error)
	filters chan uint32
	failing map[string]bool // told as not put back
}

func newGuard(a *agent) *guard {
	return &guard{
		kernel: a.kernel, gate: a.gate, log: a.log.WithField("component", "guard"), tell: a.publish, count: a.metrics.Tampered,
		filters: make(chan uint32, 1024), failing: map[string]bool{},
	}
}

// run looks after it until ctx ends.
func (g *guard) run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	if g.gate != nil {
		group.Go(func() error { return gate.Watch(ctx, g.filterRemoved) })
	}
	group.Go(func() error { g.look(ctx); return nil })
	return group.Wait()
}

// filterRemoved takes the news of an interface. It never blocks: what does not fit is found with the next look at all.
func (g *guard) filterRemoved(ifindex uint32) {
	select {
	case g.filters <- ifindex:
	default:
	}
}

func (g *guard) look(ctx context.Context) {
	tick, all := time.NewTicker(guardEvery), time.NewTicker(filtersEvery)
	defer tick.Stop()
	defer all.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			g.report(g.kernel.Check())
		case ifindex := <-g.filters:
			g.report(g.gate.Check(ifindex))
		case <-all.C:
			if g.gate != nil {
				g.report(g.gate.Check(gate.AllInterfaces))
			}
		}
	}
}

// report tells what was found, what was put back and what was not each in one event for each kind of thing. What could not be put
// back is told once, until it is.
func (g *guard) report(found []probes.Finding) {
	type group struct {
		thing    string
		restored bool
	}
	var order []group
	names, errs := map[group][]string{}, map[group]error{}
	for _, f := range found {
		in, key := group{f.Thing.String(), f.Err == nil}, f.Thing.String()+" "+f.Name
		if f.Err != nil && g.failing[key] {
			continue
		}
		g.count(in.thing, f.Err)
		delete(g.failing, key)
		if f.Err != nil {
			g.failing[key] = true
			errs[in] = f.Err
		}
		if names[in] == nil {
			order = append(order, in)
		}
		names[in] = append(names[in], f.Name)
	}
	for _, in := range order {
		text := in.thing + " " + listed(names[in])
		log := g.log.WithFields(logrus.Fields{"thing": in.thing, "names": names[in]})
		if err := errs[in]; err != nil {
			text += ": " + err.Error()
			// What the agent has a handle of stays in force while it runs.
			log.WithError(err).Error("somebody has tampered with what enforces, and it could not be put back")
		} else {
			log.Error("somebody has tampered with what enforces; it was put back")
		}
		g.tell(event.Event{
			Time: time.Now(), Kind: event.KindTamper, Severity: event.SeverityCritical, Site: text, Removed: !in.restored,
		})
	}
}

// listed is the first of names, and how many there are more.
func listed(names []string) string {
	if len(names) <= namesTold {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:namesTold], ", "), len(names)-namesTold)
}
