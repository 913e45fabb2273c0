package policy

import (
	"errors"
	"net/netip"
	"strconv"
	"strings"
)

// egress decodes one entry of egress.
func (d *decoder) egress(v value) EgressRule {
	var e EgressRule
	d.object(v, append([]field{
		{name: "toCIDR", parse: func(v value) { e.ToCIDR = each(d, v, d.cidr) }},
		{name: "toCIDRSet", parse: func(v value) { e.ToCIDRSet = each(d, v, d.cidrSet) }},
		{name: "toEntities", parse: func(v value) { e.ToEntities = each(d, v, d.entity) }},
		{name: "toFQDNs", parse: func(v value) { e.ToFQDNs = each(d, v, d.fqdn) }},
		{name: "toPorts", parse: func(v value) { e.ToPorts = d.portRules(v, Egress) }},
	}, later("toEndpoints", "toServices", "toGroups", "toNodes", "toRequires", "icmps", "authentication")...))
	return e
}

// ingress decodes one entry of ingress.
func (d *decoder) ingress(v value) IngressRule {
	var e IngressRule
	d.object(v, append([]field{
		{name: "fromCIDR", parse: func(v value) { e.FromCIDR = each(d, v, d.cidr) }},
		{name: "fromCIDRSet", parse: func(v value) { e.FromCIDRSet = each(d, v, d.cidrSet) }},
		{name: "fromEntities", parse: func(v value) { e.FromEntities = each(d, v, d.entity) }},
		{name: "toPorts", parse: func(v value) { e.ToPorts = d.portRules(v, Ingress) }},
	}, later("fromEndpoints", "fromGroups", "fromNodes", "fromRequires", "icmps", "authentication")...))
	return e
}

// entity decodes the name of an entity.
func (d *decoder) entity(v value) Entity {
	not := map[string]string{}
	for _, name := range []string{
		"world-ipv4", "world-ipv6", "remote-node", "cluster", "kube-apiserver", "health", "none",
		"metadata", "init", "ingress", "unmanaged",
	} {
		not[name] = "is not supported yet"
	}
	return enum(d, v, []Entity{EntityWorld, EntityHost, EntityAll}, not)
}

// cidr decodes a CIDR or a single address. IPv4-mapped IPv6 becomes IPv4, as everywhere.
func (d *decoder) cidr(v value) netip.Prefix {
	s, ok := d.text(v)
	if !ok {
		return netip.Prefix{}
	}
	p, err := parseCIDR(s)
	if err != nil {
		d.fail(v, "", "%s is no CIDR: %v", quote(s), err)
	}
	return p
}

// parseCIDR parses a CIDR without host bits, or an address.
func parseCIDR(s string) (netip.Prefix, error) {
	host, bits, slash := strings.Cut(s, "/")
	a, err := netip.ParseAddr(host)
	switch {
	case err != nil:
		return netip.Prefix{}, errors.New("an address and how many of its leading bits count: 10.0.0.0/8, 2001:db8::/32")
	case a.Zone() != "":
		return netip.Prefix{}, errors.New("a zone (%) cannot be matched: leave it out")
	case !slash:
		a = a.Unmap()
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	n, err := strconv.ParseUint(bits, 10, 8)
	if err != nil || int(n) > a.BitLen() || bits != strconv.FormatUint(n, 10) {
		return netip.Prefix{}, errors.New("behind the / stands a number from 0 to " + strconv.Itoa(a.BitLen()))
	}
	p := netip.PrefixFrom(a, int(n))
	if a.Is4In6() && n >= 96 {
		p = netip.PrefixFrom(a.Unmap(), int(n)-96)
	}
	if p != p.Masked() {
		return netip.Prefix{}, errors.New("bits behind the prefix are set: write " + p.Masked().String() +
			" or " + netip.PrefixFrom(p.Addr(), p.Addr().BitLen()).String())
	}
	return p, nil
}

// cidrSet decodes a CIDR with exceptions.
func (d *decoder) cidrSet(v value) CIDRSet {
	var s CIDRSet
	present, ok := d.object(v, append([]field{
		{name: "cidr", parse: func(v value) { s.CIDR = d.cidr(v) }},
		{name: "except", parse: func(v value) { s.Except = each(d, v, d.cidr) }},
	}, later("cidrGroupRef", "cidrGroupSelector")...))
	if !ok {
		return s
	}
	d.require(v, present, "cidr", "cidr: 10.0.0.0/8")
	for i, e := range s.Except {
		if !s.CIDR.IsValid() || !e.IsValid() {
			continue // reported already
		}
		if e.Bits() < s.CIDR.Bits() || !s.CIDR.Contains(e.Addr()) {
			at := value{d.resolve(v).node, v.path + ".except[" + strconv.Itoa(i) + "]"}
			d.fail(at, "an exception is a part of the CIDR", "%s is not inside %s", e, s.CIDR)
		} else if e == s.CIDR {
			at := value{d.resolve(v).node, v.path + ".except[" + strconv.Itoa(i) + "]"}
			d.fail(at, "an exception is a part of the CIDR", "%s excepts all of the CIDR", e)
		}
	}
	return s
}

// fqdn decodes one of toFQDNs, or one of rules.dns.
func (d *decoder) fqdn(v value) FQDNSelector {
	var s FQDNSelector
	pattern := func(into *NamePattern, parse func(string) (NamePattern, error)) func(value) {
		return func(v value) {
			text, ok := d.text(v)
			if !ok {
				return
			}
			p, err := parse(text)
			if err != nil {
				d.fail(v, "", "%s is no name: %v", quote(text), err)
			}
			*into = p
		}
	}
	present, ok := d.object(v, []field{
		{name: "matchName", parse: pattern(&s.MatchName, ParseName)},
		{name: "matchPattern", parse: pattern(&s.MatchPattern, ParseNamePattern)},
	})
	if ok && len(present) != 1 {
		d.fail(v, "matchName: www.example.com, or matchPattern: \"*.example.com\"", "has not exactly one of matchName and matchPattern")
	}
	return s
}
