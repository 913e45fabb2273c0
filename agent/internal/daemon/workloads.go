package daemon

import (
	"cmp"
	"errors"
	"io/fs"
	"maps"
	"reflect"
	"slices"

	"github.com/sirupsen/logrus"

	"github.com/sallyport/sallyport/policy/compile"
	"github.com/sallyport/sallyport/probes/event"
	"github.com/sallyport/sallyport/probes/gate"
	"github.com/sallyport/sallyport/probes/label"
	"github.com/sallyport/sallyport/runtime/identity"
	"github.com/sallyport/sallyport/runtime/netns"
)

// governed is one container that runs, or a cgroup of one that no runtime has named.
type governed struct {
	container identity.Container
	named     bool   // a runtime described it
	ruleset   uint32 // 0: no rule selects it
	network   *network
	note      string // why something does not cover it
	applied   bool   // the tables in force were compiled with what is known of it
	confirmed bool   // the kernel knows that it is a container
	ungated   bool   // its packets should be gated, and are not

	probes [][]string // that the kernel has been told
}

// network is the network namespace of a container's task.
type network struct {
	veth gate.Veth
	name string // of the interface on the node
	held bool   // Govern succeeded
}

// containerKey is how a runtime tells containers apart.
type containerKey struct{ namespace, id string }

// workloads keeps the containers that run. It belongs to the engine's goroutine.
type workloads struct {
	a        *agent
	byCgroup map[uint64]*governed
	byKey    map[containerKey]uint64 // cgroup id of the running task
	release  []gate.Veth             // namespaces that are governed no more
	gone     []uint64                // containers that the kernel may have been told of after their end
}

func newWorkloads(a *agent) *workloads {
	return &workloads{a: a, byCgroup: map[uint64]*governed{}, byKey: map[containerKey]uint64{}}
}

// change takes one change of the runtime.
func (w *workloads) change(c identity.Change) {
	switch c.Kind {
	case identity.ContainerCreated, identity.ContainerStarted:
		w.put(c.Container)
	case identity.ContainerStopped, identity.ContainerRemoved:
		w.remove(containerKey{c.Container.Namespace, c.Container.ID})
	case identity.Resynced:
		w.resync(c.All)
	case identity.ExecStarted, identity.ExecExited, identity.Disconnected:
	}
}

// put takes a container in; one without a task is of no interest yet.
func (w *workloads) put(c identity.Container) {
	if c.CgroupID == 0 {
		return
	}
	key := containerKey{c.Namespace, c.ID}
	if old, ok := w.byKey[key]; ok && old != c.CgroupID {
		w.remove(key) // a new task of the same container
	}
	w.byKey[key] = c.CgroupID
	g := w.byCgroup[c.CgroupID]
	if g == nil {
		g = &governed{}
		w.byCgroup[c.CgroupID] = g
	}
	if !g.named {
		g.named, g.note = true, ""
	}
	g.container, g.applied = c, false
}

// remove notes that a container's task ended. Its rules stay until its cgroup is gone: a process of a
// shared PID namespace outlives the task, and must not be taken for one of an unknown workload.
func (w *workloads) remove(key containerKey) {
	if id, ok := w.byKey[key]; ok {
		g := w.byCgroup[id]
		g.note, g.container.InitPID = "its task has ended", 0 // the number may become another's
	}
	delete(w.byKey, key)
}

// prune drops the containers whose cgroups are gone, for when the news of that was lost. What cannot
// be looked at stays: its rules do no harm.
func (w *workloads) prune(log logrus.FieldLogger) {
	for id, g := range w.byCgroup {
		now, err := w.a.cgroups.ID(g.container.CgroupPath)
		if err == nil && now == id || err != nil && !errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err := errors.Join(w.a.label.Forget(id), w.a.names.Forget(id)); err != nil {
			log.WithError(err).Warn("a container that is gone could not be forgotten")
			continue
		}
		w.drop(id)
	}
}

// drop forgets a container.
func (w *workloads) drop(id uint64) {
	for key, other := range w.byKey {
		if other == id {
			delete(w.byKey, key)
		}
	}
	if g := w.byCgroup[id]; g != nil && g.network != nil {
		w.release = append(w.release, g.network.veth)
	}
	w.gone = append(w.gone, id)
	delete(w.byCgroup, id)
}

// resync takes a full list.
func (w *workloads) resync(all []identity.Container) {
	listed := map[containerKey]bool{}
	for _, c := range all {
		listed[containerKey{c.Namespace, c.ID}] = c.CgroupID != 0
	}
	for key := range w.byKey {
		if !listed[key] {
			w.remove(key)
		}
	}
	for _, c := range all {
		w.put(c)
	}
}

