package policy

import (
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
)

// ProcessSelector selects processes: all fields that are there must match. A nil field matches
// every process.
type ProcessSelector struct {
	Origins        []Origin        `json:"origins,omitzero"`
	Containers     []Glob          `json:"containers,omitzero"` // on the container's name
	ContainerTypes []ContainerType `json:"containerTypes,omitzero"`
	Binaries       []Glob          `json:"binaries,omitzero"` // on the resolved executable, or the script it runs
	Scripts        []Script        `json:"scripts,omitzero"`
	Users          []uint32        `json:"users,omitzero"`  // user ids, as seen inside the container: see IDs
	Groups         []uint32        `json:"groups,omitzero"` // group ids, the same
}

// IDs are the user or group ids that a process acts under or can switch to: real, saved and effective, as
// seen inside the container.
type IDs [3]uint32

// NoID stands for an id that cannot be told: one that the container's user namespace has no number for.
const NoID = ^uint32(0)

// OneID returns the ids of a process that has one only.
func OneID(id uint32) IDs { return IDs{id, id, id} }

// String returns them as people write them: one number, or real/saved/effective.
func (i IDs) String() string {
	text := func(id uint32) string {
		if id == NoID {
			return "none"
		}
		return strconv.FormatUint(uint64(id), 10)
	}
	if i == OneID(i[0]) {
		return text(i[0])
	}
	return text(i[0]) + "/" + text(i[1]) + "/" + text(i[2])
}

// ParseIDs reads one id, or REAL/SAVED/EFFECTIVE.
func ParseIDs(text string) (ids IDs, err error) {
	parts := strings.Split(text, "/")
	if len(parts) != 1 && len(parts) != len(ids) {
		return ids, fmt.Errorf("%q is neither one id nor REAL/SAVED/EFFECTIVE", text)
	}
	for i := range ids {
		id, err := strconv.ParseUint(parts[i%len(parts)], 10, 32)
		if err != nil || uint32(id) == NoID {
			return ids, fmt.Errorf("%q is not a numeric id", parts[i%len(parts)])
		}
		ids[i] = uint32(id)
	}
	return ids, nil
}

// HasAny says whether a list of ids selects a process where one of its ids is enough: a rule that denies, and
// the default-deny that an Allow rule makes. An id that cannot be told could be any (fails closed). more are
// its supplementary groups.
func (i IDs) HasAny(listed, more []uint32) bool {
	return slices.ContainsFunc(append(i[:], more...), func(id uint32) bool { return id == NoID || slices.Contains(listed, id) })
}

// HasAll says whether a list of ids selects a process where it is allowed something: by all that it acts
// under or can switch to, so that a switch gains nothing. Supplementary groups allow nothing, because they
// come from the image's own /etc/group.
func (i IDs) HasAll(listed []uint32) bool {
	return !slices.ContainsFunc(i[:], func(id uint32) bool { return id == NoID || !slices.Contains(listed, id) })
}

// Universal says whether the selector selects every process of the containers that it is about.
func (s *ProcessSelector) Universal() bool {
	return s.Origins == nil && s.Binaries == nil && s.Scripts == nil && s.Users == nil && s.Groups == nil
}

// Script selects processes that run a script by its #! line: both patterns match.
type Script struct {
	Interpreter Glob `json:"interpreter"` // on the resolved executable
	Path        Glob `json:"path"`        // on the script's resolved path
}

// HostSelector selects workloads of the node itself: all fields that are there must match one cgroup, the
// workload's or one above it, and the unit that this is. So whatever is inside of what a policy selects is
// selected too. An empty one selects all.
type HostSelector struct {
	Units   []Glob `json:"units,omitzero"`   // on the name of the systemd unit: ssh.service, user@*.service
	Cgroups []Glob `json:"cgroups,omitzero"` // on the path of the cgroup: /system.slice/**
}

// Matches says whether the selector selects a workload of the node.
func (s *HostSelector) Matches(h *HostUnit) bool {
	if h == nil {
		return false
	}
	above := h.Cgroup
	for unit := h.Unit; !s.selects(unit, above); unit = UnitOf(above) {
		if above = path.Dir(above); !strings.HasPrefix(above, "/") || above == "/" {
			return false
		}
	}
	return true
}

// selects is Matches for one cgroup alone.
func (s *HostSelector) selects(unit, cgroup string) bool {
	return (s.Units == nil || slices.ContainsFunc(s.Units, func(g Glob) bool { return g.Match(unit) })) &&
		(s.Cgroups == nil || slices.ContainsFunc(s.Cgroups, func(g Glob) bool { return g.Match(cgroup) }))
}

// Selects is Matches for the cgroup at p alone, whatever is above it.
func (s *HostSelector) Selects(p string) bool { return s != nil && s.selects(UnitOf(p), p) }

// UnitOf returns the systemd unit whose own cgroup is at p, by its name; "" if none has that name. Systemd puts
// an underscore before names that mean something else in a hierarchy of cgroups.
func UnitOf(p string) string {
	name := path.Base(p)
	switch path.Ext(name) {
	case ".service", ".scope", ".slice", ".socket", ".mount", ".swap":
		return strings.TrimPrefix(name, "_")
	}
	return ""
}

// ContainerType is a container's place in its pod. The words are those of runtime/identity.
type ContainerType string

// The container types that a policy can name.
const (
	ContainerApp       ContainerType = "App"
	ContainerInit      ContainerType = "Init"
	ContainerSidecar   ContainerType = "Sidecar"
	ContainerEphemeral ContainerType = "Ephemeral"
)

// Selectors returns a rule's process selectors; a rule without any has one that selects every
// process.
func (r *Rule) Selectors() []ProcessSelector {
	if r.Processes == nil {
		return []ProcessSelector{{}}
	}
	return r.Processes
}
