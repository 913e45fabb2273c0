package policy

import "slices"

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

// HostSelector selects workloads of the node itself: all fields that are there must match. An empty
// one selects all.
type HostSelector struct {
	Units   []Glob `json:"units,omitzero"`   // on the name of the systemd unit: ssh.service, user@*.service
	Cgroups []Glob `json:"cgroups,omitzero"` // on the path of the cgroup: /system.slice/**
}

// Matches says whether the selector selects a workload of the node.
func (s *HostSelector) Matches(h *HostUnit) bool {
	if h == nil {
		return false
	}
	return (s.Units == nil || slices.ContainsFunc(s.Units, func(g Glob) bool { return g.Match(h.Unit) })) &&
		(s.Cgroups == nil || slices.ContainsFunc(s.Cgroups, func(g Glob) bool { return g.Match(h.Cgroup) }))
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
