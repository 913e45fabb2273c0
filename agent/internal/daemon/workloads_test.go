package daemon

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sallyport/sallyport/agent/internal/config"
	"github.com/sallyport/sallyport/policy/compile"
	"github.com/sallyport/sallyport/probes/event"
	"github.com/sallyport/sallyport/probes/gate"
	"github.com/sallyport/sallyport/runtime/identity"
)

// container is one with a task in the cgroup with that id; 0: without a task.
func container(id string, cgroup uint64) identity.Container {
	c := identity.Container{ID: id, Namespace: "default", Name: id, Type: identity.TypeApp, Pod: identity.Pod{Namespace: "default", Name: id}}
	if cgroup != 0 {
		c.CgroupID, c.CgroupPath, c.InitPID, c.Running = cgroup, "/default/"+id, uint32(cgroup)+1000, true
	}
	return c
}

// show is the state: every cgroup with the container in it.
func show(w *workloads) string {
	var out []string
	for _, id := range slices.Sorted(maps.Keys(w.byCgroup)) {
		g := w.byCgroup[id]
		name := "?"
		if g.named {
			name = g.container.ID
		}
		if w.byKey[containerKey{g.container.Namespace, g.container.ID}] != id && g.named {
			name += "!" // its task has ended
		}
		out = append(out, fmt.Sprintf("%d:%s", id, name))
	}
	return strings.Join(out, " ")
}

func TestWorkloadsOverTime(t *testing.T) {
	t.Parallel()
	w := newWorkloads(nil)
	change := func(kind identity.ChangeKind, c identity.Container) func() {
		return func() { w.change(identity.Change{Kind: kind, Container: c}) }
	}
	cgroup := func(id uint64, removed bool) func() {
		return func() {
			w.cgroup(event.Event{Subject: event.Subject{Container: id}, Removed: removed, Path: fmt.Sprint("/default/", id)})
		}
	}
	for _, step := range []struct {
		what string
		do   func()
		want string
	}{
		{"created without a task", change(identity.ContainerCreated, container("a", 0)), ""},
		{"its cgroup appears", cgroup(7, false), "7:?"},
		{"its task is told", change(identity.ContainerCreated, container("a", 7)), "7:a"},
		{"it starts", change(identity.ContainerStarted, container("a", 7)), "7:a"},
		{"its cgroup is told late", cgroup(7, false), "7:a"},
		{"another starts", change(identity.ContainerStarted, container("b", 8)), "7:a 8:b"},
		{"an exec changes nothing", change(identity.ExecStarted, container("b", 8)), "7:a 8:b"},
		{"the daemon goes", change(identity.Disconnected, identity.Container{}), "7:a 8:b"},
		{"the task ends", change(identity.ContainerStopped, container("a", 7)), "7:a! 8:b"},
		{"it is told again", change(identity.ContainerRemoved, container("a", 7)), "7:a! 8:b"},
		{"its cgroup goes", cgroup(7, true), "8:b"},
		{"of the same name another task", change(identity.ContainerStarted, container("b", 9)), "8:b! 9:b"},
		{"the former's cgroup goes", cgroup(8, true), "9:b"},
		{"a list without it", func() { w.resync([]identity.Container{container("c", 10), container("d", 0)}) }, "9:b! 10:c"},
		{"a list with a new task", func() { w.resync([]identity.Container{container("c", 11)}) }, "9:b! 10:c! 11:c"},
		{"all cgroups go", func() { cgroup(9, true)(); cgroup(10, true)(); cgroup(11, true)() }, ""},
		{"and one that was never told", cgroup(12, true), ""},
	} {
		step.do()
		if got := show(w); got != step.want {
			t.Errorf("%s: %q, want %q", step.what, got, step.want)
		}
	}
	if len(w.byKey) != 0 {
		t.Errorf("%v is left", w.byKey)
	}
}

func TestEndedTaskHasNoProcess(t *testing.T) {
	t.Parallel()
	w := newWorkloads(nil)
	w.put(container("a", 7))
	w.change(identity.Change{Kind: identity.ContainerStopped, Container: container("a", 7)})
	if g := w.byCgroup[7]; g.container.InitPID != 0 || g.note == "" || len(w.input(nil)) != 1 {
		t.Errorf("an ended task is %+v, and %d workloads are compiled", g, len(w.input(nil)))
	}
}

