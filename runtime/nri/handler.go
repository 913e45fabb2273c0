package nri

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/containerd/nri/pkg/api"
	"github.com/containerd/nri/pkg/stub"

	"github.com/sallyport/sallyport/runtime/identity"
)

// handler takes the runtime's calls of one connection. The runtime makes them one after the other, or nearly so.
type handler struct {
	*Plugin
	ctx          context.Context //nolint:containedctx // of the connection: calls end with it, and the stub does not see to that
	stub         stub.Stub
	changes      chan<- identity.Change
	handlers     sync.WaitGroup
	synchronized atomic.Bool

	mu      sync.Mutex
	runtime string                        // its name
	known   map[string]identity.Container // that were started, by id
}

// settle is how long the stub gets to see for itself that its connection is gone.
const settle = time.Second

// ended waits for the stub, whose connection is closed, and returns what it ended with.
func (h *handler) ended(ctx context.Context, done <-chan error) error {
	select {
	case err := <-done:
		return err
	case <-time.After(settle):
	}
	go h.unblock(ctx) // beside: should the stub wait for something else, this must not wait with it
	return <-done
}

// unblock ends the stub's wait to be configured, where the connection broke in between: it would never end by itself,
// and hold its lock for ever.
func (h *handler) unblock(ctx context.Context) {
	service, ok := h.stub.(api.PluginService)
	if !ok || h.synchronized.Load() {
		return
	}
	_, _ = service.Configure(ctx, &api.ConfigureRequest{NRIVersion: "none"}) // its error is what ends the wait
}

// errEnded is returned to a runtime that calls while the plugin ends.
var errEnded = errors.New("the plugin is ending")

// enter bounds one call of the runtime: by its own patience, by the connection, and by timeout.
func (h *handler) enter(ctx context.Context, timeout time.Duration) (context.Context, func()) {
	h.handlers.Add(1)
	ctx, cancel := context.WithTimeout(ctx, timeout)
	stop := context.AfterFunc(h.ctx, cancel)
	return ctx, func() {
		stop()
		cancel()
		h.handlers.Done()
	}
}

// Configure learns who the runtime is and how long it waits.
func (h *handler) Configure(_ context.Context, _, runtime, version string) (stub.EventMask, error) {
	if h.ctx.Err() != nil || runtime == "" {
		return 0, errEnded
	}
	timeout, patience := h.cfg.Timeout, h.stub.RequestTimeout()
	if limit := patience * 3 / 4; patience > 0 && timeout > limit {
		h.log.WithField("patience", patience).WithField("timeout", limit).
			Warn("the runtime waits less than runtime.nri.timeout; containers may wait less too")
		timeout = limit
	}
	h.mu.Lock()
	h.runtime = runtime
	h.mu.Unlock()
	h.update(func(s *Status) { s.Runtime, s.Timeout = runtime+" "+version, timeout })
	return 0, nil // what there are methods for
}

// Synchronize takes what runs already.
func (h *handler) Synchronize(ctx context.Context, pods []*api.PodSandbox, containers []*api.Container) ([]*api.ContainerUpdate, error) {
	ctx, leave := h.enter(ctx, h.Status().Timeout)
	defer leave()
	byID := make(map[string]*api.PodSandbox, len(pods))
	var all []identity.Container
	for _, pod := range pods {
		byID[pod.GetId()] = pod
		if c, ok := h.sandbox(pod); ok {
			all = append(all, c)
		}
	}
	for _, c := range containers {
		pod := byID[c.GetPodSandboxId()]
		if pod == nil || c.GetPid() == 0 {
			continue
		}
		described := h.describe(pod, c)
		if err := h.locate(&described, c); err != nil {
			h.log.WithError(err).Warn("a running container cannot be located")
			continue
		}
		described.Running = c.GetState() == api.ContainerState_CONTAINER_RUNNING
		all = append(all, described)
	}
	for _, c := range all {
		h.remember(c)
	}
	if err := h.tellAll(ctx, all); err != nil {
		return nil, fmt.Errorf("taking in what runs: %w", err)
	}
	h.synchronized.Store(true)
	h.update(func(s *Status) { s.Connected, s.Err = true, nil })
	h.log.WithField("runtime", h.Status().Runtime).Info("the runtime calls before it starts containers")
	return nil, nil
}

