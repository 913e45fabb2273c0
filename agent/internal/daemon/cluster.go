package daemon

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"reflect"
	"runtime/debug"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/sync/errgroup"

	"github.com/sallyport/sallyport/agent/internal/api"
	"github.com/sallyport/sallyport/agent/internal/config"
	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/probes/event"
	"github.com/sallyport/sallyport/runtime/identity"
	"github.com/sallyport/sallyport/runtime/kube"
)

// Bounds on how soon after a look at the cluster the next one comes. Between them the pause grows with what a look
// costs, so that a cluster in which pods come and go all the time takes no more than a fifth of a core.
const (
	leastPause = 50 * time.Millisecond
	mostPause  = 10 * time.Second
	costShare  = 4
)

// cluster turns what the Kubernetes API says into what policies are judged with. Its methods may be called on nil, a
// cluster that is switched off. All but run belong to the engine's goroutine.
type cluster struct {
	source   *kube.Source
	log      logrus.FieldLogger
	stale    time.Duration // how long the API may be away before that is told
	tell     func(event.Event)
	reloaded func(error) // counts what was read
	started  time.Time
	look     chan struct{}      // a look is due
	pause    chan time.Duration // how long to wait before the next
	began    time.Time          // when the look that is not done yet began; zero: none is

	shown   kube.Snapshot
	world   policy.World
	own     []netip.Addr         // of this node
	local   map[string]*kube.Pod // this node's, by uid
	objects map[string]object
}

// newCluster follows the cluster that the agent runs in; nil: switched off, or there is none.
func newCluster(a *agent) (*cluster, error) {
	c := a.cfg.Kube
	if c.Enabled == config.PresenceNever || c.Enabled == config.PresenceAuto && c.Kubeconfig == "" && !kube.InCluster() {
		return nil, nil //nolint:nilnil // the field says what nil means
	}
	node := c.NodeName
	if node == "" {
		var err error
		if node, err = os.Hostname(); err != nil {
			return nil, fmt.Errorf("finding the node's name: %w", err)
		}
	}
	source, err := kube.New(kube.Config{
		Kubeconfig: c.Kubeconfig, NodeName: node, UserAgent: "sallyport/" + api.Build().GetVersion(),
		NetworkPolicies: c.NetworkPolicies, CiliumPolicies: c.CiliumPolicies, WriteStatus: c.WriteStatus,
		StartupTaint: c.StartupTaint, CallsNamespace: c.CallsNamespace, Calls: func(c kube.Call) { a.registry.Called(c.Caller) },
	}, a.log)
	if err != nil {
		return nil, err
	}
	return &cluster{
		source: source, log: a.log.WithField("component", "cluster"), stale: c.StaleAfter, tell: a.publish, reloaded: a.metrics.PolicyReloaded, started: time.Now(),
		look: make(chan struct{}), pause: make(chan time.Duration, 1), local: map[string]*kube.Pod{},
	}, nil
}

// run follows the API until ctx ends.
func (c *cluster) run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return c.source.Run(ctx) })
	g.Go(func() error { return c.pace(ctx) })
	g.Go(func() error { return c.watchHealth(ctx) })
	return g.Wait()
}

// pace asks for looks while things change, no more often than they can be afforded.
func (c *cluster) pace(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-c.source.Changed():
		}
		select {
		case <-ctx.Done():
			return nil
		case c.look <- struct{}{}:
		}
		select {
		case <-ctx.Done():
			return nil
		case pause := <-c.pause:
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(pause):
			}
		}
	}
}

// watchHealth tells when the API has been away for long, and when it is back.
func (c *cluster) watchHealth(ctx context.Context) error {
	ticker := time.NewTicker(max(c.stale/4, time.Millisecond))
	defer ticker.Stop()
	for told := false; ; {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		h, age := c.source.Health(), c.ageOf()
		if h.Away && age < c.stale || h.Away == told {
			continue
		}
		told = h.Away
		e := event.Event{Time: time.Now(), Kind: event.KindStale, Removed: told}
		if told {
			e.Site = h.Err.Error()
			c.log.WithError(h.Err).Error("the cluster's API cannot be heard; what is known of it stays in force")
		} else {
			c.log.Info("the cluster's API is heard again")
		}
		c.tell(e)
	}
}

