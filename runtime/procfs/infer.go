package procfs

import (
	"cmp"
	"slices"

	"github.com/sallyport/sallyport/runtime/cgroup"
)

// Origin says how a process came into its container, as far as /proc can prove it. A probe of the kubelet cannot be
// told from another exec here.
type Origin uint8

// The origins.
const (
	Unknown Origin = iota // nothing proves either
	Main                  // descends from the container's first process
	Exec                  // joined the container, or descends from one that did
)

func (o Origin) String() string {
	switch o {
	case Main:
		return "Main"
	case Exec:
		return "Exec"
	default:
		return "Unknown"
	}
}

// Reason is the proof of an origin, or why there is none.
type Reason string

// The reasons.
const (
	ReasonInit       Reason = "is the container's first process"
	ReasonRuntime    Reason = "is an exec of the runtime"
	ReasonSession    Reason = "is in the session of a process whose origin is proved"
	ReasonParent     Reason = "is a child of a process whose origin is proved"
	ReasonJoined     Reason = "has a parent outside the container, which only joining it leaves"
	ReasonNoInit     Reason = "the container's first process is not known"
	ReasonAdopted    Reason = "is a child of an init: made by it, or adopted as an orphan"
	ReasonSharedPID  Reason = "has a parent outside the container, which may have adopted it: the PID namespace is shared"
	ReasonUnfollowed Reason = "its parent ended, or changed, while /proc was read"
	ReasonUnproved   Reason = "descends from a process whose origin is not proved"
)

// Query names the container whose processes Infer is asked for.
type Query struct {
	Cgroup  string   // path of the container's cgroup in the v2 hierarchy
	InitPID uint32   // of its first process; 0: not known
	Execs   []uint32 // processes that the runtime names as execs of the container
}

// Inferred is what could be told of one process.
type Inferred struct {
	PID            uint32
	StartTicks     uint64 // clock ticks since boot: with PID it names the process
	Origin         Origin
	SessionRootPID uint32 // for Exec: the process that joined; alive when /proc was read
	SessionStart   uint64 // its StartTicks
	Reason         Reason
}

// Infer tells the origins of the processes of a container that were there before anybody watched, in the order of PIDs.
//
// Origin is a question of lineage: who descends, by fork, from the container's first process (init), and who from one
// that joined later. /proc shows parents instead, and an orphan changes its parent. These facts prove lineage, and a
// process cannot forge them, whatever it runs, unless it may leave the container anyway:
//
//   - A session is entered only by being forked within it: setsid makes a new one, nothing joins an old one, and the
//     number of a session is not given to a new process while the session has members. So the members of a session
//     descend from its leader, orphans included. runc makes both init and every exec a session leader.
//   - A parent that is not the init of a PID namespace has forked the process, or is an ancestor of who forked it
//     (CLONE_PARENT, subreapers). The init of a PID namespace adopts any orphan of the namespace: it proves nothing.
//   - In a container with a PID namespace of its own, orphans go to its init, which cannot use CLONE_PARENT, and no
//     process gets out into an outer PID namespace. So who has a parent outside has joined, and Main never does.
//
// It follows that a child of init which began a session of its own cannot be told (a daemon of the entrypoint, or the
// nohup of an exec that is over): Unknown, and so is what descends from it. Where the container shares the PID namespace
// of its pod, a parent that lives in another PID namespace is still that of an exec, since the orphans go to the init
// within; a Main process that uses CLONE_PARENT and setsid would pass for an exec, and gain what execs may, no more than
// that. Where it shares the node's, its orphans and its execs have the same parent: Unknown, unless the runtime names
// the exec.
//
// The snapshot need not be of one instant: each fact stays true of the process it was read from, and a parent that is
// younger than its child betrays that the number was given to another process.
func Infer(snapshot []Process, q Query) []Inferred {
	in := inference{Query: q, all: make(map[uint32]*Process, len(snapshot)), known: make(map[uint32]Inferred)}
	for i := range snapshot {
		in.all[snapshot[i].PID] = &snapshot[i]
	}
	in.init = in.all[q.InitPID]
	var result []Inferred
	for i := range snapshot {
		if cgroup.Within(snapshot[i].Cgroup, q.Cgroup) {
			result = append(result, in.origin(&snapshot[i]))
		}
	}
	slices.SortFunc(result, func(a, b Inferred) int { return cmp.Compare(a.PID, b.PID) })
	return result
}

type inference struct {
	Query
	all   map[uint32]*Process
	init  *Process // of the container; nil when not known
	known map[uint32]Inferred
}

// origin returns what can be told of p, and remembers it.
func (in *inference) origin(p *Process) Inferred {
	if done, ok := in.known[p.PID]; ok {
		return done
	}
	// What is met again while its own answer is sought (a torn snapshot can hold a circle) is not proved.
	in.known[p.PID] = Inferred{PID: p.PID, StartTicks: p.StartTicks, Reason: ReasonUnfollowed}
	found := in.infer(p)
	found.PID, found.StartTicks = p.PID, p.StartTicks
	in.known[p.PID] = found
	return found
}

func (in *inference) infer(p *Process) Inferred {
	joined := Inferred{Origin: Exec, SessionRootPID: p.PID, SessionStart: p.StartTicks}
	switch {
	case in.init == nil:
		return Inferred{Reason: ReasonNoInit}
	case p == in.init:
		return Inferred{Origin: Main, Reason: ReasonInit}
	case slices.Contains(in.Execs, p.PID):
		joined.Reason = ReasonRuntime
		return joined
	}
	if leader := in.all[p.Session]; leader != nil && leader != p && in.inside(leader) &&
		leader.Session == leader.PID && leader.StartTicks <= p.StartTicks {
		if of := in.origin(leader); of.Origin != Unknown {
			of.Reason = ReasonSession
			return of
		}
	}
	parent := in.all[p.PPID]
	switch {
	case parent == nil || parent.StartTicks > p.StartTicks:
		return Inferred{Reason: ReasonUnfollowed}
	case !in.inside(parent):
		if reason := in.outsideParent(p, parent); reason != ReasonJoined {
			return Inferred{Reason: reason}
		}
		joined.Reason = ReasonJoined
		return joined
	case parent.isInit():
		return Inferred{Reason: ReasonAdopted}
	}
	of := in.origin(parent)
	of.Reason = ReasonParent
	if of.Origin == Unknown {
		of.Reason = ReasonUnproved
	}
	return of
}

// outsideParent says what a parent outside the container proves.
func (in *inference) outsideParent(p, parent *Process) Reason {
	// Processes of a privileged container may have left its cgroup: whoever has the container above it is not outside.
	for above, steps := parent, 0; above != nil && steps <= len(in.all); above, steps = in.all[above.PPID], steps+1 {
		if in.inside(above) {
			return ReasonUnproved
		}
	}
	switch {
	case in.init.isInit():
		return ReasonJoined
	case p.Namespaces.PID == 0 || parent.Namespaces.PID == 0 || p.Namespaces.PID == parent.Namespaces.PID:
		return ReasonSharedPID
	default:
		return ReasonJoined
	}
}

// inside reports whether a process is the container's: in its cgroup, or in the PID namespace it has for itself.
func (in *inference) inside(p *Process) bool {
	return cgroup.Within(p.Cgroup, in.Cgroup) ||
		in.init.isInit() && p.Namespaces.PID != 0 && p.Namespaces.PID == in.init.Namespaces.PID
}

// isInit reports whether a process is the first of its PID namespace, to which the orphans of the namespace go.
func (p *Process) isInit() bool {
	return len(p.NSPID) > 0 && p.NSPID[len(p.NSPID)-1] == 1
}