func (h *handler) tellAll(ctx context.Context, all []identity.Container) error {
	if h.cfg.Sole {
		return tell(ctx, h.changes, identity.Change{Kind: identity.Resynced, All: all})
	}
	for _, c := range all {
		kind := identity.ContainerCreated
		if c.Running {
			kind = identity.ContainerStarted
		}
		if err := tell(ctx, h.changes, identity.Change{Kind: kind, Container: c}); err != nil {
			return err
		}
	}
	return nil
}

// RunPodSandbox governs a pod's sandbox, whose rules judge the node's processes in the pod's network.
func (h *handler) RunPodSandbox(ctx context.Context, pod *api.PodSandbox) error {
	ctx, leave := h.enter(ctx, h.Status().Timeout)
	defer leave()
	if c, ok := h.sandbox(pod); ok {
		return h.start(ctx, c, nil)
	}
	return nil // some runtimes have pods without a process of their own
}

// CreateContainer makes a container's names known. It has no process yet.
func (h *handler) CreateContainer(ctx context.Context, pod *api.PodSandbox, c *api.Container) (*api.ContainerAdjustment, []*api.ContainerUpdate, error) {
	ctx, leave := h.enter(ctx, h.Status().Timeout)
	defer leave()
	// What is not told in time is told when it starts, which is what counts.
	_ = tell(ctx, h.changes, identity.Change{Kind: identity.ContainerCreated, Container: h.describe(pod, c)})
	return nil, nil, nil
}

// StartContainer holds the start of a container until its policies are in force.
func (h *handler) StartContainer(ctx context.Context, pod *api.PodSandbox, c *api.Container) error {
	ctx, leave := h.enter(ctx, h.Status().Timeout)
	defer leave()
	described := h.describe(pod, c)
	return h.start(ctx, described, h.locate(&described, c))
}

// start governs a container, unless it could not be located. Where that takes too long, the configuration says what
// becomes of it: admit fails open until the policies are there, and refuse fails closed.
func (h *handler) start(ctx context.Context, c identity.Container, err error) error {
	if err == nil {
		h.remember(c)
		err = h.cfg.Start(ctx, c)
	}
	if err == nil {
		return nil
	}
	refuse := h.cfg.Refuse
	h.update(func(s *Status) {
		if refuse {
			s.Refused++
		} else {
			s.Admitted++
		}
	})
	h.cfg.Late(c, err, refuse)
	if refuse {
		return fmt.Errorf("refusing container %s, its policies are not in force: %w", c.Name, err)
	}
	return nil
}

// StopContainer tells that a container's processes have ended.
func (h *handler) StopContainer(ctx context.Context, _ *api.PodSandbox, c *api.Container) ([]*api.ContainerUpdate, error) {
	h.gone(ctx, c.GetId(), identity.ContainerStopped)
	return nil, nil
}

// RemoveContainer tells that a container was removed.
func (h *handler) RemoveContainer(ctx context.Context, _ *api.PodSandbox, c *api.Container) error {
	h.gone(ctx, c.GetId(), identity.ContainerRemoved)
	return nil
}

// StopPodSandbox tells that a pod's sandbox has ended.
func (h *handler) StopPodSandbox(ctx context.Context, pod *api.PodSandbox) error {
	h.gone(ctx, pod.GetId(), identity.ContainerStopped)
	return nil
}

// RemovePodSandbox tells that a pod was removed.
func (h *handler) RemovePodSandbox(ctx context.Context, pod *api.PodSandbox) error {
	h.gone(ctx, pod.GetId(), identity.ContainerRemoved)
	return nil
}

// gone tells the end of a container that was started. What is not told in time the kernel tells when the cgroup goes.
func (h *handler) gone(ctx context.Context, id string, kind identity.ChangeKind) {
	ctx, leave := h.enter(ctx, h.Status().Timeout)
	defer leave()
	h.mu.Lock()
	c, ok := h.known[id]
	if kind == identity.ContainerRemoved {
		delete(h.known, id)
	}
	h.mu.Unlock()
	if !ok {
		return
	}
	c.Running = false
	_ = tell(ctx, h.changes, identity.Change{Kind: kind, Container: c})
}

func (h *handler) remember(c identity.Container) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.known[c.ID] = c
}
