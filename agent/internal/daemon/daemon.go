// Package daemon is the agent: it opens the kernel side, keeps policies and containers compiled into
// it, and hands on what the kernel tells. It is the composition root: every part is made and wired
// here, and nothing else knows them all.
package daemon

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/sync/errgroup"

	"github.com/sallyport/sallyport/agent/internal/alert"
	"github.com/sallyport/sallyport/agent/internal/api"
	"github.com/sallyport/sallyport/agent/internal/config"
	"github.com/sallyport/sallyport/agent/internal/correlate"
	"github.com/sallyport/sallyport/agent/internal/metrics"
	"github.com/sallyport/sallyport/agent/internal/tunnel"
	"github.com/sallyport/sallyport/probes"
	"github.com/sallyport/sallyport/probes/event"
	"github.com/sallyport/sallyport/probes/gate"
	"github.com/sallyport/sallyport/probes/judge"
	"github.com/sallyport/sallyport/probes/label"
	"github.com/sallyport/sallyport/probes/tell"
	"github.com/sallyport/sallyport/runtime/cgroup"
	"github.com/sallyport/sallyport/runtime/containerd"
	"github.com/sallyport/sallyport/runtime/identity"
	"github.com/sallyport/sallyport/runtime/nri"
	"github.com/sallyport/sallyport/runtime/procfs"
)

// procDir shows the processes of the node.
const procDir = "/proc"

// gcPercent keeps the agent small: what lives is mostly the last events, and little is made anew. GOGC
// overrides it.
const gcPercent = 25

// agent holds the parts while they run.
type agent struct {
	cfg      config.Config
	log      logrus.FieldLogger
	started  time.Time
	cgroups  cgroup.Hierarchy
	proc     procfs.FS
	kernel   *probes.Kernel
	judge    *judge.Judge
	label    *label.Labeller
	gate     *gate.Gate // nil: switched off
	names    *judge.Names
	peers    *peerNames // of allowed requests
	taps     *taps
	endings  *endings
	registry *correlate.Registry
	fanout   *alert.Fanout
	feed     *api.Feed
	metrics  *metrics.Metrics
	tunnels  *tunnel.Watcher
	engine   *engine
	nri      *nri.Plugin        // nil: switched off
	lookup   *containerd.Lookup // nil: switched off

	hookAdmitted, hookRefused atomic.Uint64
}

// Run is the agent until ctx ends. When it returns, what was attached stays attached and in force;
// the next Run adopts it.
func Run(ctx context.Context, cfg config.Config, log logrus.FieldLogger) (err error) {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	a := &agent{
		cfg: cfg, log: log.WithField("component", "daemon"), started: time.Now(), proc: procfs.New(procDir),
		registry: correlate.New(correlate.Config{}), feed: api.NewFeed(), tunnels: tunnel.New(tunnelsOf(cfg.Names.Tunnel)),
	}
	// The socket first: a second agent ends here, before it touches the kernel side of the first.
	server, err := api.Listen(api.Config{Socket: cfg.API.Socket, Status: a, Governor: a, Explainer: a, Events: a.feed, Log: log})
	if err != nil {
		return err
	}
	defer server.Close()
	if err := a.open(); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, a.close()) }()
	if err := a.tellParts(log); err != nil {
		return err
	}
	if err := a.attach(); err != nil {
		return err
	}
	a.kernel.ForgetTypes()
	giveBack(a.log)
	return a.serve(ctx, server, log)
}

// open finds the hierarchy and opens the pins.
func (a *agent) open() error {
	var err error
	if a.cfg.Kernel.CgroupRoot == config.CgroupAuto {
		a.cgroups, err = cgroup.Find()
	} else {
		a.cgroups, err = cgroup.At(a.cfg.Kernel.CgroupRoot)
	}
	if errors.Is(err, cgroup.ErrNoHierarchy) {
		return fmt.Errorf("%w: boot the node with systemd.unified_cgroup_hierarchy=1, or mount it beside v1: mount -t cgroup2 none /sys/fs/cgroup/unified", err)
	}
	if err != nil {
		return err
	}
	maps := a.cfg.Kernel.Maps
	a.kernel, err = probes.Open(probes.Config{
		BPFFS: a.cfg.Kernel.BPFFS, PinDir: a.cfg.Kernel.PinDir, CgroupRoot: a.cgroups.Dir(),
		ContainerParents: a.cfg.Runtime.ContainerParents,
		Sizes: probes.Sizes{
			Flows: uint32(maps.Flows), Containers: uint32(maps.Containers), // config bounds them
			AlertRing: uint32(maps.AlertsRingBytes), FlowRing: uint32(maps.FlowsRingBytes), // config bounds them
		},
		UnknownDeny:   a.cfg.Enforcement.UnknownWorkload == config.UnknownDeny,
		BorrowRefuse:  a.cfg.Enforcement.Borrowing == config.BorrowRefuse,
		BorrowTell:    a.cfg.Enforcement.Borrowing != config.BorrowAllow,
		RelayTell:     a.cfg.Enforcement.Relaying != config.RelayAllow,
		FrontRefuse:   a.cfg.Enforcement.Fronting == config.FrontDeny,
		FrontTell:     a.cfg.Enforcement.Fronting != config.FrontAllow,
		TellExec:      a.cfg.Visibility.Exec,
		TellConnect:   a.cfg.Visibility.Connect,
		TellQuery:     a.cfg.Visibility.Query,
		TellHeaders:   a.cfg.Visibility.Headers,
		Names:         probes.Names{Most: uint32(a.cfg.Names.PerContainer), LeastTTL: a.cfg.Names.LeastTTL}, // config bounds it
		Guard:         a.cfg.Protect.Repair,
		ProtectRefuse: a.cfg.Protect.Access == config.AccessRefuse,
		ProtectTell:   a.cfg.Protect.Access != config.AccessAllow,
	})
	if errors.Is(err, probes.ErrIncompatible) {
		return fmt.Errorf("%w; the pinned version stays in force: run the agent that made it, or remove it with: sallyport run --cleanup", err)
	}
	return err
}

