package match

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/sallyport/sallyport/policy"
)

// selecting is a process selector of a rule of a policy.
type selecting struct {
	policy   *policy.Policy
	rule     *policy.Rule
	selector *policy.ProcessSelector
}

// whyNot says why it does not select a process; "" if it does. some: one of its ids is enough.
func (in selecting) whyNot(p *Process, some bool) string {
	pol, r, s, w := in.policy, in.rule, in.selector, &p.Workload
	if why := whyNotWorkload(pol, w); why != "" {
		return why
	}
	switch {
	case !pol.Concerns(r, w):
		return "endpointSelector: " + whyNotLabels(r.Subject.LabelSelector, policy.EndpointLabels(w.Labels, w.Namespace, w.ServiceAccount, w.NamespaceLabels))
	case s.Origins != nil && !slices.Contains(s.Origins, p.Origin):
		return fmt.Sprintf("origin %s is none of %s", show(string(p.Origin)), join(s.Origins))
	case s.Containers != nil && !anyGlob(s.Containers, w.Container):
		return fmt.Sprintf("container %s matches none of %s", show(w.Container), join(s.Containers))
	case s.ContainerTypes != nil && !slices.Contains(s.ContainerTypes, policy.ContainerType(w.ContainerType)):
		return fmt.Sprintf("container type %s is none of %s", show(w.ContainerType), join(s.ContainerTypes))
	case s.Users != nil && !hasIDs(s.Users, p.User, nil, some):
		return fmt.Sprintf("user %s is not of %s", p.User, join(s.Users))
	case s.Groups != nil && !hasIDs(s.Groups, p.Group, p.Groups, some):
		return fmt.Sprintf("group %s is not of %s", p.Group, join(s.Groups))
	case s.Binaries == nil && s.Scripts == nil:
		return ""
	case p.Truncated && r.Denies():
		// A cut path could be any: a Deny rule takes it for one of its own (fails closed).
		return ""
	case p.Truncated:
		return "the path was cut, so that it matches no binaries of an Allow rule"
	case s.Scripts != nil && p.Scriptless && !r.Denies():
		return "which script it runs is not known, so that it matches no scripts of an Allow rule"
	case s.Scripts != nil && !runs(s.Scripts, p) && (!r.Denies() || !mayRun(s.Scripts, p)):
		return fmt.Sprintf("binary %s with script %s is none of the scripts", show(p.Exe), show(p.Script))
	case s.Binaries == nil, anyGlob(s.Binaries, p.Exe), p.Script != "" && anyGlob(s.Binaries, p.Script):
		return ""
	case p.Script != "":
		return fmt.Sprintf("neither binary %s nor script %s matches any of %s", show(p.Exe), show(p.Script), join(s.Binaries))
	}
	return fmt.Sprintf("binary %s matches none of %s", show(p.Exe), join(s.Binaries))
}

// hasIDs says whether a list of ids selects a process by those that it has.
func hasIDs(listed []uint32, ids policy.IDs, more []uint32, some bool) bool {
	if some {
		return ids.HasAny(listed, more)
	}
	return ids.HasAll(listed)
}

// mayRun says whether a process may run one of the scripts for all that can be told: a Deny rule takes it for
// one of its own (fails closed).
func mayRun(scripts []policy.Script, p *Process) bool {
	return p.Scriptless && slices.ContainsFunc(scripts, func(s policy.Script) bool { return s.Interpreter.Match(p.Exe) })
}

// runs says whether a process runs one of the scripts.
func runs(scripts []policy.Script, p *Process) bool {
	return p.Script != "" && !p.Scriptless && slices.ContainsFunc(scripts, func(s policy.Script) bool {
		return s.Interpreter.Match(p.Exe) && s.Path.Match(p.Script)
	})
}

