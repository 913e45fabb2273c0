// Package kube follows a cluster's API: it keeps what an agent needs of pods, namespaces, services and nodes, trimmed
// as it comes in, in plain Go types that know nothing of Kubernetes' libraries.
//
// What it has heard stays valid while the API is away; Health says for how long. It is the only package that imports
// k8s.io, and it knows neither policies nor the kernel side.
package kube

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/sirupsen/logrus"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/client-go/rest"
)

// Config says which cluster is followed, and as which of its nodes.
type Config struct {
	Kubeconfig string // path; "": the pod's own service account
	NodeName   string // of this node, as the API has it
	UserAgent  string

	AnswerTimeout time.Duration // how long the first of an answer may take; 0: a minute

	NetworkPolicies bool       // read Kubernetes' own
	CiliumPolicies  bool       // read Cilium's, where the API has them
	CallsNamespace  string     // of the Events in which a webhook tells of calls into pods; "": nobody does
	Calls           func(Call) // gets each; must not block
	WriteStatus     bool       // write into policies of Sallyport's kinds what becomes of them on this node
	StartupTaint    string     // key of a taint that this node loses once Enforcing was called; "": none
}

// Source follows a cluster. Its methods are for use by several goroutines.
type Source struct {
	cfg     Config
	log     logrus.FieldLogger
	client  *client
	changed chan struct{}
	health  *health

	pods       *table[*Pod]
	namespaces *table[*Namespace]
	services   *table[*service]
	slices     *table[*slice]
	nodes      *table[*Node]
	policies   []*policyResource
	writer     *writer
	lookAgain  time.Duration
	enforced   <-chan struct{} // closed by enforcing
	enforcing  func()

	mu       sync.Mutex
	snapshot Snapshot
	joined   joined
	gathered gathered
}

// Snapshot is what is known of the cluster. Its parts are in the order of their names, are replaced and never changed,
// and keep their address while nothing in them changes.
type Snapshot struct {
	Pods       []*Pod
	Namespaces []*Namespace
	Services   []*Service
	Nodes      []*Node
	Policies   []*Policy
	APIServers []netip.Addr // addresses behind the service kubernetes
	Synced     bool         // everything was listed once
}

// New returns a source that knows nothing yet. It does not call the API: a cluster that is away is no error.
func New(cfg Config, log logrus.FieldLogger) (*Source, error) {
	config, err := restConfig(cfg)
	if err != nil {
		return nil, err
	}
	return newSource(cfg, config, log)
}

func newSource(cfg Config, config *rest.Config, log logrus.FieldLogger) (*Source, error) {
	if cfg.NodeName == "" {
		return nil, errors.New("following the cluster: the node has no name")
	}
	c, err := newClient(config)
	if err != nil {
		return nil, err
	}
	s := &Source{
		cfg: cfg, log: log.WithField("component", "kube"), client: c, changed: make(chan struct{}, 1),
	}
	s.health = newHealth(s.notify)
	trimmer := newPodTrimmer(cfg.NodeName)
	s.pods = newTable(trimmer.trim, s.notify)
	s.namespaces = newTable(trimNamespace, s.notify)
	s.services = newTable(trimService, s.notify)
	s.slices = newTable(trimSlice, s.notify)
	s.nodes = newTable(nodeTrimmer(cfg.StartupTaint), s.notify)
	s.policies, s.lookAgain = policyResources(cfg, s.notify), lookAgain
	s.writer = newWriter(s)
	s.enforced, s.enforcing = onceClosed()
	return s, nil
}

// notify says that something changed. It never blocks.
func (s *Source) notify() {
	select {
	case s.changed <- struct{}{}:
	default: // whoever listens will read what is there then
	}
}

// Changed gets a value after something changed, the health included; several changes may be one value.
func (s *Source) Changed() <-chan struct{} { return s.changed }

// NodeName is the name of this node.
func (s *Source) NodeName() string { return s.cfg.NodeName }

// Health says how well the API is heard.
func (s *Source) Health() Health { return s.health.now() }

// Run follows the cluster until ctx ends.
func (s *Source) Run(ctx context.Context) error {
	ctx = quiet(ctx, s.log)
	core, discovery := s.client.core, s.client.discovery
	var followers sync.WaitGroup
	for _, follow := range []func(){
		func() { follow(ctx, s.health, typed(core, "pods"), &corev1.Pod{}, s.pods) },
		func() { follow(ctx, s.health, typed(core, "namespaces"), &corev1.Namespace{}, s.namespaces) },
		func() { follow(ctx, s.health, typed(core, "services"), &corev1.Service{}, s.services) },
		func() { follow(ctx, s.health, typed(core, "nodes"), &corev1.Node{}, s.nodes) },
		func() {
			follow(ctx, s.health, typed(discovery, "endpointslices"), &discoveryv1.EndpointSlice{}, s.slices)
		},
	} {
		followers.Go(follow)
	}
	for _, r := range s.policies {
		followers.Go(func() { s.followPolicies(ctx, r) })
	}
	if s.cfg.CallsNamespace != "" && s.cfg.Calls != nil {
		followers.Go(func() { s.followCalls(ctx) })
	}
	if s.cfg.WriteStatus {
		followers.Go(func() { s.writer.run(ctx) })
	}
	if s.cfg.StartupTaint != "" {
		followers.Go(func() { s.untaint(ctx) })
	}
	followers.Wait()
	s.client.close()
	return nil
}

// Snapshot returns what is known now.
func (s *Source) Snapshot() Snapshot {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := &s.snapshot
	var synced [6]bool
	var services []*service
	var lists []*slice
	now.Pods, synced[0] = s.pods.list()
	now.Namespaces, synced[1] = s.namespaces.list()
	now.Nodes, synced[2] = s.nodes.list()
	services, synced[3] = s.services.list()
	lists, synced[4] = s.slices.list()
	now.Policies, synced[5] = s.gathered.gather(s.policies)
	now.Synced = !slices.Contains(synced[:], false)
	if s.joined.join(services, lists) {
		now.Services, now.APIServers = s.joined.services, s.joined.apiServers
	}
	return *now
}