// attach puts the programs in place. On a fresh node the policies are in force before anything is
// judged; where pins were adopted, theirs are.
func (a *agent) attach() error {
	a.judge = judge.Open(a.kernel)
	ladder := steps(a.cfg.Enforcement.Steps)
	err := a.judge.AttachExec(ladder)
	if err != nil {
		return err
	}
	if a.names, err = judge.OpenNames(a.kernel); err != nil {
		return err
	}
	a.peers = newPeerNames(a.names.PeerName)
	a.taps = newTaps(a)
	a.endings = newEndings(a)
	if a.engine, err = newEngine(a); err != nil {
		return err
	}
	if a.nri, err = a.newNRI(a.log); err != nil {
		return err
	}
	if a.cfg.Runtime.Containerd.Enabled {
		if a.lookup, err = containerd.NewLookup(a.cfg.Runtime.Containerd.Socket); err != nil {
			return err
		}
	}
	a.engine.loadPolicies()
	if a.kernel.Fresh() {
		if err := a.engine.apply(); err != nil {
			return fmt.Errorf("putting the first policies in force: %w", err)
		}
	}
	if a.label, err = label.Attach(a.kernel); err != nil {
		return err
	}
	if err := a.kernel.Protect(os.Getpid()); err != nil {
		return err
	}
	if err := a.judge.Attach(ladder); err != nil {
		return err
	}
	if a.cfg.Gate.Enabled {
		if a.gate, err = gate.Attach(a.kernel); err != nil {
			return err
		}
		if err := a.gate.Sweep(); err != nil {
			a.log.WithError(err).Warn("leftover gates could not be swept")
		}
	}
	for _, h := range a.judge.Hooks() {
		a.log.WithFields(logrus.Fields{"hook": h.Name, "step": judge.StepName(h.Step), "adopted": h.Adopted}).Info("hook attached")
	}
	if !a.engine.enforces() && !a.engine.reportOnly() { // open: reporting was among the steps that it may take
		a.log.Error("nothing is stopped: this kernel only lets the agent report what policies would deny; status says what it lacks")
	}
	return nil
}

// steps turns the configured names into the steps of the ladder.
func steps(names []config.Step) []event.Step {
	out := make([]event.Step, 0, len(names))
	for _, name := range names {
		for _, s := range []event.Step{event.StepLSM, event.StepModRet, event.StepCgroup, event.StepReport} {
			if judge.StepName(s) == string(name) {
				out = append(out, s)
			}
		}
	}
	return out
}

// serve runs everything until ctx ends or a part fails.
func (a *agent) serve(ctx context.Context, server *api.Server, log logrus.FieldLogger) error {
	g, ctx := errgroup.WithContext(ctx)
	changes := make(chan identity.Change)
	g.Go(func() error { return a.fanout.Run(ctx) })
	g.Go(func() error { return server.Run(ctx) })
	g.Go(func() error { return tell.NewReader(a.kernel, a.handle).Run(ctx) })
	g.Go(func() error { return a.engine.run(ctx, changes) })
	g.Go(func() error { return a.taps.run(ctx) })
	g.Go(func() error { return a.endings.run(ctx) })
	g.Go(func() error { return sweepNames(ctx, a.names, a.log) })
	if a.cfg.Protect.Repair {
		g.Go(func() error { return newGuard(a).run(ctx) })
	}
	if a.engine.cluster != nil {
		g.Go(func() error { return a.engine.cluster.run(ctx) })
	}
	g.Go(func() error { return watchPolicies(ctx, a.cfg.Policies.Dir, a.engine.reload, a.log) })
	if a.cfg.Runtime.Containerd.Enabled {
		c := a.cfg.Runtime.Containerd
		g.Go(func() error {
			return containerd.Watch(ctx, containerd.Config{
				Socket: c.Socket, Namespaces: c.Namespaces, ReconnectMin: c.ReconnectMin, ReconnectMax: c.ReconnectMax,
				Cgroups: a.cgroups, Proc: a.proc,
			}, log, changes)
		})
	}
	if a.nri != nil {
		g.Go(func() error { return a.nri.Run(ctx, changes) })
	}
	if a.cfg.Metrics.Address != "" {
		g.Go(func() error { return a.metrics.Serve(ctx, a.cfg.Metrics.Address) })
	}
	return g.Wait()
}

func (a *agent) close() error {
	errs := []error{}
	if a.gate != nil {
		errs = append(errs, a.gate.Close())
	}
	if a.lookup != nil {
		errs = append(errs, a.lookup.Close())
	}
	if a.names != nil {
		errs = append(errs, a.names.Close())
	}
	return errors.Join(append(errs, a.kernel.Close())...)
}

// Cleanup removes everything that an agent with this configuration has pinned or attached, unless one
// runs (api.ErrBusy). It returns how many pins there were.
func Cleanup(cfg config.Config, log logrus.FieldLogger) (n int, err error) {
	unlock, err := api.Lock(cfg.API.Socket)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	// The gates first: without the programs that judge flows they would drop what policies allow.
	if err := gate.Cleanup(); err != nil {
		return 0, err
	}
	if n, err = probes.Cleanup(cfg.Kernel.BPFFS, cfg.Kernel.PinDir); err != nil {
		return n, err
	}
	log.WithField("pins", n).Info("everything was removed; nothing is enforced any more")
	return n, nil
}