// cgroup takes what the kernel saw.
func (w *workloads) cgroup(e event.Event) {
	id := e.Subject.Container
	g := w.byCgroup[id]
	switch {
	case e.Removed && g != nil:
		w.drop(id) // the kernel has forgotten it, and may have been told of it again before this news came
	case !e.Removed && g == nil:
		w.byCgroup[id] = &governed{container: identity.Container{CgroupID: id, CgroupPath: e.Path}, note: "no runtime has named it yet"}
	}
}

// input is what policies are compiled for: the containers that a runtime has named. The others are
// unknown to the tables, and unknownWorkload decides.
func (w *workloads) input(cluster *cluster) []compile.Workload {
	out := make([]compile.Workload, 0, len(w.byCgroup))
	for id, g := range w.byCgroup {
		if !g.named {
			continue
		}
		out = append(out, workloadOf(id, &g.container, cluster))
	}
	slices.SortFunc(out, func(a, b compile.Workload) int { return cmp.Compare(a.Key, b.Key) })
	return out
}

// workloadOf is a container as policies see it.
func workloadOf(id uint64, c *identity.Container, cluster *cluster) compile.Workload {
	if unit := hostUnit(c); unit != nil {
		return compile.Workload{Key: id, Host: unit}
	}
	l := compile.Workload{
		Key: id, Namespace: cmp.Or(c.Pod.Namespace, c.Namespace), Pod: c.Pod.Name, Container: cmp.Or(c.Name, c.ID),
		Labels: c.Labels, ContainerType: string(c.Type),
	}
	if pod := cluster.pod(c); pod != nil {
		l.NamespaceLabels, l.ServiceAccount, l.Ports = cluster.world.Namespaces[pod.Namespace], pod.ServiceAccount, namedPorts(pod.Ports)
	}
	return l
}

// describeAll gives the containers of pods what the cluster says of these.
func (w *workloads) describeAll(c *cluster) {
	for _, g := range w.byCgroup {
		if pod := c.pod(&g.container); g.named && pod != nil && describePod(&g.container, pod) {
			g.applied = false
			w.a.registry.Apply(identity.Change{Kind: identity.ContainerCreated, Container: g.container})
		}
	}
}

// covered notes the rulesets that tables give.
func (w *workloads) covered(t *compile.Tables) {
	for id, g := range w.byCgroup {
		g.ruleset, g.applied = t.Containers[id], g.named
	}
}

// asked lists the containers that rules ask the requests of.
func (w *workloads) asked(t *compile.Tables) map[uint64]tapped {
	out := map[uint64]tapped{}
	for id, g := range w.byCgroup {
		if ruleset := t.Containers[id]; g.named && t.Rulesets[ruleset].HTTP != (compile.Bitset{}) {
			out[id] = tapped{cgroup: g.container.CgroupPath, init: g.container.InitPID}
		}
	}
	return out
}

// list copies what there is, for status.
func (w *workloads) list() []governed {
	out := make([]governed, 0, len(w.byCgroup))
	for _, id := range slices.Sorted(maps.Keys(w.byCgroup)) {
		g := *w.byCgroup[id]
		if g.network != nil {
			n := *g.network
			g.network = &n
		}
		out = append(out, g)
	}
	return out
}

// govern confirms containers to the kernel and gates those that rules select. It returns false when
// something has to be tried again.
func (w *workloads) govern(log logrus.FieldLogger) bool {
	done := w.forget(log)
	for id, g := range w.byCgroup {
		if !g.named {
			continue
		}
		log := log.WithFields(logrus.Fields{"container": g.container.ID, "cgroup": g.container.CgroupPath})
		if err := w.confirm(id, g); err != nil {
			log.WithError(err).Error("container could not be confirmed; its new processes get no label")
			done = false
		}
		done = w.setProbes(id, g, log) && done
		if w.a.gate == nil || g.ruleset == 0 || g.container.Pod.HostNetwork {
			w.ungate(g)
			continue
		}
		err := w.gate(id, g)
		g.ungated = err != nil
		if err != nil {
			// Closed at JUDGE all the same; packets that pass no socket of the pod are not gated.
			if note := "not gated: " + err.Error(); note != g.note { // it is tried again and again
				log.WithError(err).Error("packets of the container are not gated")
				g.note = note
			}
			done = false
		}
	}
	return w.releaseUnused(log) && done
}