// whyNotWorkload says why a policy is not about a workload; "" if it is.
func whyNotWorkload(pol *policy.Policy, w *policy.Workload) string {
	s := &pol.Spec
	switch {
	case pol.Selects(w):
		return ""
	case w.Host != nil:
		if pol.Kind != policy.KindHostProcessPolicy {
			return "the policy is about pods, the process is one of the node"
		}
		return fmt.Sprintf("hostSelector: unit %s, cgroup %s", show(w.Host.Unit), show(w.Host.Cgroup))
	case pol.Kind == policy.KindHostProcessPolicy:
		return "the policy is about processes of the node"
	case pol.Metadata.Namespace != "" && pol.Metadata.Namespace != w.Namespace:
		return fmt.Sprintf("the policy is of namespace %s, the workload of %s", pol.Metadata.Namespace, show(w.Namespace))
	case !s.PodSelector.Matches(w.Labels):
		return "podSelector: " + whyNotLabels(s.PodSelector, w.Labels)
	}
	if labels := policy.NamespaceLabels(w.Namespace, w.NamespaceLabels); s.NamespaceSelector != nil && !s.NamespaceSelector.Matches(labels) {
		return "namespaceSelector: " + whyNotLabels(*s.NamespaceSelector, labels)
	}
	return fmt.Sprintf("service account %s is none of %s", show(w.ServiceAccount), join(s.ServiceAccounts))
}

