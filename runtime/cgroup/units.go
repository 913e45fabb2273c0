package cgroup

import (
	"io/fs"
	"path"
	"slices"
	"strings"
)

// UnitQuery says which cgroups of the node itself are workloads.
type UnitQuery struct {
	Selects func(path string) []int  // which selectors select this very cgroup, by numbers of the caller's; ascending
	Unit    func(path string) string // the systemd unit whose own cgroup this is, by name; "": none's
	Except  string                   // the agent's own cgroup, which is no workload, and none above or below it is; "" or "/": none
	Parents []string                 // cgroups whose children are containers, see Containers
}

// sliceUnit is the ending of units that are there to hold others.
const sliceUnit = ".slice"

// Is says whether the cgroup at p is a workload: a selector selects it or a cgroup above it, and it is a systemd unit that
// is in no other unit but slices, or there is a selector among those that does not select the cgroup above.
// So every service has a name of its own in reports, whatever holds it, and what a service makes below its own cgroup is a
// part of it unless policies tell it apart. Containers and what is inside are no workloads of the node.
func (q *UnitQuery) Is(p string) bool {
	if p == "/" || q.excepted(p) {
		return false
	}
	selected, inUnit, is := map[int]bool{}, false, false
	for at := range prefixes(p) {
		if ContainerID(path.Base(at)) != "" || slices.Contains(q.Parents, path.Dir(at)) {
			return false
		}
		before := len(selected)
		for _, n := range q.Selects(at) {
			selected[n] = true
		}
		unit := q.Unit(at)
		proper := unit != "" && path.Ext(unit) != sliceUnit
		is = len(selected) > before || len(selected) > 0 && proper && !inUnit
		inUnit = inUnit || proper
	}
	return is
}

// excepted says whether p is the agent's own cgroup, above it, or below it.
func (q *UnitQuery) excepted(p string) bool {
	return q.Except != "" && q.Except != "/" && (Within(q.Except, p) || Within(p, q.Except))
}

// prefixes gives the cgroups from below the root down to p.
func prefixes(p string) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		for i := 1; i < len(p); i++ {
			if next := strings.IndexByte(p[i:], '/'); next >= 0 {
				i += next
			} else {
				i = len(p)
			}
			if !yield(p[:i]) {
				return
			}
		}
	}
}

// Units returns the cgroups that are workloads of the node itself, in the order of their paths.
func (h Hierarchy) Units(q UnitQuery) ([]Cgroup, error) {
	var found []Cgroup
	err := h.walk(func(c Cgroup) error {
		if c.ContainerID != "" || slices.Contains(q.Parents, path.Dir(c.Path)) {
			return fs.SkipDir
		}
		if q.Is(c.Path) {
			found = append(found, c)
		}
		return nil
	})
	return found, err
}