// confirm tells the kernel, once, that a cgroup is a container's.
func (w *workloads) confirm(id uint64, g *governed) error {
	if g.confirmed {
		return nil
	}
	confirm := w.a.label.Confirm
	if g.container.Type == identity.TypeUnit {
		confirm = w.a.label.ConfirmUnit
	}
	if err := confirm(id, g.container.Running); err != nil {
		return err
	}
	g.confirmed = true
	return nil
}

// forget takes from the kernel what it was told of containers that are gone, and what DNS told them.
func (w *workloads) forget(log logrus.FieldLogger) bool {
	var again []uint64
	for _, id := range w.gone {
		if w.byCgroup[id] != nil {
			continue // inode numbers come again
		}
		if err := errors.Join(w.a.label.Forget(id), w.a.names.Forget(id)); err != nil {
			log.WithError(err).Warn("a container that is gone could not be forgotten")
			again = append(again, id)
		}
	}
	w.gone = again
	return len(again) == 0
}

// setProbes tells the kernel the commands by which execs of a container are Probe. What it cannot compare, or was not
// told, is Exec (fails closed). It returns false when it must be tried again.
func (w *workloads) setProbes(id uint64, g *governed, log logrus.FieldLogger) bool {
	if reflect.DeepEqual(g.probes, g.container.Probes) {
		return true
	}
	err := w.a.label.SetProbes(id, g.container.Probes)
	if err != nil {
		log.WithError(err).Warn("probes of the container are taken for Exec")
	}
	if err != nil && !errors.Is(err, label.ErrProbes) {
		return false
	}
	g.probes = g.container.Probes
	return true
}

// ungate takes a container that no rule selects any more out of the gate.
func (w *workloads) ungate(g *governed) {
	g.ungated = false
	if g.container.Pod.HostNetwork {
		g.note = "host network: packets are judged at the socket, not at a veth"
	}
	if g.network != nil {
		w.release = append(w.release, g.network.veth)
		g.network = nil
	}
}

// gate puts a container's network namespace under government, again when the container went whose
// rules judge the node's processes in there.
func (w *workloads) gate(id uint64, g *governed) error {
	if g.network == nil {
		n, err := inspect(g.container.InitPID)
		if errors.Is(err, fs.ErrNotExist) {
			return nil // its first process ended; the runtime will say so
		}
		if err != nil {
			return err
		}
		g.network = n
	}
	if g.network.held && w.byCgroup[g.network.veth.Container] != nil {
		return nil
	}
	g.network.veth.Container = w.podLevel(g.network.veth.NetNS, id)
	if err := w.a.gate.Govern(g.network.veth); err != nil {
		return err
	}
	g.network.held, g.note = true, ""
	if g.network.veth.Ifindex == 0 {
		g.note = "no veth on this node: packets are judged at the socket only"
	}
	return nil
}

// podLevel chooses the container whose rules judge the node's processes in a pod: the sandbox, else
// the one that is governed already, else this.
func (w *workloads) podLevel(netNS, id uint64) uint64 {
	best := id
	for other, g := range w.byCgroup {
		if g.network == nil || g.network.veth.NetNS != netNS {
			continue
		}
		if g.container.Type == identity.TypeSandbox {
			return other
		}
		if g.network.held && w.byCgroup[g.network.veth.Container] != nil {
			best = g.network.veth.Container
		}
	}
	return best
}

// inspect finds the namespace of a process and the node's end of its veth.
func inspect(pid uint32) (*network, error) {
	ns, err := netns.Inspect(pid)
	if err != nil {
		return nil, err
	}
	n := &network{veth: gate.Veth{NetNS: ns.Cookie}}
	for _, l := range ns.Links {
		if l.PeerLocal && l.PeerIndex > 0 {
			n.veth.Ifindex = uint32(l.PeerIndex) // positive
			n.name = l.Name
		}
	}
	return n, nil
}

// releaseUnused ungoverns namespaces that no container of ours is in any more.
func (w *workloads) releaseUnused(log logrus.FieldLogger) bool {
	used := map[uint64]bool{}
	for _, g := range w.byCgroup {
		if g.network != nil {
			used[g.network.veth.NetNS] = true
		}
	}
	var again []gate.Veth
	for _, v := range w.release {
		if used[v.NetNS] {
			continue
		}
		if err := w.a.gate.Release(v); err != nil {
			log.WithError(err).Warn("a gate could not be taken down")
			again = append(again, v)
		}
	}
	w.release = again
	return len(again) == 0
}
