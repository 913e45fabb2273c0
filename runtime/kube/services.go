package kube

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/sallyport/sallyport/runtime/identity"
)

// Service is a service with what is behind it.
type Service struct {
	Namespace string
	Name      string
	Labels    map[string]string
	Addresses []netip.Addr // the cluster's, and those of load balancers that the nodes answer for; none of a headless one
	Ports     []ServicePort
}

// ServicePort is one port of a service.
type ServicePort struct {
	Protocol string // TCP, UDP or SCTP
	Port     uint16
	Backends []netip.AddrPort
}

// The service under which the API itself is called.
const (
	apiNamespace = "default"
	apiService   = "kubernetes"
)

// service is what the object of a service says.
type service struct {
	namespace, name string
	labels          map[string]string
	addresses       []netip.Addr
	ports           []Port // their names may be empty
}

// slice is one of the lists of what is behind a service.
type slice struct {
	namespace, service string
	ports              []Port // of the backends; number 0: every one
	addresses          []netip.Addr
}

func trimService(obj any) (*service, error) {
	s, ok := obj.(*corev1.Service)
	if !ok {
		return nil, fmt.Errorf("a service is %T", obj)
	}
	labels, _ := identity.BoundLabels(s.Labels)
	out := &service{namespace: s.Namespace, name: s.Name, labels: labels}
	for _, list := range [][]string{s.Spec.ClusterIPs, s.Spec.ExternalIPs} {
		for _, a := range list {
			out.addresses = appendAddress(out.addresses, a) // None is none
		}
	}
	for _, ingress := range s.Status.LoadBalancer.Ingress {
		// Where the balancer is a proxy of its own, the nodes do not translate: calls really go there.
		if ingress.IPMode == nil || *ingress.IPMode == corev1.LoadBalancerIPModeVIP {
			out.addresses = appendAddress(out.addresses, ingress.IP)
		}
	}
	for _, p := range s.Spec.Ports {
		out.ports = append(out.ports, Port{p.Name, protocolOf(p.Protocol), uint16(p.Port)}) // the API bounds it
	}
	return out, nil
}

// protocolOf returns the name of a protocol; without one it is TCP.
func protocolOf(p corev1.Protocol) string { return string(cmp.Or(p, corev1.ProtocolTCP)) }

func trimSlice(obj any) (*slice, error) {
	s, ok := obj.(*discoveryv1.EndpointSlice)
	if !ok {
		return nil, fmt.Errorf("an endpoint slice is %T", obj)
	}
	out := &slice{namespace: s.Namespace, service: s.Labels[discoveryv1.LabelServiceName]}
	if s.AddressType == discoveryv1.AddressTypeFQDN {
		return out, nil
	}
	for _, p := range s.Ports {
		port := Port{Protocol: string(corev1.ProtocolTCP)}
		if p.Name != nil {
			port.Name = *p.Name
		}
		if p.Protocol != nil {
			port.Protocol = string(*p.Protocol)
		}
		if p.Port != nil {
			port.Number = uint16(*p.Port) // the API bounds it
		}
		out.ports = append(out.ports, port)
	}
	out.addresses = make([]netip.Addr, 0, len(s.Endpoints))
	for i := range s.Endpoints {
		e := &s.Endpoints[i]
		if !called(e.Conditions) {
			continue
		}
		for _, a := range e.Addresses {
			out.addresses = appendAddress(out.addresses, a)
		}
	}
	return out, nil
}

// called says whether calls can go to an endpoint: it is ready, or still serves while it ends, which is where calls go
// when no other is ready. What is not said counts as true.
func called(c discoveryv1.EndpointConditions) bool {
	isTrue := func(b *bool) bool { return b == nil || *b }
	return isTrue(c.Ready) || c.Serving != nil && *c.Serving
}

// joined is the services with what is behind them.
type joined struct {
	ofServices []*service
	ofSlices   []*slice
	services   []*Service
	apiServers []netip.Addr
	done       bool
}

// join puts services and slices together, unless they are those of the time before. It says whether it did.
func (j *joined) join(services []*service, lists []*slice) bool {
	if j.done && sameList(j.ofServices, services) && sameList(j.ofSlices, lists) {
		return false
	}
	type key struct{ namespace, name string }
	behind := map[key][]*slice{}
	for _, s := range lists {
		k := key{s.namespace, s.service}
		behind[k] = append(behind[k], s)
	}
	out := make([]*Service, 0, len(services))
	for _, s := range services {
		with := &Service{Namespace: s.namespace, Name: s.name, Labels: s.labels, Addresses: s.addresses}
		for _, p := range s.ports {
			with.Ports = append(with.Ports, ServicePort{p.Protocol, p.Number, backends(p, behind[key{s.namespace, s.name}])})
		}
		out = append(out, with)
	}
	var servers []netip.Addr
	for _, s := range behind[key{apiNamespace, apiService}] {
		servers = append(servers, s.addresses...)
	}
	slices.SortFunc(servers, netip.Addr.Compare)
	*j = joined{services, lists, out, slices.Compact(servers), true}
	return true
}

// backends lists what is behind a port of a service: the ports of its slices that have the port's name.
func backends(p Port, lists []*slice) (out []netip.AddrPort) {
	for _, s := range lists {
		for _, b := range s.ports {
			if b.Name != p.Name || b.Protocol != p.Protocol {
				continue
			}
			out = slices.Grow(out, len(s.addresses))
			for _, a := range s.addresses {
				out = append(out, netip.AddrPortFrom(a, b.Number))
			}
		}
	}
	slices.SortFunc(out, netip.AddrPort.Compare)
	return slices.Compact(out)
}

// sameList says whether two lists are one.
func sameList[T any](a, b []T) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0])
}
