// Package identity says what a container and its workload are, in plain Go types that every
// runtime (containerd, procfs, …) fills and the agent joins with what the kernel saw.
//
// It is pure: it imports nothing of this module, no runtime and no kernel.
package identity

import "time"

// Type is a container's place in its pod.
type Type string

// The container types.
const (
	TypeApp       Type = "App"
	TypeInit      Type = "Init"
	TypeSidecar   Type = "Sidecar"
	TypeEphemeral Type = "Ephemeral"
	TypeSandbox   Type = "Sandbox" // the pause container that holds a pod's namespaces
	TypeUnit      Type = "Unit"    // no container: a unit or cgroup of the node; ID is its cgroup's path, Name the unit's, or ""
)

// Container is one container as its runtime describes it.
type Container struct {
	ID         string // the runtime's id
	Runtime    string // "containerd"
	Namespace  string // the runtime's namespace: k8s.io, default, moby
	Name       string // name inside the pod (io.kubernetes.container.name), or ID without a pod
	Type       Type
	Image      string
	Labels     map[string]string // labels the policies select by: the pod's, or the container's own without a pod
	Pod        Pod
	Probes     [][]string // arguments of its exec probes and lifecycle commands; who execs just these is Probe
	CgroupPath string     // below the root of the cgroup v2 hierarchy, e.g. /default/demo; "" until it has a task
	CgroupID   uint64     // inode of that directory; 0 until it has a task
	InitPID    uint32     // of the task's first process, in the agent's PID namespace; 0 without a task
	Running    bool       // the task's entrypoint has been started
	CreatedAt  time.Time
}

// Pod is the workload a container belongs to. A container without a pod is a workload of its own:
// Namespace is the runtime's namespace and Name the container's id.
type Pod struct {
	Namespace   string
	Name        string
	UID         string
	HostNetwork bool
}

// Exec is one session of a container as its runtime names it. It is joined to the kernel's
// session by PID, for the report only: the kernel has labelled the process long before.
type Exec struct {
	ContainerID string
	Namespace   string // the runtime's namespace
	ID          string // the runtime's exec id
	PID         uint32 // 0 until it was started
	Args        []string
	Terminal    bool
	ExitCode    uint32
	StartedAt   time.Time
	ExitedAt    time.Time
}

// ChangeKind says what a Change reports.
type ChangeKind uint8

// The kinds of changes.
const (
	ContainerCreated ChangeKind = iota + 1 // Container is known; it may have no task yet
	ContainerStarted                       // its task runs: CgroupID and InitPID are set
	ContainerStopped                       // its task ended
	ContainerRemoved                       // the runtime forgot it
	ExecStarted                            // Exec.PID is set
	ExecExited
	Resynced     // the runtime was listed anew: All holds every container, the rest is gone
	Disconnected // the runtime is away; what was known stays valid
)

// Change is one step in what a runtime knows.
type Change struct {
	Kind      ChangeKind
	Container Container
	Exec      Exec
	All       []Container // for Resynced
	Err       error       // for Disconnected
}
