package daemon

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/sallyport/sallyport/agent/internal/config"
	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/policy/compile"
	"github.com/sallyport/sallyport/probes/event"
	"github.com/sallyport/sallyport/runtime/identity"
	"github.com/sallyport/sallyport/runtime/netns"
)

// resyncPatience is how long the runtime may take at start to say what runs.
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
	missed  chan struct{}    // some of that may have been missed
	starts  chan *start      // containers that wait to start
	ended   chan struct{}    // closed when run has returned

	files     map[string]policyFile
	unread    error // why the directory has never been read
	compiler  *compile.Compiler
	accepted  []*policy.Policy // the last set that compiled
	workloads *workloads
	units     units
	cluster   *cluster // nil: switched off
	listed    bool     // the runtime has told all containers, or was waited for long enough
	scanned   bool
	swapped   bool // this agent has put tables in force
	behind    bool // something has changed that is not in force yet
	caughtUp  time.Time
	pause     time.Duration // after that
	waiting   []*start

	mu  sync.Mutex
	now snapshot
}

// snapshot is what status shows. Its parts are replaced, never changed.
type snapshot struct {
	revision   uint64
	tables     *compile.Tables
	input      *compile.Input // that tables were made of, but for its world; nil: they are a former agent's
	world      policy.World   // of the last look: that of the look before is not held while tables are made of this
	files      map[string]policyFile
	accepted   []*policy.Policy
	containers []governed
	compileErr error
}

func newEngine(a *agent) (*engine, error) {
	revision, err := a.kernel.Revision() // of adopted tables
	if err != nil {
		return nil, err
	}
	cluster, err := newCluster(a)
	if err != nil {
		return nil, err
	}
	return &engine{
		a: a, log: a.log.WithField("component", "engine"), wake: make(chan struct{}, 1),
		cgroups: make(chan event.Event, 4096), missed: make(chan struct{}, 1), starts: make(chan *start), ended: make(chan struct{}), workloads: newWorkloads(a), cluster: cluster,
		files: map[string]policyFile{}, compiler: compile.NewCompiler(compile.Enforced{World: cluster != nil, Scripts: a.judge.Scripts()}),
		behind: true, now: snapshot{revision: revision, tables: &compile.Tables{}},
	}, nil
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

// run follows policies, runtime and kernel until ctx ends.
func (e *engine) run(ctx context.Context, changes <-chan identity.Change) error {
	defer close(e.ended)
	patience := time.NewTimer(resyncPatience)
	defer patience.Stop()
	if !e.lists() {
		patience.Reset(0)
	}
	again := time.NewTimer(retryAfter)
	again.Stop()
	walk := time.NewTicker(walkEvery)
	defer walk.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-e.wake:
			e.loadPolicies()
			e.behind = true
		case c := <-changes:
			e.change(c)
			e.drain(changes)
		case s := <-e.starts:
			e.begin(s)
		case <-e.cluster.news():
			e.look()
		case ev := <-e.cgroups:
			e.cgroup(ev)
		case <-e.missed:
			e.workloads.prune(e.log)
			e.behind = true
		case <-walk.C:
			e.tick()
		case <-patience.C:
			e.giveUp()
		case <-again.C:
		}
		if pause := e.catchUpInTime(); pause > 0 {
			again.Reset(pause)
		}
		e.cluster.done()
		e.release()
	}
}

// look takes in what has changed in the cluster.
func (e *engine) look() {
	if !e.cluster.refresh() {
		return
	}
	e.workloads.describeAll(e.cluster)
	e.behind = true
}

// lists says whether a runtime will say what runs.
func (e *engine) lists() bool {
	r := e.a.cfg.Runtime
	return r.Containerd.Enabled || r.NRI.Enabled == config.PresenceAlways
}

// giveUp ends the wait for a runtime that has not said what runs. On a fresh node the scan goes ahead
// with what /proc alone can tell. Adopted tables know the containers by name: tables that are compiled
// without these would open what they deny, so they stay (fails closed) until the runtime is back.
func (e *engine) giveUp() {
	if e.listed {
		return
	}
	if !e.a.kernel.Fresh() && e.lists() {
		e.log.Warn("the runtime has not said what runs; the adopted policies stay in force until it does, and no others")
		return
	}
	e.listed, e.behind = true, true
}

// catchUp brings the kernel in line with what has changed. It returns false when it must be tried again.
func (e *engine) catchUp() bool {
	if !e.listed && !e.a.kernel.Fresh() {
		return true // adopted tables know more than we do yet
	}
	if !e.cluster.synced() && !e.a.kernel.Fresh() && !e.swapped {
		return true // the same
	}
	err := e.apply()
	if errors.Is(err, errHeld) {
		return true // told; a change of the files brings us here again
	}
	if err != nil {
		e.log.WithError(err).Error("policies could not be put in force; the former ones stay")
		return false
	}
	// First the labels of what is older than the programs: at a gate, sockets without an owner are cut off.
	scanned := e.scan()
	e.behind = !e.govern() || !scanned || e.units.failed
	e.ready()
	return !e.behind
}