func TestStatusSaysWhatIsNotCovered(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		g    governed
		want string
	}{
		{governed{named: true, applied: true, confirmed: true, note: "a note"}, "a note"},
		{governed{named: true, note: "a note"}, "a note"}, // not its turn yet
		{governed{named: true, applied: true}, "not labelled: the kernel could not be told of it; the log says why"},
		{governed{applied: true}, ""}, // what no runtime has named is the kernel's own
	} {
		if got := tc.g.uncovered(); got != tc.want {
			t.Errorf("%+v: %q, want %q", tc.g, got, tc.want)
		}
	}
}

func TestInputNamesWorkloads(t *testing.T) {
	t.Parallel()
	w := newWorkloads(nil)
	pod := container("0123", 9)
	pod.Namespace, pod.Name, pod.Labels = "k8s.io", "web", map[string]string{"app": "shop"}
	pod.Pod = identity.Pod{Namespace: "shop", Name: "checkout-1"}
	bare := identity.Container{ID: "bare", Namespace: "moby", CgroupID: 8, CgroupPath: "/moby/bare"}
	w.put(pod)
	w.put(bare)
	w.cgroup(event.Event{Subject: event.Subject{Container: 7}, Path: "/default/unknown"})
	want := []compile.Workload{
		{Key: 8, Namespace: "moby", Container: "bare"},
		{Key: 9, Namespace: "shop", Pod: "checkout-1", Container: "web", Labels: map[string]string{"app": "shop"}, ContainerType: "App"},
	}
	if diff := cmp.Diff(want, w.input(nil)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	w.covered(&compile.Tables{Containers: map[uint64]uint32{9: 3}})
	list := w.list()
	if len(list) != 3 || list[0].ruleset != 0 || list[0].note == "" || list[2].ruleset != 3 {
		t.Errorf("the list is %+v", list)
	}
	w.byCgroup[9].ruleset = 4
	if list[2].ruleset != 3 {
		t.Error("the list is not a copy")
	}
}

func TestPodLevel(t *testing.T) {
	t.Parallel()
	in := func(w *workloads, c identity.Container, netNS, level uint64) {
		w.put(c)
		w.byCgroup[c.CgroupID].network = &network{veth: gate.Veth{NetNS: netNS, Container: level}, held: level != 0}
	}
	sandbox := container("pause", 3)
	sandbox.Type = identity.TypeSandbox
	for what, test := range map[string]struct {
		fill func(*workloads)
		want uint64
	}{
		"alone":                      {func(*workloads) {}, 5},
		"another pod":                {func(w *workloads) { in(w, container("x", 4), 2, 4) }, 5},
		"governed before":            {func(w *workloads) { in(w, container("x", 4), 1, 4) }, 4},
		"not governed yet":           {func(w *workloads) { in(w, container("x", 4), 1, 0) }, 5},
		"governed by one that went":  {func(w *workloads) { in(w, container("x", 4), 1, 99) }, 5},
		"the sandbox before another": {func(w *workloads) { in(w, container("x", 4), 1, 4); in(w, sandbox, 1, 0) }, 3},
	} {
		w := newWorkloads(nil)
		in(w, container("own", 5), 1, 0)
		test.fill(w)
		if got := w.podLevel(1, 5); got != test.want {
			t.Errorf("%s: container %d, want %d", what, got, test.want)
		}
	}
}

func TestDroppedNetworksAreReleased(t *testing.T) {
	t.Parallel()
	w := newWorkloads(nil)
	w.put(container("a", 7))
	veth := gate.Veth{Ifindex: 2, NetNS: 1, Container: 7}
	w.byCgroup[7].network = &network{veth: veth, held: true}
	w.cgroup(event.Event{Subject: event.Subject{Container: 7}, Removed: true})
	if diff := cmp.Diff([]gate.Veth{veth}, w.release); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestSteps(t *testing.T) {
	t.Parallel()
	want := []event.Step{event.StepLSM, event.StepModRet, event.StepCgroup, event.StepReport}
	if diff := cmp.Diff(want, steps(config.Default().Enforcement.Steps)); diff != "" {
		t.Errorf("every configured step has one of the ladder (-want +got):\n%s", diff)
	}
}
