package daemon

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/policy/compile"
	"github.com/sallyport/sallyport/probes/event"
	"github.com/sallyport/sallyport/runtime/identity"
	"github.com/sallyport/sallyport/runtime/netns"
)

// Patience at start: how long adopted tables are kept while the runtime has not said what runs. After
// that the scan goes ahead with what /proc alone can tell.
const resyncPatience = 10 * time.Second

// retryAfter is the pause before something that did not work is tried again.
const retryAfter = time.Second

// engine keeps the kernel's tables equal to the policies and the containers. One goroutine (run)
// changes it; snapshot may be called from any.
type engine struct {
	a       *agent
	log     logrus.FieldLogger
	wake    chan struct{}    // a reload was asked for
	cgroups chan event.Event // the kernel saw a container's cgroup come or go

	files     map[string]policyFile
	accepted  []*policy.Policy // the last set that compiled
	workloads *workloads
	listed    bool // the runtime has told all containers, or was waited for long enough
	scanned   bool

	mu  sync.Mutex
	now snapshot
}

// snapshot is what status shows. Its parts are replaced, never changed.
type snapshot struct {
	revision   uint64
	tables     *compile.Tables
	files      map[string]policyFile
	accepted   []*policy.Policy
	containers []governed
	compileErr error
}

func newEngine(a *agent) *engine {
	return &engine{
		a: a, log: a.log.WithField("component", "engine"), wake: make(chan struct{}, 1),
		cgroups: make(chan event.Event, 4096), workloads: newWorkloads(a), files: map[string]policyFile{},
		now: snapshot{tables: &compile.Tables{}},
	}
}

// snapshot returns what is in force now.
func (e *engine) snapshot() snapshot {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.now
}

// reload asks for the policies to be read again. It never blocks.
func (e *engine) reload() {
	select {
	case e.wake <- struct{}{}:
	default: // one is asked for already, and will read what is there then
	}
}

// kernelCgroup takes the news of a cgroup. It never blocks: what does not fit is found by the next
// look at the kernel's list, which every change of a runtime brings.
func (e *engine) kernelCgroup(ev event.Event) {
	select {
	case e.cgroups <- ev:
	default:
	}
}

// run follows policies, runtime and kernel until ctx ends.
func (e *engine) run(ctx context.Context, changes <-chan identity.Change) error {
	patience := time.NewTimer(resyncPatience)
	defer patience.Stop()
	if !e.a.cfg.Runtime.Containerd.Enabled {
		patience.Reset(0)
	}
	retry := time.NewTimer(retryAfter)
	retry.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-e.wake:
			e.loadPolicies()
		case c := <-changes:
			e.change(c)
			e.drain(changes)
		case ev := <-e.cgroups:
			e.workloads.cgroup(ev)
		case <-patience.C:
			e.listed = true
		case <-retry.C:
		}
		if !e.listed && !e.a.kernel.Fresh() {
			continue // adopted tables know more than we do yet
		}
		if err := e.apply(); err != nil {
			e.log.WithError(err).Error("policies could not be put in force; the former ones stay")
			retry.Reset(retryAfter)
			continue
		}
		if !e.govern() || !e.scan() {
			retry.Reset(retryAfter)
		}
	}
}

// drain takes the changes that wait already, so that a burst is one compilation.
func (e *engine) drain(changes <-chan identity.Change) {
	for {
		select {
		case c := <-changes:
			e.change(c)
		default:
			return
		}
	}
}

// change takes one change of the runtime.
func (e *engine) change(c identity.Change) {
	e.a.registry.Apply(c)
	e.workloads.change(c)
	if c.Kind == identity.Resynced {
		e.listed = true
		e.workloads.prune(e.log)
	}
}

// loadPolicies reads the directory and says what is wrong with it.
func (e *engine) loadPolicies() {
	files, err := readPolicies(e.a.cfg.Policies.Dir, e.files)
	if err != nil {
		e.log.WithError(err).Warn("policies could not be read; those in force stay")
		e.a.metrics.PolicyReloaded(err)
		return
	}
	for name, f := range files {
		e.a.metrics.PolicyReloaded(f.err)
		if f.err == nil {
			continue
		}
		log := e.log.WithFields(logrus.Fields{"file": name, "kept": len(f.policies)})
		log.WithError(f.err).Error("policy file is broken; its last good version stays in force")
	}
	e.files = files
}

// apply compiles and, when the outcome is another than what is in force, swaps. New policies that do
// not compile together leave the last set that did in force, for the containers of now.
func (e *engine) apply() error {
	before := e.snapshot()
	in := compile.Input{Policies: flatten(e.files), Workloads: e.workloads.input(), Node: nodeOf(e.log)}
	tables, err := compile.Compile(in)
	compileErr := err
	if err != nil {
		if before.compileErr == nil || before.compileErr.Error() != err.Error() {
			e.log.WithError(err).Error("policies do not compile; the last set that did stays in force")
		}
		in.Policies = e.accepted
		if tables, err = compile.Compile(in); err != nil {
			return fmt.Errorf("compiling the policies: %w", err)
		}
	}
	e.accepted = in.Policies
	revision := before.revision
	if revision == 0 || !equal(tables, before.tables) {
		if revision, err = e.a.judge.Swap(tables); err != nil {
			return err
		}
		e.log.WithFields(logrus.Fields{
			"revision": revision, "policies": len(in.Policies), "workloads": len(in.Workloads), "rulesets": len(tables.Rulesets),
		}).Info("policies are in force")
		e.a.registry.SetRules(rulesOf(tables))
	}
	e.workloads.covered(tables)
	e.mu.Lock()
	defer e.mu.Unlock()
	e.now = snapshot{
		revision: revision, tables: tables, files: e.files, accepted: e.accepted,
		containers: e.workloads.list(), compileErr: compileErr,
	}
	return nil
}

// govern brings the gates in line with what is governed. It returns false when it must be tried again.
func (e *engine) govern() bool {
	done := e.workloads.govern(e.log)
	e.mu.Lock()
	defer e.mu.Unlock()
	e.now.containers = e.workloads.list()
	return done
}

// rulesOf lists the rules of all rulesets.
func rulesOf(t *compile.Tables) []compile.Rule {
	var out []compile.Rule
	for i := range t.Rulesets {
		out = append(out, t.Rulesets[i].Rules...)
	}
	return out
}

// nodeOf is what policies can say about the node: its addresses now.
func nodeOf(log logrus.FieldLogger) compile.Node {
	prefixes, err := netns.HostAddresses()
	if err != nil {
		// The entity host names fewer addresses then: rules that allow it allow less (closed), rules
		// that deny it deny less (open), so it is told.
		log.WithError(err).Error("the node's addresses cannot be read; the entity host is incomplete")
	}
	addresses := make([]netip.Addr, 0, len(prefixes))
	for _, p := range prefixes {
		addresses = append(addresses, p.Addr())
	}
	slices.SortFunc(addresses, netip.Addr.Compare)
	return compile.Node{Addresses: slices.Compact(addresses)}
}
