package containerd

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"reflect"
	"time"

	eventstypes "github.com/containerd/containerd/api/events"
	"github.com/containerd/containerd/api/services/tasks/v1"
	"github.com/containerd/containerd/api/types/runc/options"
	"github.com/containerd/containerd/api/types/task"
	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/containers"
	"github.com/containerd/containerd/v2/core/events"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/typeurl/v2"
	"google.golang.org/grpc"

	"github.com/sallyport/sallyport/runtime/cgroup"
	"github.com/sallyport/sallyport/runtime/identity"
)

// key names a container: ids are unique within a namespace of containerd only.
type key struct{ namespace, id string }

// session is one connection to the daemon.
type session struct {
	*watch
	client  *client.Client
	hostNet uint64 // inode of the node's network namespace; 0: not known
	known   map[key]entry
	doubt   map[key]entry                    // the last list, if it differed from known
	execs   map[key]map[string]identity.Exec // of each container, by exec id
	added   map[key]map[string]bool          // the same of those that have yet to start: whether they have a terminal
}

// settle is when the list is asked for a second time. The daemon registers a subscription while it answers the first
// one, so that an event between the two could be lost; it does not say when it has done so.
const settle = time.Second

// follow connects, lists and follows events until the connection fails or ctx ends. It calls connected when the first
// list has come.
func (w *watch) follow(ctx context.Context, connected func()) error {
	daemon, err := client.New(w.Socket, client.WithTimeout(w.CallTimeout), client.WithExtraDialOpts(w.dial()))
	if err != nil {
		return fmt.Errorf("connecting to containerd: %w", err)
	}
	defer func() { _ = daemon.Close() }() // the connection is given up
	s := session{watch: w, client: daemon, known: make(map[key]entry), execs: make(map[key]map[string]identity.Exec), added: make(map[key]map[string]bool)}
	if s.hostNet, err = w.nodeNetNS(); err != nil {
		w.log.WithError(err).Warn("the node's network namespace is not known: host-network containers are told by their spec only")
	}
	ctx, cancel := context.WithCancel(ctx)
	incoming, failed := daemon.EventService().Subscribe(ctx, topics()...)
	defer func() {
		cancel()
		for range failed { // closed when the client's goroutine has ended
		}
	}()
	if err := s.start(ctx); err != nil {
		return err
	}
	connected()
	return s.loop(ctx, incoming, failed)
}

// dial replaces the client's own dialer, which tries again by itself for as long as CallTimeout while there is no
// socket, whoever gave up meanwhile.
func (w *watch) dial() []grpc.DialOption {
	return []grpc.DialOption{grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", w.Socket)
	})}
}

// nodeNetNS returns the inode of the node's network namespace: that of PID 1, or the agent's own, which is the same for
// an agent that can gate anything, where a security module hides PID 1's.
func (w *watch) nodeNetNS() (uint64, error) {
	inode, err := w.Proc.NetNS(1)
	if err == nil {
		return inode, nil
	}
	inode, own := w.Proc.NetNS(uint32(os.Getpid()))
	if own != nil {
		return 0, errors.Join(err, own)
	}
	return inode, nil
}

func (s *session) loop(ctx context.Context, incoming <-chan *events.Envelope, failed <-chan error) error {
	relist := time.NewTimer(min(settle, s.Relist))
	defer relist.Stop()
	for {
		select {
		case err, ok := <-failed:
			if !ok || err == nil {
				err = errors.New("the stream ended")
			}
			return fmt.Errorf("following containerd's events: %w", err)
		case envelope := <-incoming:
			if err := s.handle(ctx, envelope); err != nil {
				return err
			}
		case <-relist.C:
			next, err := s.relist(ctx)
			if err != nil {
				return err
			}
			relist.Reset(next)
		}
	}
}

// call bounds one call, and names the containerd namespace it is about.
func (s *session) call(ctx context.Context, namespace string) (context.Context, context.CancelFunc) {
	if namespace != "" {
		ctx = namespaces.WithNamespace(ctx, namespace)
	}
	return context.WithTimeout(ctx, s.CallTimeout)
}

// start tells everything there is when a connection begins.
func (s *session) start(ctx context.Context) error {
	known, err := s.listAll(ctx)
	if err != nil {
		return err
	}
	if err := s.adopt(ctx, known); err != nil {
		return err
	}
	for k, e := range known {
		if err := s.tellExecs(ctx, k, e); err != nil {
			return err
		}
	}
	return nil
}

