package daemon

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/probes/event"
	"github.com/sallyport/sallyport/probes/label"
	"github.com/sallyport/sallyport/runtime/cgroup"
	"github.com/sallyport/sallyport/runtime/identity"
	"github.com/sallyport/sallyport/runtime/procfs"
)

// walkEvery is how often the hierarchy is walked while policies select units, for cgroups whose news was lost.
const walkEvery = time.Minute

// longestTold is how long the path of a cgroup can be in the kernel's news: struct ev_cgroup.
const longestTold = 255

// units says which cgroups of the node itself are workloads. It belongs to the engine's goroutine. A cgroup that was
// one stays one until it goes, though no policy selects it any more: its processes have labels, and must not be taken
// for those of an unknown workload.
type units struct {
	policies []*policy.Policy // of the node, by which units were looked for
	walked   time.Time        // zero: the hierarchy has to be walked
	adopted  bool             // those that a former agent told the kernel of are known
	found    bool             // some are new, and what runs in them may have no label yet
	failed   bool             // the last look for them did not end well
}

// findUnits looks for the cgroups that policies, or those in force, select. Where that fails it must be tried again; until
// then the processes of new units are not governed (fails open), which is told.
func (e *engine) findUnits(policies []*policy.Policy) {
	selecting := slices.Concat(policies, e.accepted)
	selecting = slices.DeleteFunc(selecting, func(p *policy.Policy) bool { return p.Kind != policy.KindHostProcessPolicy })
	if slices.Equal(selecting, e.units.policies) && !e.units.walked.IsZero() {
		return
	}
	e.units.policies = selecting
	err := e.walkUnits()
	if e.units.failed = err != nil; e.units.failed {
		e.log.WithError(err).Error("units of the node could not be looked for; those that are new are not governed")
		e.units.walked = time.Time{}
	}
}

// walkUnits takes in every unit that there is. The kernel is asked for the news first, so that none is between the two.
func (e *engine) walkUnits() error {
	if err := e.adoptUnits(); err != nil {
		return err
	}
	if err := e.a.kernel.WatchUnits(len(e.units.policies) > 0); err != nil {
		return err
	}
	if e.a.label != nil { // else nobody tells of them yet: they are looked for again
		e.units.walked = time.Now()
	}
	if len(e.units.policies) == 0 {
		return nil
	}
	found, err := e.a.cgroups.Units(e.unitQuery())
	if err != nil {
		return err
	}
	for _, c := range found {
		if err := e.putUnit(c, true); err != nil {
			return err
		}
	}
	return nil
}

// adoptUnits takes in, once, the units that a former agent has told the kernel of.
func (e *engine) adoptUnits() error {
	if e.units.adopted || e.a.label == nil {
		return nil
	}
	known, err := e.a.label.Units()
	if err != nil {
		return err
	}
	for _, id := range known {
		p, err := e.a.cgroups.Path(id)
		if errors.Is(err, fs.ErrNotExist) {
			err = e.a.label.Forget(id)
		} else if err == nil {
			err = e.putUnit(cgroup.Cgroup{Path: p, ID: id}, true)
		}
		if err != nil {
			return err
		}
	}
	e.units.adopted = true
	return nil
}

// unitQuery says which cgroups the policies select. The agent's own is never one: it must not cut itself off.
func (e *engine) unitQuery() cgroup.UnitQuery {
	own, err := os.ReadFile(filepath.Join(procDir, "self/cgroup"))
	q := cgroup.UnitQuery{Unit: policy.UnitOf, Parents: e.a.cfg.Runtime.ContainerParents}
	if err == nil {
		q.Except, err = cgroup.Parse(string(own))
	}
	if err != nil {
		e.log.WithError(err).Warn("the agent's own cgroup is not known; a policy that selects it governs the agent")
	}
	q.Selects = func(p string) (selectors []int) {
		for i, pol := range e.units.policies {
			if pol.Spec.HostSelector.Selects(p) {
				selectors = append(selectors, i)
			}
		}
		return selectors
	}
	return q
}

// newUnit takes the news of a cgroup that is no container's.
func (e *engine) newUnit(ev event.Event) {
	if len(ev.Path) >= longestTold { // it was cut
		e.units.walked, e.behind = time.Time{}, true
		return
	}
	if q := e.unitQuery(); !q.Is(ev.Path) {
		return
	}
	if err := e.putUnit(cgroup.Cgroup{Path: ev.Path, ID: ev.Subject.Container}, false); err != nil {
		e.log.WithError(err).WithField("cgroup", ev.Path).Error("a unit could not be taken in; its processes are not governed")
		e.units.walked = time.Time{}
	}
	e.behind = true
}

// putUnit takes a unit in, and tells the kernel at once, so that who enters it from now on has its label. running: what
// runs in it was started, else its first process is still to come.
func (e *engine) putUnit(c cgroup.Cgroup, running bool) error {
	g := e.workloads.byCgroup[c.ID]
	if g == nil || g.container.CgroupPath != c.Path || g.container.Type != identity.TypeUnit {
		g = &governed{named: true, container: unitOf(c, running)}
		e.workloads.byCgroup[c.ID] = g
		e.a.registry.Apply(identity.Change{Kind: identity.ContainerStarted, Container: g.container})
		e.log.WithFields(logrus.Fields{"unit": g.container.Name, "cgroup": c.Path}).Info("policies select a unit of the node")
	}
	if e.a.label == nil || g.confirmed {
		return nil
	}
	if err := e.workloads.confirm(c.ID, g); err != nil {
		return err
	}
	populated, err := e.a.cgroups.Populated(c.Path)
	e.units.found = e.units.found || populated || err != nil
	return nil
}

// unitOf is a unit as the words of runtimes have it.
func unitOf(c cgroup.Cgroup, running bool) identity.Container {
	return identity.Container{
		ID: c.Path, Runtime: "cgroup", Name: policy.UnitOf(c.Path), Type: identity.TypeUnit, CgroupPath: c.Path, CgroupID: c.ID,
		Running: running, Pod: identity.Pod{HostNetwork: true},
	}
}

// tick brings the walk of the hierarchy that comes now and then.
func (e *engine) tick() {
	if len(e.units.policies) > 0 {
		e.workloads.prune(e.log)
		e.units.walked, e.behind = time.Time{}, true
	}
}

// inferUnits labels what is in units. It is Main: to put a process into a cgroup takes the rights of the service manager, or
// is what the unit's own processes may do with what they start. The service manager itself is in no workload, since
// all that it starts would be.
func (w *workloads) inferUnits(snapshot []procfs.Process) (out []label.Inferred) {
	ids := map[string]uint64{}
	for id, g := range w.byCgroup {
		ids[g.container.CgroupPath] = id
	}
	for i := range snapshot {
		p := &snapshot[i]
		at := p.Cgroup
		for ids[at] == 0 && strings.HasPrefix(at, "/") && at != "/" {
			at = path.Dir(at)
		}
		g := w.byCgroup[ids[at]]
		if g == nil || g.container.Type != identity.TypeUnit || p.PID == 1 {
			continue
		}
		out = append(out, label.Inferred{
			PID: p.PID, StartTicks: p.StartTicks, Container: ids[at], Unit: true, Origin: event.OriginMain, Exe: p.Exe,
		})
	}
	return out
}

// hostUnit is a unit as policies see it; nil: a container.
func hostUnit(c *identity.Container) *policy.HostUnit {
	if c.Type != identity.TypeUnit {
		return nil
	}
	return &policy.HostUnit{Unit: c.Name, Cgroup: c.CgroupPath}
}
