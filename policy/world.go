package policy

import (
	"maps"
	"net/netip"
	"slices"
	"strings"
)

// World is what policies can say about the cluster: whom an address belongs to. Addresses count without
// zones, IPv4-mapped ones as IPv4; loopback among them is left out.
type World struct {
	Endpoints   []Endpoint
	Namespaces  map[string]map[string]string // their labels, by name
	Services    []Service
	RemoteNodes []netip.Addr   // addresses of the cluster's other nodes
	APIServers  []netip.Addr   // addresses behind the service kubernetes
	Health      []netip.Addr   // addresses of the network's own health checks
	Cluster     []netip.Prefix // the pods' prefixes: what is in them and is no endpoint is still no part of the world outside
}

// Endpoint is a pod with its own addresses. A pod in the network of its node has none.
type Endpoint struct {
	Namespace      string
	Labels         map[string]string
	ServiceAccount string
	Addresses      []netip.Addr
	Ports          []NamedPort
}

// NamedPort is a port to which a container of a pod gives a name.
type NamedPort struct {
	Name     string
	Protocol Protocol // TCP, UDP or SCTP
	Port     uint16
}

// is says whether p, which has a name, stands for the port.
func (n NamedPort) is(p Port) bool {
	return n.Name == p.Name && (p.Protocol == n.Protocol || p.Protocol == ProtocolAny || p.Protocol == "")
}

// Named returns those of a pod's ports that a Port with a name stands for.
func (p Port) Named(ports []NamedPort) (out []NamedPort) {
	for _, n := range ports {
		if p.Name != "" && n.is(p) && len(n.Protocol.Numbers()) == 1 {
			out = append(out, n)
		}
	}
	return out
}

// Service is a service with the addresses under which it is called. A call to one of its ports is a
// call to the backends behind: it is allowed where every one of them may be called, and denied where
// one may not.
type Service struct {
	Namespace string
	Name      string
	Labels    map[string]string
	Addresses []netip.Addr // the cluster's, and those that load balancers give
	Ports     []ServicePort
}

// ServicePort is one port of a service.
type ServicePort struct {
	Protocol Protocol // TCP, UDP or SCTP
	Port     uint16
	Backends []netip.AddrPort
}

// The keys under which a selector of endpoints asks for what is no label of the pod, as in Cilium.
const (
	LabelNamespace      = "io.kubernetes.pod.namespace"
	LabelServiceAccount = "io.cilium.k8s.policy.serviceaccount"
	LabelOfNamespace    = "io.cilium.k8s.namespace.labels." // and the key of the namespace's label
)

// EndpointSelector selects endpoints by their labels and by the keys above. Where it asks neither for
// the namespace nor for its labels, Namespace must be the endpoint's; "" is every one.
type EndpointSelector struct {
	LabelSelector
	Namespace string `json:"-"` // the policy's
}

// Matches says whether the selector selects an endpoint with these labels, which are those of
// EndpointLabels.
func (s *EndpointSelector) Matches(labels map[string]string) bool {
	if namespace, one := s.One(); one && labels[LabelNamespace] != namespace {
		return false
	}
	return s.LabelSelector.Matches(labels)
}

// One returns the namespace that all endpoints are of which the selector can select, if there is one.
func (s *EndpointSelector) One() (namespace string, one bool) {
	if namespace, one = s.MatchLabels[LabelNamespace]; one {
		return namespace, true
	}
	return s.Namespace, s.Namespace != "" && !s.namesNamespace()
}

// namesNamespace says whether the selector asks for the namespace itself.
func (s *EndpointSelector) namesNamespace() bool {
	names := func(key string) bool { return key == LabelNamespace || strings.HasPrefix(key, LabelOfNamespace) }
	for key := range s.MatchLabels {
		if names(key) {
			return true
		}
	}
	return slices.ContainsFunc(s.MatchExpressions, func(r LabelRequirement) bool { return names(r.Key) })
}

// EndpointLabels returns the labels by which an EndpointSelector selects a pod.
func EndpointLabels(labels map[string]string, namespace, account string, ofNamespace map[string]string) map[string]string {
	out := make(map[string]string, len(labels)+len(ofNamespace)+3)
	maps.Copy(out, labels)
	for key, v := range NamespaceLabels(namespace, ofNamespace) {
		out[LabelOfNamespace+key] = v
	}
	out[LabelNamespace], out[LabelServiceAccount] = namespace, account
	return out
}

// LabelsOf returns the labels by which an EndpointSelector selects an endpoint.
func (w *World) LabelsOf(e *Endpoint) map[string]string {
	return EndpointLabels(e.Labels, e.Namespace, e.ServiceAccount, w.Namespaces[e.Namespace])
}

// ServiceSelector selects services: one of its fields is there.
type ServiceSelector struct {
	K8sService         *ServiceName   `json:"k8sService,omitzero"`
	K8sServiceSelector *ServiceLabels `json:"k8sServiceSelector,omitzero"`
}

// ServiceName is one service. An empty namespace is every one.
type ServiceName struct {
	ServiceName string `json:"serviceName"`
	Namespace   string `json:"namespace,omitzero"`
}

// ServiceLabels selects services by their labels. An empty namespace is every one.
type ServiceLabels struct {
	Selector  LabelSelector `json:"selector"`
	Namespace string        `json:"namespace,omitzero"`
}

// Matches says whether the selector selects a service.
func (s *ServiceSelector) Matches(v *Service) bool {
	in := func(namespace string) bool { return namespace == "" || namespace == v.Namespace }
	switch {
	case s.K8sService != nil:
		return s.K8sService.ServiceName == v.Name && in(s.K8sService.Namespace)
	case s.K8sServiceSelector != nil:
		return s.K8sServiceSelector.Selector.Matches(v.Labels) && in(s.K8sServiceSelector.Namespace)
	}
	return false
}

// Real returns an address in the form that calls have, and false for one that can belong to nobody but
// the pod itself.
func Real(a netip.Addr) (netip.Addr, bool) {
	a = a.Unmap().WithZone("")
	return a, a.IsValid() && !IsLoopback(a)
}

// MetadataAddresses returns the addresses that the entity metadata stands for: where clouds give
// machines their credentials.
func MetadataAddresses() []netip.Addr {
	return []netip.Addr{netip.AddrFrom4([4]byte{169, 254, 169, 254}), netip.AddrFrom16([16]byte{0xfd, 0, 0x0e, 0xc2, 14: 2, 15: 0x54})}
}
