package containerd

import (
	"context"
	"fmt"
	"path"
	"slices"
	"time"

	eventstypes "github.com/containerd/containerd/api/events"
	"github.com/containerd/containerd/api/services/tasks/v1"
	"github.com/containerd/containerd/v2/core/events"
	"github.com/containerd/errdefs"
	"github.com/containerd/typeurl/v2"

	"github.com/sallyport/sallyport/runtime/identity"
)

// topics is the filter that the daemon applies: what handle knows.
func topics() []string {
	return []string{
		`topic=="/containers/create"`, `topic=="/containers/update"`, `topic=="/containers/delete"`,
		`topic=="/tasks/create"`, `topic=="/tasks/start"`, `topic=="/tasks/exit"`, `topic=="/tasks/delete"`,
		`topic=="/tasks/exec-added"`, `topic=="/tasks/exec-started"`,
	}
}

// handle turns one event into changes. Its errors end the connection: after the next one everything is listed anew.
func (s *session) handle(ctx context.Context, envelope *events.Envelope) error {
	if len(s.Namespaces) > 0 && !slices.Contains(s.Namespaces, envelope.Namespace) {
		return nil
	}
	event, err := typeurl.UnmarshalAny(envelope.Event)
	if err != nil {
		return fmt.Errorf("reading an event of %s: %w", envelope.Topic, err)
	}
	in := func(id string) key { return key{envelope.Namespace, id} }
	switch e := event.(type) {
	case *eventstypes.ContainerCreate:
		return s.refresh(ctx, in(e.GetID()))
	case *eventstypes.ContainerUpdate:
		return s.refresh(ctx, in(e.GetID()))
	case *eventstypes.ContainerDelete:
		return s.remove(ctx, in(e.GetID()))
	case *eventstypes.TaskCreate:
		return s.startTask(ctx, in(e.GetContainerID()), e.GetPid(), identity.ContainerCreated)
	case *eventstypes.TaskStart:
		return s.startTask(ctx, in(e.GetContainerID()), e.GetPid(), identity.ContainerStarted)
	case *eventstypes.TaskExecAdded:
		s.addExec(ctx, in(e.GetContainerID()), e.GetExecID())
	case *eventstypes.TaskExecStarted:
		return s.startExec(ctx, in(e.GetContainerID()), e, envelope.Timestamp)
	case *eventstypes.TaskExit:
		return s.exit(ctx, in(e.GetContainerID()), e)
	case *eventstypes.TaskDelete:
		if e.GetID() == "" || e.GetID() == e.GetContainerID() {
			return s.stopTask(ctx, in(e.GetContainerID()), e.GetPid())
		}
	}
	return nil
}

// refresh reads a container's record and tells of it. What is known of its task stays.
func (s *session) refresh(ctx context.Context, k key) error {
	record, err := s.get(ctx, k)
	if errdefs.IsNotFound(err) {
		return nil // removed meanwhile, which its own event says
	} else if err != nil {
		return err
	}
	e := s.describe(k.namespace, record)
	s.takeLabels(&e, s.known)
	if old, ok := s.known[k]; ok {
		e.CgroupPath, e.CgroupID, e.InitPID, e.Running = old.CgroupPath, old.CgroupID, old.InitPID, old.Running
		if old.InitPID != 0 {
			e.Pod.HostNetwork = old.Pod.HostNetwork
		}
	}
	s.known[k] = e
	return s.tell(ctx, identity.Change{Kind: identity.ContainerCreated, Container: e.Container})
}

// remove forgets a container, unless one of the same name is there again.
func (s *session) remove(ctx context.Context, k key) error {
	if _, err := s.get(ctx, k); err == nil {
		return nil
	} else if !errdefs.IsNotFound(err) {
		return err
	}
	e, ok := s.known[k]
	if !ok {
		return nil
	}
	delete(s.known, k)
	delete(s.execs, k)
	delete(s.added, k)
	return s.tell(ctx, identity.Change{Kind: identity.ContainerRemoved, Container: e.Container})
}

// startTask records the first process of a container's task: made (kind is ContainerCreated, the entrypoint has yet to
// be executed), or started.
func (s *session) startTask(ctx context.Context, k key, pid uint32, kind identity.ChangeKind) error {
	if _, ok := s.known[k]; !ok {
		if err := s.refresh(ctx, k); err != nil {
			return err
		}
	}
	e, ok := s.known[k]
	if !ok {
		return nil // removed meanwhile
	}
	if e.InitPID != pid || e.CgroupID == 0 {
		s.locate(ctx, &e, pid)
	}
	e.Running = kind == identity.ContainerStarted
	s.known[k] = e
	return s.tell(ctx, identity.Change{Kind: kind, Container: e.Container})
}

