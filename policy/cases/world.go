package cases

import (
	"net/netip"

	"github.com/sallyport/sallyport/policy"
)

// cluster reads what is known about the cluster: whom addresses belong to.
func (p *parser) cluster(v policy.Value) {
	w := &p.set.World
	p.Mapping(
		v,
		policy.Field{Name: "namespaces", Read: func(v policy.Value) { w.Namespaces = p.namespaces(v) }},
		policy.Field{Name: "pods", Read: func(v policy.Value) {
			for _, item := range p.List(v) {
				w.Endpoints = append(w.Endpoints, p.pod(item))
			}
		}},
		policy.Field{Name: "services", Read: func(v policy.Value) {
			for _, item := range p.List(v) {
				w.Services = append(w.Services, p.service(item))
			}
		}},
		policy.Field{Name: "remoteNodes", Read: p.addresses(&w.RemoteNodes)},
		policy.Field{Name: "apiServers", Read: p.addresses(&w.APIServers)},
		policy.Field{Name: "health", Read: p.addresses(&w.Health)},
		policy.Field{Name: "podCIDRs", Read: func(v policy.Value) {
			for _, item := range p.List(v) {
				w.Cluster = append(w.Cluster, p.CIDR(item))
			}
		}},
	)
}

// namespaces reads the labels of namespaces.
func (p *parser) namespaces(v policy.Value) map[string]map[string]string {
	out := map[string]map[string]string{}
	for _, item := range p.List(v) {
		var name string
		var labels map[string]string
		p.Mapping(
			item,
			policy.Field{Name: "name", Required: "name: shop", Read: p.text(&name)},
			policy.Field{Name: "labels", Read: func(v policy.Value) { labels = p.Labels(v) }},
		)
		out[name] = labels
	}
	return out
}

// pod reads a pod of the cluster. Its name is for people.
func (p *parser) pod(v policy.Value) policy.Endpoint {
	e := policy.Endpoint{Namespace: policy.DefaultNamespace}
	var name string
	p.Mapping(
		v,
		policy.Field{Name: "name", Read: p.text(&name)},
		policy.Field{Name: "namespace", Read: p.text(&e.Namespace)},
		policy.Field{Name: "labels", Read: func(v policy.Value) { e.Labels = p.Labels(v) }},
		policy.Field{Name: "serviceAccount", Read: p.text(&e.ServiceAccount)},
		policy.Field{Name: "addresses", Required: "addresses: [10.0.0.5]", Read: p.addresses(&e.Addresses)},
		policy.Field{Name: "ports", Read: func(v policy.Value) { e.Ports = p.namedPorts(v) }},
	)
	return e
}

// namedPorts reads the ports to which a pod gives names.
func (p *parser) namedPorts(v policy.Value) (out []policy.NamedPort) {
	for _, item := range p.List(v) {
		n := policy.NamedPort{Protocol: policy.ProtocolTCP}
		p.Mapping(
			item,
			policy.Field{Name: "name", Required: "name: http", Read: p.text(&n.Name)},
			policy.Field{Name: "port", Required: "port: 8080", Read: func(v policy.Value) { n.Port = p.Port(v) }},
			policy.Field{Name: "protocol", Read: func(v policy.Value) { n.Protocol = p.protocol(v) }},
		)
		out = append(out, n)
	}
	return out
}

func (p *parser) protocol(v policy.Value) policy.Protocol {
	return policy.Word(p.Strict, v, policy.ProtocolTCP, policy.ProtocolUDP, policy.ProtocolSCTP)
}

// service reads a service of the cluster.
func (p *parser) service(v policy.Value) policy.Service {
	s := policy.Service{Namespace: policy.DefaultNamespace}
	p.Mapping(
		v,
		policy.Field{Name: "name", Required: "name: web", Read: p.text(&s.Name)},
		policy.Field{Name: "namespace", Read: p.text(&s.Namespace)},
		policy.Field{Name: "labels", Read: func(v policy.Value) { s.Labels = p.Labels(v) }},
		policy.Field{Name: "addresses", Required: "addresses: [10.96.0.1]", Read: p.addresses(&s.Addresses)},
		policy.Field{Name: "ports", Read: func(v policy.Value) {
			for _, item := range p.List(v) {
				s.Ports = append(s.Ports, p.servicePort(item))
			}
		}},
	)
	return s
}

// servicePort reads one port of a service.
func (p *parser) servicePort(v policy.Value) policy.ServicePort {
	out := policy.ServicePort{Protocol: policy.ProtocolTCP}
	p.Mapping(
		v,
		policy.Field{Name: "port", Required: "port: 80", Read: func(v policy.Value) { out.Port = p.Port(v) }},
		policy.Field{Name: "protocol", Read: func(v policy.Value) { out.Protocol = p.protocol(v) }},
		policy.Field{Name: "backends", Required: `backends: ["10.0.0.5:8080"]`, Read: func(v policy.Value) {
			for _, item := range p.List(v) {
				text, ok := p.Text(item)
				if !ok {
					continue
				}
				at, err := netip.ParseAddrPort(text)
				if err != nil {
					p.Fail(item, "10.0.0.5:8080 or [2001:db8::5]:8080", policy.Quote(text)+" is no address with a port")
				}
				out.Backends = append(out.Backends, at)
			}
		}},
	)
	return out
}

// addresses makes a field that is a list of addresses.
func (p *parser) addresses(to *[]netip.Addr) func(policy.Value) {
	return func(v policy.Value) {
		for _, item := range p.List(v) {
			text, ok := p.Text(item)
			if !ok {
				continue
			}
			address, err := netip.ParseAddr(text)
			if err != nil {
				p.Fail(item, "192.0.2.1 or 2001:db8::1", policy.Quote(text)+" is no address")
			}
			*to = append(*to, address)
		}
	}
}
