package policytest

import (
	"net/netip"

	"github.com/sallyport/sallyport/policy"
)

// world makes a small cluster from the addresses that calls are made to.
func (g *generator) world() (w policy.World) {
	if g.IntN(4) == 0 {
		return w
	}
	w.Namespaces = map[string]map[string]string{"shop": {"team": pick(g, "red", "blue")}, "default": {"team": "red"}}
	for range g.IntN(6) {
		w.Endpoints = append(w.Endpoints, policy.Endpoint{
			Namespace: pick(g, "shop", "default"), ServiceAccount: pick(g, "payer", "other"), Ports: g.namedPorts(),
			Labels:    map[string]string{"app": pick(g, "web", "db"), "tier": pick(g, "a", "b")},
			Addresses: some(g, 0, list("10.1.2.3", "10.1.2.4", "10.1.9.9", "192.0.2.2", "2001:db8::2", "::ffff:10.1.9.9", "127.9.9.9")...),
		})
	}
	w.RemoteNodes = some(g, 2, list("192.0.2.2", "10.9.9.9", "2001:db8::2")...)
	w.APIServers = some(g, 2, list("192.0.2.1", "203.0.113.7")...)
	w.Health = some(g, 2, list("10.1.9.9", "2001:db9::1")...)
	if g.IntN(2) == 0 {
		w.Cluster = some(g, 0, prefixes("10.1.0.0/16", "10.0.0.0/8", "2001:db8::/32", "::/64", "127.0.0.0/8")...)
	}
	backends := list("10.1.2.3", "10.1.2.4", "10.1.9.9", "203.0.113.7", "2001:db8::2", "127.0.0.1")
	for i := range g.IntN(4) {
		s := policy.Service{
			Namespace: pick(g, "shop", "default"), Name: pick(g, "web", "dns"), Labels: map[string]string{"kind": pick(g, "web", "other")},
			Addresses: list([]string{"10.96.0.1", "10.96.0.2", "10.1.2.4"}[i]),
		}
		for range 1 + g.IntN(2) {
			p := policy.ServicePort{Protocol: pick(g, policy.ProtocolTCP, policy.ProtocolTCP, policy.ProtocolUDP), Port: pick[uint16](g, 80, 443, 53)}
			for range g.IntN(4) {
				p.Backends = append(p.Backends, netip.AddrPortFrom(pick(g, backends...), pick[uint16](g, 8080, 8080, 53, 443)))
			}
			s.Ports = append(s.Ports, p)
		}
		w.Services = append(w.Services, s)
	}
	return w
}

func list(texts ...string) (out []netip.Addr) {
	for _, s := range texts {
		out = append(out, netip.MustParseAddr(s))
	}
	return out
}

func (g *generator) namedPorts() (out []policy.NamedPort) {
	for range g.IntN(3) {
		out = append(out, policy.NamedPort{
			Name: pick(g, "http", "http", "dns"), Protocol: pick(g, policy.ProtocolTCP, policy.ProtocolUDP), Port: pick[uint16](g, 80, 8080, 53),
		})
	}
	return out
}

func (g *generator) endpoints() (out []policy.EndpointSelector) {
	for range 1 + g.IntN(2) {
		var s policy.EndpointSelector
		switch g.IntN(5) {
		case 0:
		case 1:
			s.MatchLabels = map[string]string{policy.LabelNamespace: pick(g, "shop", "default"), "app": "web"}
		case 2:
			s.MatchLabels = map[string]string{policy.LabelOfNamespace + "team": "red"}
		case 3:
			s.MatchLabels = map[string]string{policy.LabelServiceAccount: "payer"}
		default:
			s.LabelSelector = g.selector()
		}
		out = append(out, s)
	}
	return out
}

func (g *generator) icmps() []policy.ICMPRule {
	if g.IntN(10) > 0 {
		return nil
	}
	return []policy.ICMPRule{{Fields: some(g, 0, policy.ICMPField{Type: 8}, policy.ICMPField{Family: policy.FamilyIPv4}, policy.ICMPField{Family: policy.FamilyIPv6, Type: 128})}}
}

// external gives some rules what only Cilium's documents can say.
func (g *generator) external(p *policy.Policy) {
	for i := range p.Spec.Rules {
		r := &p.Spec.Rules[i]
		if g.IntN(8) == 0 {
			r.Subject = &g.endpoints()[0]
			r.Subject.Namespace = p.Metadata.Namespace
		}
		for j := range r.Egress {
			r.Egress[j].External = g.IntN(4) == 0
		}
		for j := range r.Ingress {
			r.Ingress[j].External = g.IntN(4) == 0
		}
	}
}
