package policy

import (
	"path"
	"slices"
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
	Users          []uint32        `json:"users,omitzero"`  // effective user ids, as the node sees them
	Groups         []uint32        `json:"groups,omitzero"` // effective group ids, as the node sees them
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