// ready says to the cluster that the node needs no startup taint any more: what was asked for is in force, by all that
// is known of containers and cluster. Where the kernel only lets the agent report, though it was told to stop, the taint stays
// (fails closed).
func (e *engine) ready() {
	if !e.behind && e.listed && e.cluster.synced() && (e.reportOnly() || e.enforces()) {
		e.cluster.enforcing()
	}
}

// reportOnly says whether the agent was told to stop nothing.
func (e *engine) reportOnly() bool {
	return slices.Equal(e.a.cfg.Enforcement.Steps, []config.Step{config.StepReport})
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
	switch c.Kind {
	case identity.ExecStarted, identity.ExecExited, identity.Disconnected:
		return // they change names in reports, and no table
	case identity.Resynced, identity.ContainerCreated, identity.ContainerStarted, identity.ContainerStopped, identity.ContainerRemoved:
	}
	e.behind = true
	e.workloads.change(c)
	if c.Kind == identity.Resynced {
		e.listed = true
		e.workloads.prune(e.log)
	}
	e.workloads.describeAll(e.cluster)
}

// loadPolicies reads the directory and says what is wrong with it.
func (e *engine) loadPolicies() {
	files, err := readPolicies(e.a.cfg.Policies.Dir, e.files)
	if err != nil {
		e.log.WithError(err).Warn("policies could not be read; those in force stay")
		e.a.metrics.PolicyReloaded(err)
		// A node of a cluster needs no files.
		if len(e.files) == 0 && (e.cluster == nil || !errors.Is(err, fs.ErrNotExist)) {
			e.unread = err
		}
		return
	}
	e.unread = nil
	for name, f := range files {
		e.a.metrics.PolicyReloaded(f.err)
		if f.err == nil {
			continue
		}
		log := e.log.WithFields(logrus.Fields{"file": name, "kept": len(f.policies)})
		log.WithError(f.err).Error("policy file is broken; its last good version stays in force")
	}
	e.files = files
	e.mu.Lock()
	defer e.mu.Unlock()
	e.now.files = e.cluster.sources(files)
}

// errHeld means that adopted tables stay in force (fails closed): what could replace them may lack
// rules that they have.
var errHeld = errors.New("the adopted policies stay in force, and no others")

// missing says why policies may be missing that adopted tables have: the last good version of what is
// broken now went with the former agent. A broken policy of the API does not count: whoever can break it could as
// well delete it, and must not hold up everybody else's.
func (e *engine) missing() error {
	if e.unread != nil {
		return e.unread
	}
	for _, name := range slices.Sorted(maps.Keys(e.files)) {
		if f := e.files[name]; f.err != nil && len(f.policies) == 0 {
			return f.err
		}
	}
	return nil
}

// refused keeps for status why policies of the files are not in force, nil if all are, and tells it once, with
// what that means.
func (e *engine) refused(err error, means string) {
	before := e.snapshot().compileErr
	if err != nil && (before == nil || before.Error() != err.Error()) {
		e.log.WithError(err).Error(means)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.now.compileErr = err
}

// apply compiles and, when the outcome is another than what is in force, swaps. Policies that do not compile
// leave the versions that did in force, for the containers of now. The error is errHeld where there are none
// but adopted tables.
func (e *engine) apply() error {
	before, files := e.snapshot(), e.cluster.sources(e.files)
	policies := flatten(files)
	e.findUnits(policies)
	in := compile.Input{Policies: policies, Workloads: e.workloads.input(e.cluster), Node: nodeOf(e.log), World: e.cluster.known()}
	in.Node.Addresses = append(in.Node.Addresses, e.cluster.nodeAddresses()...)
	e.known(in.World)
	tables, refused, err := compileSet(e.compiler, &in, e.accepted)
	if !e.swapped && !e.a.kernel.Fresh() {
		if refused == nil {
			refused = e.missing()
		}
		if refused != nil {
			e.refused(refused, "the policies cannot be put in force; those that were found in force stay")
			return errHeld
		}
	}
	e.refused(refused, "not every policy can be put in force; those that cannot stay as they last could")
	if err != nil {
		return err
	}
	e.accepted = in.Policies
	revision := before.revision
	if !e.swapped || !reflect.DeepEqual(tables, before.tables) {
		if revision, err = e.a.judge.Swap(tables); err != nil {
			return err
		}
		e.swapped = true
		e.log.WithFields(logrus.Fields{
			"revision": revision, "policies": len(in.Policies), "workloads": len(in.Workloads), "rulesets": len(tables.Rulesets),
		}).Info("policies are in force")
		e.a.registry.SetRules(rulesOf(tables))
	}
	in.World = policy.World{}
	e.workloads.covered(tables)
	e.a.taps.want(e.workloads.asked(tables))
	e.mu.Lock()
	defer e.mu.Unlock()
	e.now = snapshot{
		revision: revision, tables: tables, input: &in, world: e.cluster.known(), files: files, accepted: e.accepted,
		containers: e.workloads.list(), compileErr: refused,
	}
	e.say(&e.now)
	return nil
}

// known keeps for who asks what is known of the cluster.
func (e *engine) known(w policy.World) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.now.world = w
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
