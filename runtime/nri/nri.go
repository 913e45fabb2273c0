// Package nri is the agent's plugin of a runtime that speaks NRI (containerd 1.7 and newer, CRI-O): the runtime calls
// before it starts a container, and waits until the container's policies are in force. It is, beside
// runtime/containerd, the only package that may import containerd's modules; of this module it imports runtime/identity
// and runtime/oci.
//
// NRI tells nothing of execs: the kernel labels those by itself.
package nri

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"sync"
	"time"

	"github.com/containerd/nri/pkg/api"
	"github.com/containerd/nri/pkg/stub"
	"github.com/sirupsen/logrus"

	"github.com/sallyport/sallyport/runtime/identity"
	"github.com/sallyport/sallyport/runtime/oci"
)

// How the runtime knows the plugin: required_plugins of containerd's validator names it by this.
const (
	pluginName  = "sallyport"
	pluginIndex = "90" // after those that change a container
)

// How long to wait before the next attempt while the runtime is away: the pause doubles. It stays short, since
// containers that start meanwhile are known later than they could be.
const (
	firstPause = 100 * time.Millisecond
	lastPause  = time.Second
)

// Config says which runtime to serve and how.
type Config struct {
	Socket   string
	Required bool          // a runtime that is away is worth a warning
	Timeout  time.Duration // for one container
	Refuse   bool          // a container that is not governed in time does not start; else it does
	Sole     bool          // nobody else lists this runtime's containers: Synchronize is Resynced
	Locator  oci.Locator
	// Start returns when the policies of a container that is about to start are in force, or with ctx.
	Start func(ctx context.Context, c identity.Container) error
	// Late is told of a container that was not governed in time, why, and what became of it.
	Late func(c identity.Container, err error, refused bool)
}

// Status is what the plugin does now.
type Status struct {
	Connected bool
	Runtime   string        // its name and version; "" until it was connected
	Timeout   time.Duration // that containers may wait: Config.Timeout, or less where the runtime has less patience
	Refuse    bool
	Admitted  uint64 // containers that started before their policies were in force
	Refused   uint64 // containers that did not start for that reason
	Err       error  // why it is not connected
}

// Plugin serves one runtime. It is made by New and serves while Run runs.
type Plugin struct {
	cfg Config
	log logrus.FieldLogger

	mu     sync.Mutex
	status Status
}

// New makes a plugin.
func New(cfg Config, log logrus.FieldLogger) (*Plugin, error) {
	switch {
	case !filepath.IsAbs(cfg.Socket):
		return nil, fmt.Errorf("configuring the NRI plugin: socket %q is not an absolute path", cfg.Socket)
	case cfg.Timeout <= 0:
		return nil, fmt.Errorf("configuring the NRI plugin: a timeout of %s", cfg.Timeout)
	case cfg.Start == nil || cfg.Late == nil:
		return nil, errors.New("configuring the NRI plugin: nobody governs its containers")
	}
	return &Plugin{
		cfg: cfg, log: log.WithField("component", "nri"), status: Status{Timeout: cfg.Timeout, Refuse: cfg.Refuse},
	}, nil
}

// Status returns what the plugin does now.
func (p *Plugin) Status() Status {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.status
}

func (p *Plugin) update(change func(*Status)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change(&p.status)
}

// Run serves until ctx ends, and then returns nil: a runtime that is away is waited for. It tells the channel what the
// runtime tells, and nothing after it has returned.
func (p *Plugin) Run(ctx context.Context, changes chan<- identity.Change) error {
	pause, told := firstPause, false
	for {
		connected, err := p.serve(ctx, changes)
		if ctx.Err() != nil {
			return nil //nolint:nilerr // the caller asked to stop
		}
		if connected {
			pause, told = firstPause, false
		}
		p.update(func(s *Status) { s.Connected, s.Err = false, err })
		if !told {
			told = true
			p.away(ctx, err, connected, changes)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
		pause = min(2*pause, lastPause)
	}
}

// away says that the runtime cannot be reached: loudly if it could, or must be.
func (p *Plugin) away(ctx context.Context, err error, was bool, changes chan<- identity.Change) {
	log := p.log.WithError(err).WithField("socket", p.cfg.Socket)
	const text = "the runtime does not call before it starts containers; they are known when it tells of them"
	if was || p.cfg.Required {
		log.Warn(text)
	} else {
		log.Debug(text)
	}
	if was && p.cfg.Sole {
		_ = tell(ctx, changes, identity.Change{Kind: identity.Disconnected, Err: err}) // ends with ctx only
	}
}

// tell hands a change over. Its only error is that of ctx.
func tell(ctx context.Context, changes chan<- identity.Change, change identity.Change) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case changes <- change:
		return nil
	}
}

// serve connects and serves until the connection fails or ctx ends. It reports whether the runtime had taken the plugin
// in.
func (p *Plugin) serve(ctx context.Context, changes chan<- identity.Change) (connected bool, err error) {
	dialed, err := (&net.Dialer{Timeout: lastPause}).DialContext(ctx, "unix", p.cfg.Socket)
	if err != nil {
		return false, fmt.Errorf("connecting to the runtime: %w", err)
	}
	conn := &connection{Conn: dialed, closed: make(chan struct{})}
	ctx, cancel := context.WithCancel(ctx)
	h := &handler{Plugin: p, ctx: ctx, changes: changes, known: map[string]identity.Container{}}
	options := []stub.Option{
		stub.WithPluginName(pluginName), stub.WithPluginIdx(pluginIndex), stub.WithConnection(conn), stub.WithLogger(logger{p.log}),
		stub.WithOnClose(func() {}), // without one, the stub ends the whole program
	}
	if p.cfg.Refuse {
		// Understood by newer runtimes; with the others unknownWorkload is what is left (see config).
		options = append(options, stub.WithFailurePolicy(&api.FailurePolicy{FailRequest: true}))
	}
	if h.stub, err = stub.New(h, options...); err != nil {
		cancel()
		return false, errors.Join(fmt.Errorf("making the plugin: %w", err), conn.Close())
	}
	done := make(chan error, 1)
	go func() { done <- h.stub.Run(ctx) }()
	select {
	case err = <-done:
	case <-conn.closed:
		err = h.ended(ctx, done)
	case <-ctx.Done():
		_ = conn.Close() // ends what the stub waits for
		err = h.ended(ctx, done)
	}
	cancel()
	_ = conn.Close()  // again, maybe: the runtime learns that nobody serves any more
	h.handlers.Wait() // each ends with ctx
	if err == nil {
		err = errors.New("the connection was closed")
	}
	return h.synchronized.Load(), fmt.Errorf("serving the runtime: %w", err)
}

// connection tells when it was closed, by whichever side: the stub does not.
type connection struct {
	net.Conn
	once   sync.Once
	closed chan struct{}
}

// Close closes the connection.
func (c *connection) Close() error {
	err := c.Conn.Close()
	c.once.Do(func() { close(c.closed) })
	return err
}

// logger takes what the stub logs, which is about itself, as details.
type logger struct{ log logrus.FieldLogger }

// Debugf logs.
func (l logger) Debugf(_ context.Context, format string, args ...any) { l.log.Debugf(format, args...) }

// Infof logs.
func (l logger) Infof(_ context.Context, format string, args ...any) { l.log.Debugf(format, args...) }

// Warnf logs.
func (l logger) Warnf(_ context.Context, format string, args ...any) { l.log.Warnf(format, args...) }

// Errorf logs.
func (l logger) Errorf(_ context.Context, format string, args ...any) { l.log.Warnf(format, args...) }