// age is for how long the API has not been heard, 0 while it is; false: the cluster is switched off.
func (c *cluster) age() (time.Duration, bool) {
	if c == nil {
		return 0, false
	}
	return c.ageOf(), true
}

func (c *cluster) ageOf() time.Duration {
	switch h := c.source.Health(); {
	case !h.Away:
		return 0
	case h.Since.IsZero():
		return time.Since(c.started)
	default:
		return time.Since(h.Since)
	}
}

// news gets a value when a look is due.
func (c *cluster) news() <-chan struct{} {
	if c == nil {
		return nil
	}
	return c.look
}

// done says that what the last look brought is in force, or will be tried again.
func (c *cluster) done() {
	if c == nil || c.began.IsZero() {
		return
	}
	if len(c.shown.Pods) >= largeCluster {
		debug.FreeOSMemory() // a look takes as much as it leaves; its pause grows with what this costs
	}
	c.pause <- min(max(leastPause, costShare*time.Since(c.began)), mostPause)
	c.began = time.Time{}
}

// refresh looks at the cluster, and says whether anything is another than at the look before. Parts that have not
// changed keep their address, by which the compiler knows them.
func (c *cluster) refresh() (changed bool) {
	c.began = time.Now()
	before, now := c.shown, c.source.Snapshot()
	c.shown = now
	if now.Synced != before.Synced {
		c.log.WithFields(logrus.Fields{
			"pods": len(now.Pods), "namespaces": len(now.Namespaces), "services": len(now.Services), "nodes": len(now.Nodes),
		}).Info("the cluster is known")
		changed = true
		collect(len(now.Pods))
	}
	if !same(before.Pods, now.Pods) {
		c.world.Endpoints, c.local, changed = endpoints(now.Pods), localPods(now.Pods), true
	}
	if !same(before.Namespaces, now.Namespaces) {
		c.world.Namespaces, changed = make(map[string]map[string]string, len(now.Namespaces)), true
		for _, n := range now.Namespaces {
			c.world.Namespaces[n.Name] = n.Labels
		}
	}
	if !same(before.Services, now.Services) {
		c.world.Services, changed = services(now.Services), true
	}
	if !same(before.Policies, now.Policies) {
		changed = c.policies(now.Policies) || changed
	}
	if !same(before.APIServers, now.APIServers) {
		c.world.APIServers, changed = now.APIServers, true
	}
	if !same(before.Nodes, now.Nodes) {
		c.nodes(now.Nodes)
		changed = true
	}
	return changed
}

// largeCluster is the number of pods from which what is known of the cluster is most of what the agent has in memory. A
// collection for each sixth of it costs little then, and half of it would be a lot.
const (
	largeCluster   = 10_000
	gcPercentLarge = 15
)

// collect sets how much garbage there may be, by the number of pods of the cluster.
func collect(pods int) {
	if os.Getenv("GOGC") != "" {
		return
	}
	percent := gcPercent
	if pods >= largeCluster {
		percent = gcPercentLarge
	}
	debug.SetGCPercent(percent)
}

// nodes takes in the nodes.
func (c *cluster) nodes(list []*kube.Node) {
	c.own, c.world.RemoteNodes, c.world.Health, c.world.Cluster = nil, nil, nil, nil
	for _, n := range list {
		c.world.Health, c.world.Cluster = append(c.world.Health, n.Health...), append(c.world.Cluster, n.PodCIDRs...)
		if n.Name == c.source.NodeName() {
			c.own = n.Addresses
			continue
		}
		c.world.RemoteNodes = append(c.world.RemoteNodes, n.Addresses...)
	}
}

// same says whether two lists are one.
func same[T any](a, b []T) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0])
}

