package correlate

import (
	"time"

	"github.com/sallyport/sallyport/agent/internal/alert"
	"github.com/sallyport/sallyport/policy/flows"
	"github.com/sallyport/sallyport/runtime/identity"
)

// key tells containers apart: ids are unique in a namespace of their runtime.
type key struct{ namespace, id string }

func keyOf(c *identity.Container) key { return key{c.Namespace, c.ID} }

// task is one run of a container, or a cgroup that nobody has named yet.
type task struct {
	container identity.Container // zero while not known
	known     bool
	labels    string // as text, for every record
	path      string // of the cgroup, from the kernel
	gone      time.Time
}

// containers holds every task by its cgroup, and the newest of each container by its key.
type containers struct {
	byCgroup map[uint64]*task
	byKey    map[key]*task
}

func newContainers() containers {
	return containers{byCgroup: map[uint64]*task{}, byKey: map[key]*task{}}
}

// put takes in what a runtime says of a container. A new task of a known container gets an entry
// of its own, since events of the last one may still come.
func (c *containers) put(container identity.Container, now time.Time) {
	k := keyOf(&container)
	t := c.byKey[k]
	if t != nil && t.gone.IsZero() && container.CgroupID == 0 {
		// News of a container whose task we know, or that has none.
		container.CgroupID, container.CgroupPath = t.container.CgroupID, t.container.CgroupPath
	}
	if t != nil && t.gone.IsZero() && t.container.CgroupID != 0 && t.container.CgroupID != container.CgroupID {
		t.gone = now
	}
	if t == nil || !t.gone.IsZero() {
		t = &task{}
		c.byKey[k] = t
	}
	t.container, t.known, t.labels = container, true, labelText(container.Labels)
	if container.CgroupID != 0 {
		c.byCgroup[container.CgroupID] = t // replaces a provisional entry
	}
}

// stop notes that a container's task ended. It may be the first that is heard of it.
func (c *containers) stop(container identity.Container, now time.Time) {
	k := keyOf(&container)
	if c.byKey[k] == nil && container.CgroupID != 0 {
		c.put(container, now)
	}
	if t := c.byKey[k]; t != nil && t.gone.IsZero() {
		t.gone = now
	}
}

// resync takes in a full list: what is not in it went, and what is listed without a task has none
// any more. Cgroups that nobody has named stay.
func (c *containers) resync(all []identity.Container, now time.Time) {
	listed := make(map[key]bool, len(all))
	for i := range all {
		listed[keyOf(&all[i])] = all[i].CgroupID != 0
	}
	for k, t := range c.byKey {
		if !listed[k] && t.gone.IsZero() {
			t.gone = now
		}
	}
	for i := range all {
		if t := c.byKey[keyOf(&all[i])]; t != nil && all[i].CgroupID == 0 && t.container.CgroupID != 0 {
			continue // its last task is remembered with its names
		}
		c.put(all[i], now)
	}
}

// cgroup takes in that the kernel saw a container's cgroup come or go.
func (c *containers) cgroup(id uint64, path string, removed bool, now time.Time) {
	t := c.byCgroup[id]
	switch {
	case id == 0:
	case removed && t != nil && t.gone.IsZero():
		t.gone = now
	case !removed && (t == nil || !t.gone.IsZero()):
		c.byCgroup[id] = &task{path: path} // inode numbers come again
	}
}

// keyOfCgroup names the container of a cgroup.
func (c *containers) keyOfCgroup(id uint64) (key, bool) {
	t := c.byCgroup[id]
	if t == nil || !t.known {
		return key{}, false
	}
	return keyOf(&t.container), true
}

// name fills in the names of the record's container.
func (c *containers) name(r *alert.Record) {
	t := c.byCgroup[r.Event.Subject.Container]
	if t == nil {
		return
	}
	if !t.known {
		r.Workload = t.path
		return
	}
	r.Container, r.ContainerID, r.Image = t.container.Name, t.container.ID, t.container.Image
	r.PodLabels, r.ContainerType = t.labels, string(t.container.Type)
	if t.container.Type == identity.TypeUnit {
		r.Workload = t.container.ID
		return
	}
	r.Namespace, r.Pod = t.container.Pod.Namespace, t.container.Pod.Name
	if r.Pod == "" {
		r.Namespace, r.Pod = t.container.Namespace, t.container.ID
	}
	r.Workload = r.Namespace + "/" + r.Pod
}

// labelText writes labels for records. Those of a container without a pod can be anything, also long: then
// they are left out, as if they were not known, and never cut.
func labelText(labels map[string]string) string {
	const longest = 2048
	text := flows.LabelText(labels)
	if len(text) > longest {
		return ""
	}
	return text
}

func (c *containers) size() int { return len(c.byCgroup) + len(c.byKey) }

func (c *containers) sweep(before time.Time, most int) {
	gone := func(t *task) time.Time { return t.gone }
	forget(c.byCgroup, gone, before, most)
	forget(c.byKey, gone, before, most)
}