// stopTask records that the task whose first process was pid has ended. It is told once, of that task only.
func (s *session) stopTask(ctx context.Context, k key, pid uint32) error {
	e, ok := s.known[k]
	if !ok || e.InitPID != pid || pid == 0 {
		return nil
	}
	e.Running = false
	told := e.Container
	e.CgroupPath, e.CgroupID, e.InitPID, e.Pod.HostNetwork = "", 0, 0, e.specHostNet
	s.known[k] = e
	delete(s.execs, k)
	delete(s.added, k)
	return s.tell(ctx, identity.Change{Kind: identity.ContainerStopped, Container: told})
}

// mostAdded bounds how many execs of a container are kept that have yet to start. Those forgotten are asked about when they
// start, if they still run then.
const mostAdded = 256

// addExec asks whether an exec that has yet to start has a terminal. Once it has started it may be over before anybody asks.
func (s *session) addExec(ctx context.Context, k key, id string) {
	if _, ok := s.known[k]; !ok {
		return // its first event comes with its container's, or with the next list
	}
	if s.added[k] == nil || len(s.added[k]) == mostAdded { // of those that never start nothing more is heard
		s.added[k] = make(map[string]bool)
	}
	s.added[k][id] = s.hasTerminal(ctx, k, id)
}

func (s *session) hasTerminal(ctx context.Context, k key, id string) bool {
	callCtx, cancel := s.call(ctx, k.namespace)
	defer cancel()
	reply, err := s.client.TaskService().Get(callCtx, &tasks.GetRequest{ContainerID: k.id, ExecID: id})
	return err == nil && reply.GetProcess().GetTerminal() // of one that is over nothing is known
}

func (s *session) startExec(ctx context.Context, k key, started *eventstypes.TaskExecStarted, at time.Time) error {
	x := identity.Exec{
		ContainerID: k.id, Namespace: k.namespace, ID: started.GetExecID(), PID: started.GetPid(), StartedAt: at,
	}
	x.Args = s.arguments(ctx, x.PID)
	var asked bool
	if x.Terminal, asked = s.added[k][x.ID]; !asked {
		x.Terminal = s.hasTerminal(ctx, k, x.ID)
	}
	delete(s.added[k], x.ID)
	if s.execs[k] == nil {
		s.execs[k] = make(map[string]identity.Exec)
	}
	s.execs[k][x.ID] = x
	return s.tell(ctx, identity.Change{Kind: identity.ExecStarted, Container: s.known[k].Container, Exec: x})
}

// exit is the end of the task's first process or of an exec's.
func (s *session) exit(ctx context.Context, k key, e *eventstypes.TaskExit) error {
	if e.GetID() == "" || e.GetID() == e.GetContainerID() {
		return s.stopTask(ctx, k, e.GetPid())
	}
	x, ok := s.execs[k][e.GetID()]
	if !ok || x.PID != e.GetPid() {
		x = identity.Exec{ContainerID: k.id, Namespace: k.namespace, ID: e.GetID(), PID: e.GetPid()}
	}
	delete(s.execs[k], e.GetID())
	x.ExitCode, x.ExitedAt = e.GetExitStatus(), e.GetExitedAt().AsTime()
	return s.tell(ctx, identity.Change{Kind: identity.ExecExited, Container: s.known[k].Container, Exec: x})
}

// arguments returns those of an exec's process, for the report only: they are its own to change. They are empty when it
// is over already. runc says that an exec has started when its own init is about to execute the program, so that for a
// moment they are still those of runc, and then none.
func (s *session) arguments(ctx context.Context, pid uint32) []string {
	for pause := time.Millisecond; pause < 100*time.Millisecond; pause *= 2 {
		args, err := s.Proc.Cmdline(pid)
		if err != nil {
			return nil
		}
		if len(args) > 0 && !isRuncInit(args) {
			return args
		}
		if p, err := s.Proc.Process(pid); err != nil || p.State == 'Z' {
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
	}
	return nil
}

func isRuncInit(args []string) bool {
	return len(args) == 2 && path.Base(args[0]) == "runc" && args[1] == "init"
}