// endpoints lists the pods that have addresses of their own.
func endpoints(pods []*kube.Pod) []policy.Endpoint {
	out := make([]policy.Endpoint, 0, len(pods))
	ports := map[*kube.Template][]policy.NamedPort{}
	for _, p := range pods {
		if len(p.Addresses) == 0 {
			continue
		}
		e := policy.Endpoint{Namespace: p.Namespace, Labels: p.Labels, ServiceAccount: p.ServiceAccount, Addresses: p.Addresses}
		if len(p.Ports) > 0 {
			if _, known := ports[p.Template]; !known {
				ports[p.Template] = namedPorts(p.Ports)
			}
			e.Ports = ports[p.Template]
		}
		out = append(out, e)
	}
	return out
}

func namedPorts(ports []kube.Port) (out []policy.NamedPort) {
	for _, p := range ports {
		out = append(out, policy.NamedPort{Name: p.Name, Protocol: policy.Protocol(p.Protocol), Port: p.Number})
	}
	return out
}

func localPods(pods []*kube.Pod) map[string]*kube.Pod {
	out := map[string]*kube.Pod{}
	for _, p := range pods {
		if p.Local == nil {
			continue
		}
		for _, uid := range p.Local.UIDs {
			out[uid] = p
		}
	}
	return out
}

func services(list []*kube.Service) []policy.Service {
	out := make([]policy.Service, len(list))
	for i, s := range list {
		out[i] = policy.Service{Namespace: s.Namespace, Name: s.Name, Labels: s.Labels, Addresses: s.Addresses}
		for _, p := range s.Ports {
			out[i].Ports = append(out[i].Ports, policy.ServicePort{Protocol: policy.Protocol(p.Protocol), Port: p.Port, Backends: p.Backends})
		}
	}
	return out
}

// known is what policies can say about the cluster.
func (c *cluster) known() policy.World {
	if c == nil {
		return policy.World{}
	}
	return c.world
}

// nodeAddresses are those that the API knows this node by.
func (c *cluster) nodeAddresses() []netip.Addr {
	if c == nil {
		return nil
	}
	return c.own
}

// enforcing says that what the policies ask for is in force on this node.
func (c *cluster) enforcing() {
	if c != nil {
		c.source.Enforcing()
	}
}

// synced says whether all of the cluster was heard once.
func (c *cluster) synced() bool { return c == nil || c.shown.Synced }

// pod returns what the cluster says of a container's pod; nil: nothing.
func (c *cluster) pod(of *identity.Container) *kube.Pod {
	if c == nil || of.Pod.UID == "" {
		return nil
	}
	p := c.local[of.Pod.UID]
	if p == nil || p.Namespace != of.Pod.Namespace || p.Name != of.Pod.Name {
		return nil
	}
	return p
}

// knows says whether the cluster has said all that it will of a container: it is of no pod, or of one that is known.
func (c *cluster) knows(of *identity.Container) bool {
	return c == nil || of.Pod.UID == "" || c.pod(of) != nil
}

// describePod gives a container what the cluster says of its pod, which is newer than what its runtime was told, and
// says whether that changed anything.
func describePod(c *identity.Container, p *kube.Pod) bool {
	before := *c
	c.Labels = p.Labels
	for i := range p.Local.Containers {
		if of := &p.Local.Containers[i]; of.Name == c.Name && c.Type != identity.TypeSandbox {
			c.Type, c.Probes = of.Type, of.Probes
		}
	}
	return c.Type != before.Type || !reflect.DeepEqual(c.Labels, before.Labels) || !reflect.DeepEqual(c.Probes, before.Probes)
}

// status says how well the cluster is known; nil: switched off.
func (c *cluster) status() (state, detail string) {
	if c == nil {
		return "off", ""
	}
	h := c.source.Health()
	if h.Away {
		return "away", h.String()
	}
	now := c.source.Snapshot()
	if !now.Synced {
		return "waiting", "for the first lists"
	}
	return "connected", fmt.Sprintf("as node %s: %d pods, %d services, %d nodes", c.source.NodeName(), len(now.Pods), len(now.Services), len(now.Nodes))
}