// relist lists everything anew, in case an event was lost. What it sees may be ahead of the events, which then tell of
// it by themselves: only a difference that is still the same at the next look is adopted. It returns when to look again.
func (s *session) relist(ctx context.Context) (time.Duration, error) {
	listed, err := s.listAll(ctx)
	if err != nil {
		return 0, err
	}
	switch s.compare(listed) {
	case doubtful:
		return min(settle, s.Relist), nil
	case wrong:
		s.log.Warn("containerd's list differs from its events: some were lost")
		return s.Relist, s.adopt(ctx, listed)
	case right:
	}
	return s.Relist, nil
}

// belief is what a new list means for what is known.
type belief uint8

const (
	right    belief = iota // the list says the same
	doubtful               // it differs, as it did not at the last look
	wrong                  // it differs as it did at the last look
)

func (s *session) compare(listed map[key]entry) belief {
	before := s.doubt
	s.doubt = nil
	switch {
	case reflect.DeepEqual(listed, s.known):
		return right
	case before != nil && reflect.DeepEqual(listed, before):
		return wrong
	default:
		s.doubt = listed
		return doubtful
	}
}

// adopt makes a list what is known, and tells it.
func (s *session) adopt(ctx context.Context, listed map[key]entry) error {
	s.known = listed
	maps.DeleteFunc(s.execs, func(k key, _ map[string]identity.Exec) bool { return !listed[k].Running })
	maps.DeleteFunc(s.added, func(k key, _ map[string]bool) bool { return !listed[k].Running })
	all := make([]identity.Container, 0, len(listed))
	for _, e := range listed {
		all = append(all, e.Container)
	}
	return s.tell(ctx, identity.Change{Kind: identity.Resynced, All: all})
}

// listAll lists the containers of every watched namespace.
func (s *session) listAll(ctx context.Context) (map[key]entry, error) {
	watched := s.Namespaces
	if len(watched) == 0 {
		callCtx, cancel := s.call(ctx, "")
		defer cancel()
		var err error
		if watched, err = s.client.NamespaceService().List(callCtx); err != nil {
			return nil, fmt.Errorf("listing containerd's namespaces: %w", err)
		}
	}
	listed := make(map[key]entry, len(s.known))
	for _, namespace := range watched {
		if err := s.list(ctx, namespace, listed); err != nil {
			return nil, err
		}
	}
	return listed, nil
}

// list adds the containers of a namespace.
func (s *session) list(ctx context.Context, namespace string, listed map[key]entry) error {
	callCtx, cancel := s.call(ctx, namespace)
	defer cancel()
	records, err := s.client.ContainerService().List(callCtx)
	if err != nil {
		return fmt.Errorf("listing containers of %s: %w", namespace, err)
	}
	reply, err := s.client.TaskService().List(callCtx, &tasks.ListTasksRequest{})
	if err != nil {
		return fmt.Errorf("listing tasks of %s: %w", namespace, err)
	}
	running := make(map[string]*task.Process, len(reply.GetTasks()))
	for _, t := range reply.GetTasks() {
		running[t.GetID()] = t
	}
	for _, sandboxes := range []bool{true, false} { // first, since the others take their labels from them
		for _, record := range records {
			e := s.describe(namespace, record)
			if (e.Type == identity.TypeSandbox) != sandboxes {
				continue
			}
			s.takeLabels(&e, listed)
			if t := running[record.ID]; t != nil && alive(t.GetStatus()) {
				s.locate(ctx, &e, t.GetPid())
				e.Running = t.GetStatus() != task.Status_CREATED
			}
			listed[key{namespace, record.ID}] = e
		}
	}
	return nil
}

func alive(status task.Status) bool {
	switch status {
	case task.Status_CREATED, task.Status_RUNNING, task.Status_PAUSED, task.Status_PAUSING:
		return true
	case task.Status_STOPPED, task.Status_UNKNOWN:
		return false
	default:
		return false
	}
}

func (s *session) describe(namespace string, record containers.Container) entry {
	e, err := describe(namespace, record)
	if err != nil {
		// Fails open: without its pod a container is selected by no policy that names one.
		s.warn(e, err, "a container's pod is not known")
	}
	if e.dropped > 0 {
		s.warn(e, fmt.Errorf("%d labels dropped", e.dropped), "a container has too many labels; policies cannot select by all of them")
	}
	return e
}

