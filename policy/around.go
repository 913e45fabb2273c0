package policy

import (
	"net/netip"
	"slices"
)

// Around returns the part of a world that questions about an address depend on: who is there, which services are, and what
// is behind these. The rest is as it was. It is for whoever asks about one address by many rules: match looks through the
// whole world for each.
func (w *World) Around(peer netip.Addr) World {
	out := *w
	out.Endpoints, out.Services = nil, nil
	addresses := []netip.Addr{}
	if peer, ok := Real(peer); ok {
		addresses = append(addresses, peer)
	}
	for i := range w.Services {
		if s := &w.Services[i]; at(s.Addresses, addresses[:min(len(addresses), 1)]) {
			addresses = append(addresses, backends(s)...)
		}
	}
	for _, s := range w.Services {
		if at(s.Addresses, addresses) || at(backends(&s), addresses) {
			out.Services = append(out.Services, s)
		}
	}
	for _, e := range w.Endpoints {
		if at(e.Addresses, addresses) {
			out.Endpoints = append(out.Endpoints, e)
		}
	}
	return out
}

// at says whether one of a list's addresses is one of those asked for, which are in the form of Real.
func at(list, asked []netip.Addr) bool {
	return slices.ContainsFunc(asked, func(a netip.Addr) bool { return has(list, a) })
}

// backends lists the addresses behind a service, in the form of Real.
func backends(s *Service) (out []netip.Addr) {
	for _, p := range s.Ports {
		for _, b := range p.Backends {
			if a, ok := Real(b.Addr()); ok {
				out = append(out, a)
			}
		}
	}
	return out
}