// whyNotLabels names the first requirement that labels do not meet.
func whyNotLabels(s policy.LabelSelector, labels map[string]string) string {
	keys := make([]string, 0, len(s.MatchLabels))
	for key := range s.MatchLabels {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	for _, key := range keys {
		got, ok := labels[key]
		switch {
		case !ok:
			return fmt.Sprintf("label %s is missing, %s is wanted", key, show(s.MatchLabels[key]))
		case got != s.MatchLabels[key]:
			return fmt.Sprintf("label %s is %s, not %s", key, show(got), show(s.MatchLabels[key]))
		}
	}
	for _, r := range s.MatchExpressions {
		if !r.Matches(labels) {
			got, ok := labels[r.Key]
			is := "missing"
			if ok {
				is = show(got)
			}
			return strings.TrimSpace(fmt.Sprintf("label %s is %s, which does not meet %s %s", r.Key, is, r.Operator, join(r.Values)))
		}
	}
	return ""
}

// anyGlob says whether one of the patterns matches.
func anyGlob(globs []policy.Glob, s string) bool {
	return slices.ContainsFunc(globs, func(g policy.Glob) bool { return g.Match(s) })
}

// whyNotPeer says why an entry does not match the other end of a call; "" if it does.
func whyNotPeer(in *Input, p *policy.Peers, c *Call) string {
	if p.Any() {
		return ""
	}
	if c.Listen {
		return "nobody is at the other end yet, and the entry names peers"
	}
	if !c.Peer.IsValid() {
		return "the call has no address, and the entry names peers"
	}
	peer := c.Peer
	excepted, matches := cidrs(in, p, peer)
	switch {
	case matches, slices.ContainsFunc(p.Entities, func(e policy.Entity) bool { return isEntity(in, e, peer) }):
		return ""
	case endpoint(in, p.Endpoints, peer), slices.ContainsFunc(in.World.Services, func(s policy.Service) bool { return serves(p.Services, &s, peer) }):
		return ""
	case slices.ContainsFunc(c.Names, func(name string) bool { return anyName(p.FQDNs, name) }):
		return ""
	case excepted != "":
		return excepted
	}
	known := ""
	if p.FQDNs != nil {
		known = ", and DNS has told no name for it"
		if len(c.Names) > 0 {
			known = ", and DNS has told for it only " + join(c.Names)
		}
	}
	return fmt.Sprintf("peer %s is in none of %s%s", peer, peerNames(p), known)
}

// cidrs says whether an address is in one of an entry's CIDRs; excepted says why it is not though
// one of them seems to say so.
func cidrs(in *Input, p *policy.Peers, peer netip.Addr) (excepted string, matches bool) {
	if p.External && in.Inside(peer) {
		return fmt.Sprintf("peer %s is inside the cluster, where CIDRs do not count", peer), false
	}
	if slices.ContainsFunc(p.CIDRs, func(c netip.Prefix) bool { return c.Contains(peer) }) {
		return "", true
	}
	for _, set := range p.CIDRSets {
		if !set.CIDR.Contains(peer) {
			continue
		}
		i := slices.IndexFunc(set.Except, func(e netip.Prefix) bool { return e.Contains(peer) })
		if i < 0 {
			return "", true
		}
		excepted = fmt.Sprintf("peer %s is in %s, but excepted by %s", peer, set.CIDR, set.Except[i])
	}
	return excepted, false
}

// isEntity says whether an address is one of an entity's.
func isEntity(in *Input, e policy.Entity, peer netip.Addr) bool {
	one := func(list []netip.Addr) bool {
		return slices.ContainsFunc(list, func(a netip.Addr) bool {
			a, ok := policy.Real(a)
			return ok && a == peer
		})
	}
	w := &in.World
	world := !policy.IsLoopback(peer) && !in.Inside(peer)
	switch e {
	case policy.EntityAll:
		return true
	case policy.EntityWorld:
		return world
	case policy.EntityWorldIPv4:
		return world && peer.Is4()
	case policy.EntityWorldIPv6:
		return world && peer.Is6()
	case policy.EntityHost:
		return slices.Contains(in.Node.HostAddresses(), peer)
	case policy.EntityRemoteNode:
		return one(w.RemoteNodes)
	case policy.EntityKubeAPIServer:
		return one(w.APIServers)
	case policy.EntityHealth:
		return one(w.Health)
	case policy.EntityMetadata:
		return slices.Contains(policy.MetadataAddresses(), peer)
	case policy.EntityCluster:
		return slices.Contains(in.Node.HostAddresses(), peer) || one(w.RemoteNodes) || one(w.Health) ||
			len(in.EndpointsAt(peer)) > 0 || !policy.IsLoopback(peer) && slices.ContainsFunc(w.Cluster, func(p netip.Prefix) bool { return p.Contains(peer) })
	case policy.EntityNone:
	}
	return false
}

// endpoint says whether one of the selectors selects an endpoint at an address.
func endpoint(in *Input, selectors []policy.EndpointSelector, peer netip.Addr) bool {
	for _, e := range in.EndpointsAt(peer) {
		labels := in.World.LabelsOf(e)
		if slices.ContainsFunc(selectors, func(s policy.EndpointSelector) bool { return s.Matches(labels) }) {
			return true
		}
	}
	return false
}

// serves says whether one of the selectors selects a service, and an address is one of the service's or
// of what is behind it.
func serves(selectors []policy.ServiceSelector, s *policy.Service, peer netip.Addr) bool {
	if policy.IsLoopback(peer) || !slices.ContainsFunc(selectors, func(t policy.ServiceSelector) bool { return t.Matches(s) }) {
		return false
	}
	is := func(a netip.Addr) bool {
		a, ok := policy.Real(a)
		return ok && a == peer
	}
	return slices.ContainsFunc(s.Addresses, is) || slices.ContainsFunc(s.Ports, func(p policy.ServicePort) bool {
		return slices.ContainsFunc(p.Backends, func(b netip.AddrPort) bool { return is(b.Addr()) })
	})
}

// anyName says whether one of the selectors matches a name.
func anyName(selectors []policy.FQDNSelector, name string) bool {
	return slices.ContainsFunc(selectors, func(s policy.FQDNSelector) bool { return s.Pattern().Match(name) })
}

// peerNames lists what an entry says about peers.
func peerNames(p *policy.Peers) string {
	names := make([]string, 0, len(p.CIDRs)+len(p.CIDRSets)+len(p.Entities))
	for _, c := range p.CIDRs {
		names = append(names, c.String())
	}
	for _, s := range p.CIDRSets {
		name := s.CIDR.String()
		if len(s.Except) > 0 {
			name += " except " + join(s.Except)
		}
		names = append(names, name)
	}
	for _, e := range p.Entities {
		names = append(names, string(e))
	}
	for _, s := range p.FQDNs {
		names = append(names, s.String())
	}
	for _, s := range p.Endpoints {
		names = append(names, "endpoints "+selectorName(s.LabelSelector))
	}
	for _, s := range p.Services {
		switch {
		case s.K8sService != nil:
			names = append(names, "service "+s.K8sService.Namespace+"/"+s.K8sService.ServiceName)
		case s.K8sServiceSelector != nil:
			names = append(names, "services "+selectorName(s.K8sServiceSelector.Selector))
		}
	}
	return join(names)
}

// selectorName shows a selector of labels.
func selectorName(s policy.LabelSelector) string {
	parts := make([]string, 0, len(s.MatchLabels)+len(s.MatchExpressions))
	for _, key := range slices.Sorted(maps.Keys(s.MatchLabels)) {
		parts = append(parts, key+"="+show(s.MatchLabels[key]))
	}
	for _, r := range s.MatchExpressions {
		parts = append(parts, strings.TrimSpace(fmt.Sprintf("%s %s %s", r.Key, r.Operator, strings.Join(r.Values, "|"))))
	}
	return "{" + strings.Join(parts, " ") + "}"
}

// whyNotPort says why an entry does not match the protocol and port of a call; "" if it does.
func whyNotPort(in *Input, e *policy.Entry, q question, denies bool) string {
	c := q.call
	if e.ICMPs != nil {
		return whyNotICMP(e.ICMPs, c, denies)
	}
	if e.Ports == nil {
		return ""
	}
	var names []string
	for _, p := range e.Ports {
		if p.Name != "" {
			if hasPort(c) && matchesName(in, p, q) {
				return ""
			}
		} else if matchesPort(p, c) {
			return ""
		}
		names = append(names, portName(p))
	}
	if !hasPort(c) {
		return "the call has no address, and the entry names ports"
	}
	return fmt.Sprintf("%s is none of %s", callPort(c), join(names))
}

// whyNotICMP says why a call is none of the messages of a rule; "" if it is one. A Listen is no message.
func whyNotICMP(messages []policy.ICMPField, c *Call, denies bool) string {
	for _, f := range messages {
		if c.Listen || !c.Peer.IsValid() || c.Protocol != f.Protocol() {
			continue
		}
		// A message whose type is not known could be any: a Deny rule takes it for its own (fails closed).
		if c.ICMPType == nil && denies || c.ICMPType != nil && *c.ICMPType == f.Type {
			return ""
		}
	}
	return callPort(c) + " is none of the types of icmps"
}

// matchesName says whether a port by its name is the call's: of the called pod, or of the process's own.
func matchesName(in *Input, p policy.Port, q question) bool {
	ports := q.process.Workload.Ports
	if q.call.Direction == policy.Egress {
		ports = nil
		for _, e := range in.EndpointsAt(q.call.Peer) {
			ports = append(ports, e.Ports...)
		}
	}
	return slices.ContainsFunc(p.Named(ports), func(n policy.NamedPort) bool {
		return n.Port == q.call.Port && n.Protocol.Numbers()[0] == q.call.Protocol
	})
}

// hasPort says whether the protocol and port of a call count. Without an address (AF_PACKET, vsock, …)
// they do not, unless it is a Listen.
func hasPort(c *Call) bool { return c.Listen || c.Peer.IsValid() }

// matchesPort says whether a port of an entry is the call's. A call whose port does not count matches
// only what names neither protocol nor port.
func matchesPort(p policy.Port, c *Call) bool {
	if p.AnyPort() {
		return true
	}
	if !hasPort(c) || !slices.Contains(p.Protocol.Numbers(), c.Protocol) {
		return false
	}
	first, last, ok := p.Range()
	return !ok || first <= c.Port && c.Port <= last
}

// portName shows a port of an entry: TCP/443, UDP/8000-8099, ICMP.
func portName(p policy.Port) string {
	name := string(p.Protocol)
	if name == "" {
		name = string(policy.ProtocolAny)
	}
	first, last, ok := p.Range()
	switch {
	case p.Name != "":
		return name + "/" + p.Name
	case !ok:
		return name
	case first == last:
		return name + "/" + strconv.Itoa(int(first))
	}
	return fmt.Sprintf("%s/%d-%d", name, first, last)
}

// callPort shows the protocol and port of a call.
func callPort(c *Call) string {
	name := "protocol " + strconv.Itoa(int(c.Protocol))
	for _, p := range []policy.Protocol{
		policy.ProtocolTCP, policy.ProtocolUDP, policy.ProtocolSCTP, policy.ProtocolICMP, policy.ProtocolICMPv6,
	} {
		if p.Numbers()[0] == c.Protocol {
			name = string(p)
		}
	}
	if c.Port == 0 {
		return name
	}
	return name + "/" + strconv.Itoa(int(c.Port))
}

// show makes text from a workload harmless: bounded, and with everything escaped that could move a
// terminal's cursor. Words that need no escaping stay as they are.
func show(s string) string {
	const most = 256
	more := ""
	if len(s) > most {
		s, more = s[:most], "…"
	}
	if quoted := strconv.QuoteToASCII(s); s == "" || quoted != `"`+s+`"` || strings.ContainsAny(s, " ,") {
		return quoted + more
	}
	return s + more
}

// join shows a list as [a, b, c], cut after some.
func join[T any](list []T) string {
	const most = 8
	if len(list) == 0 {
		return "[]"
	}
	var b strings.Builder
	for i, v := range list {
		if i == most {
			fmt.Fprintf(&b, " and %d more", len(list)-most)
			break
		}
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "%v", v)
	}
	return "[" + b.String() + "]"
}