// warn logs what is wrong with a container: once, though it is looked at with every list.
func (s *session) warn(e entry, err error, message string) {
	log := s.log.WithError(err).WithField("container", e.ID).WithField("namespace", e.Namespace)
	if known, ok := s.known[key{e.Namespace, e.ID}]; ok && (e.InitPID == 0 || known.InitPID == e.InitPID) {
		log.Debug(message)
		return
	}
	log.Warn(message)
}

// takeLabels gives a container of a pod the pod's labels, if its sandbox is known.
func (s *session) takeLabels(e *entry, known map[key]entry) {
	if e.sandboxID == "" || e.Type == identity.TypeSandbox {
		return
	}
	sandbox, ok := known[key{e.Namespace, e.sandboxID}]
	if !ok || sandbox.Type != identity.TypeSandbox {
		// Fails open: policies that select by label do not select this container.
		s.warn(*e, fmt.Errorf("no sandbox %s", e.sandboxID), "a pod's labels are not known")
		return
	}
	if err := e.takeFrom(sandbox); err != nil {
		// Fails closed: its probes are taken for Exec.
		s.warn(*e, err, "a container's probes are not known")
	}
}

// locate records the task's first process, its cgroup and whether its network is the node's.
func (s *session) locate(ctx context.Context, e *entry, pid uint32) {
	e.InitPID, e.CgroupPath, e.CgroupID = pid, "", 0
	log := s.log.WithField("container", e.ID).WithField("namespace", e.Namespace).WithField("pid", pid)
	p, err := s.Proc.Process(pid)
	if err != nil {
		log.WithError(err).Debug("a container's first process cannot be read") // it ended, which its exit event says too
		return
	}
	path, named := cgroup.Top(p.Cgroup, e.cgroupsPath, e.ID)
	if !named && !s.hasTask(ctx, e.Container, pid) {
		log.Debug("a container's first process ended before its cgroup was read")
		return
	}
	id, err := s.Cgroups.ID(path)
	if path == "/" && err == nil {
		err = errors.New("its processes are in the root cgroup, which is the node's")
	}
	if err != nil {
		// Fails open: without a cgroup the kernel programs cannot tell the container from the node.
		s.warn(*e, err, "a container has no cgroup of its own and is not governed")
		return
	}
	e.CgroupPath, e.CgroupID = path, id
	if s.hostNet != 0 && p.Namespaces.Net != 0 {
		e.Pod.HostNetwork = p.Namespaces.Net == s.hostNet
	}
}

// hasTask asks whether the container's first process is still pid: the number of one that ended may be another's.
func (s *session) hasTask(ctx context.Context, c identity.Container, pid uint32) bool {
	callCtx, cancel := s.call(ctx, c.Namespace)
	defer cancel()
	reply, err := s.client.TaskService().Get(callCtx, &tasks.GetRequest{ContainerID: c.ID})
	return err == nil && reply.GetProcess().GetPid() == pid && alive(reply.GetProcess().GetStatus())
}

// get reads a container's record. It returns an errdefs.ErrNotFound for one that was removed.
func (s *session) get(ctx context.Context, k key) (containers.Container, error) {
	callCtx, cancel := s.call(ctx, k.namespace)
	defer cancel()
	record, err := s.client.ContainerService().Get(callCtx, k.id)
	if err != nil {
		return containers.Container{}, fmt.Errorf("asking for container %s: %w", k.id, err)
	}
	return record, nil
}

// tellExecs tells of the execs that run in a container already. What cannot be asked of it is left out: the execs'
// processes are labelled all the same, they only lack the runtime's name for them.
func (s *session) tellExecs(ctx context.Context, k key, e entry) error {
	if !e.Running {
		return nil
	}
	callCtx, cancel := s.call(ctx, k.namespace)
	defer cancel()
	reply, err := s.client.TaskService().ListPids(callCtx, &tasks.ListPidsRequest{ContainerID: k.id})
	if err != nil {
		s.log.WithError(err).WithField("container", k.id).Debug("a container's execs cannot be listed")
		return ctx.Err()
	}
	for _, p := range reply.GetProcesses() {
		var details options.ProcessDetails
		if p.GetInfo() == nil || typeurl.UnmarshalTo(p.GetInfo(), &details) != nil || details.GetExecID() == "" {
			continue
		}
		if err := s.startExec(ctx, k, &eventstypes.TaskExecStarted{ExecID: details.GetExecID(), Pid: p.GetPid()}, time.Time{}); err != nil {
			return err
		}
	}
	return nil
}
