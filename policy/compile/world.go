package compile

import (
	"cmp"
	"crypto/sha256"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/sallyport/sallyport/policy"
)

// world is what is known of the cluster, arranged for the compiler.
type world struct {
	host, remote, apiServers, health, cluster, metadata []netip.Addr   // ascending, each once
	prefixes                                            []netip.Prefix // the pods', 128-bit
	inside                                              map[netip.Addr]bool
	groups                                              []group
	byNamespace                                         map[string][]int        // groups
	keys                                                map[netip.Addr][]string // of an address that is behind a service or has named ports: labelsKey of its endpoints
	named                                               map[netip.Addr][]policy.NamedPort
	callable                                            []callable // ascending by address
	services                                            []policy.Service
}

// group is the endpoints that no selector tells apart.
type group struct {
	key       string            // labelsKey of its endpoints
	labels    map[string]string // those of policy.EndpointLabels
	addresses []netip.Addr
}

// callable is an address of services, with what is behind its ports.
type callable struct {
	address netip.Addr
	ports   []servicePort // ascending by protocol and port
}

type servicePort struct {
	protocol uint8
	port     uint16
	backends []netip.AddrPort
}

// newWorld arranges the world of an input.
func newWorld(in *Input) *world {
	w := &world{
		host: addresses(in.Node.Addresses), remote: addresses(in.World.RemoteNodes), apiServers: addresses(in.World.APIServers),
		health: addresses(in.World.Health), metadata: addresses(policy.MetadataAddresses()),
		inside: map[netip.Addr]bool{}, named: map[netip.Addr][]policy.NamedPort{}, services: in.World.Services,
		byNamespace: map[string][]int{}, keys: map[netip.Addr][]string{},
	}
	for _, p := range in.World.Cluster {
		if p.IsValid() && !p.Addr().Is4In6() {
			w.prefixes = append(w.prefixes, wide(p.Masked()))
		}
	}
	w.serve()
	w.endpoints(&in.World)
	w.cluster = slices.Concat(w.host, w.remote, w.health)
	for _, g := range w.groups {
		w.cluster = append(w.cluster, g.addresses...)
	}
	for _, a := range w.cluster {
		w.inside[a] = true
	}
	// What no group of endpoints has: an endpoint at the address of a node, which is inside anyway.
	for _, c := range w.callable {
		w.inside[c.address] = true
	}
	return w
}

// addresses returns those of a list that calls can be to, in the form that calls have.
func addresses(list []netip.Addr) (out []netip.Addr) {
	for _, a := range list {
		if a, ok := policy.Real(a); ok {
			out = append(out, a)
		}
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return slices.Compact(out)
}

// endpoints groups the endpoints by their labels.
func (w *world) endpoints(in *policy.World) {
	nodes := map[netip.Addr]bool{}
	for _, a := range slices.Concat(w.host, w.remote) {
		nodes[a] = true
	}
	ids := map[string]int{}
	for i := range in.Endpoints {
		e := &in.Endpoints[i]
		own := slices.DeleteFunc(addresses(e.Addresses), func(a netip.Addr) bool { return nodes[a] })
		if len(own) == 0 {
			continue
		}
		key := labelsKey(e)
		id, ok := ids[key]
		if !ok {
			id = len(w.groups)
			ids[key] = id
			w.groups = append(w.groups, group{key: key, labels: in.LabelsOf(e)})
			w.byNamespace[e.Namespace] = append(w.byNamespace[e.Namespace], id)
		}
		key = w.groups[id].key // one text for all of them
		w.groups[id].addresses = append(w.groups[id].addresses, own...)
		for _, a := range own {
			if len(e.Ports) > 0 {
				w.named[a] = joined(w.named[a], e.Ports)
			}
			if _, asked := w.keys[a]; asked || len(e.Ports) > 0 {
				w.keys[a] = append(w.keys[a], key)
			}
		}
	}
}

// joined is two lists in one. Where the first is empty it is the second itself: most addresses are one endpoint's.
func joined(a, b []policy.NamedPort) []policy.NamedPort {
	if len(a) == 0 {
		return b
	}
	return slices.Concat(a, b)
}

// labelsKey writes down what selectors can know of an endpoint.
func labelsKey(e *policy.Endpoint) string {
	var b strings.Builder
	for _, s := range []string{e.Namespace, e.ServiceAccount} {
		b.WriteString(strconv.Quote(s))
	}
	for _, key := range slices.Sorted(maps.Keys(e.Labels)) {
		b.WriteString(strconv.Quote(key) + strconv.Quote(e.Labels[key]))
	}
	return b.String()
}

// serve gathers what is behind each address of the services.
func (w *world) serve() {
	type key struct {
		protocol uint8
		port     uint16
	}
	byAddress := map[netip.Addr]map[key][]netip.AddrPort{}
	for i := range w.services {
		s := &w.services[i]
		for _, a := range addresses(s.Addresses) {
			ports, ok := byAddress[a]
			if !ok {
				ports = map[key][]netip.AddrPort{}
				byAddress[a] = ports
			}
			for _, p := range s.Ports {
				if n := p.Protocol.Numbers(); len(n) == 1 {
					ports[key{n[0], p.Port}] = append(ports[key{n[0], p.Port}], p.Backends...)
				}
			}
		}
	}
	for _, a := range slices.SortedFunc(maps.Keys(byAddress), netip.Addr.Compare) {
		c := callable{address: a}
		for k, backends := range byAddress[a] {
			if len(backends) > 0 {
				c.ports = append(c.ports, servicePort{k.protocol, k.port, backends})
			}
			for _, b := range backends {
				w.keys[b.Addr().Unmap().WithZone("")] = nil
			}
		}
		slices.SortFunc(c.ports, func(a, b servicePort) int {
			return cmp.Or(cmp.Compare(a.protocol, b.protocol), cmp.Compare(a.port, b.port))
		})
		w.callable = append(w.callable, c)
	}
}

// selected returns the addresses of the endpoints that a selector selects.
func (w *world) selected(s *policy.EndpointSelector) (out []netip.Addr) {
	namespace, one := s.One()
	if !one {
		for i := range w.groups {
			if s.Matches(w.groups[i].labels) {
				out = append(out, w.groups[i].addresses...)
			}
		}
		return out
	}
	for _, i := range w.byNamespace[namespace] {
		if s.LabelSelector.Matches(w.groups[i].labels) {
			out = append(out, w.groups[i].addresses...)
		}
	}
	return out
}

// served returns the addresses of the services that a selector selects, and of what is behind them.
func (w *world) served(selector *policy.ServiceSelector) (out []netip.Addr) {
	for i := range w.services {
		s := &w.services[i]
		if !selector.Matches(s) {
			continue
		}
		out = append(out, s.Addresses...)
		for _, p := range s.Ports {
			for _, b := range p.Backends {
				out = append(out, b.Addr())
			}
		}
	}
	return addresses(out)
}

// contains says whether an address is inside the cluster.
func (w *world) contains(a netip.Addr) bool {
	return w.inside[a] || slices.ContainsFunc(w.prefixes, func(p netip.Prefix) bool { return inPrefix(p, a) })
}

// inPrefix says whether a prefix in 128-bit form has an address. ::/0 has no IPv4 address.
func inPrefix(p netip.Prefix, a netip.Addr) bool {
	if a.Is4() && p.Bits() < 96 {
		return false
	}
	return p.Contains(netip.AddrFrom16(a.As16()))
}

// mark is the same for two worlds of which the extras of every entry are the same: it is made of all
// that services and ports by name have to do with.
func (w *world) mark(in *policy.World) [sha256.Size]byte {
	h := sha256.New()
	write := func(values ...any) {
		for _, v := range values {
			fmt.Fprintf(h, "%v\n", v)
		}
	}
	write(w.host, w.remote, w.apiServers, w.health, w.prefixes)
	for _, c := range w.callable {
		write(c.address, c.ports)
	}
	for _, a := range slices.SortedFunc(maps.Keys(w.keys), netip.Addr.Compare) {
		write(a, w.named[a], w.keys[a])
	}
	if len(w.keys) == 0 {
		return [sha256.Size]byte(h.Sum(nil))
	}
	for i := range in.Services {
		s := &in.Services[i]
		fmt.Fprintf(h, "%q %q %q %v\n", s.Namespace, s.Name, s.Labels, s.Addresses) // maps are printed by their keys in order
	}
	fmt.Fprintf(h, "%q\n", in.Namespaces)
	return [sha256.Size]byte(h.Sum(nil))
}
