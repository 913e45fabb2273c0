package match

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/sallyport/sallyport/policy"
)

// whyNotSelected says why a rule's process selector does not select a process; "" if it does.
func whyNotSelected(pol *policy.Policy, r *policy.Rule, s *policy.ProcessSelector, p *Process) string {
	w := &p.Workload
	if why := whyNotWorkload(pol, w); why != "" {
		return why
	}
	switch {
	case s.Origins != nil && !slices.Contains(s.Origins, p.Origin):
		return fmt.Sprintf("origin %s is none of %s", show(string(p.Origin)), join(s.Origins))
	case s.Containers != nil && !anyGlob(s.Containers, w.Container):
		return fmt.Sprintf("container %s matches none of %s", show(w.Container), join(s.Containers))
	case s.ContainerTypes != nil && !slices.Contains(s.ContainerTypes, policy.ContainerType(w.ContainerType)):
		return fmt.Sprintf("container type %s is none of %s", show(w.ContainerType), join(s.ContainerTypes))
	case s.Users != nil && !slices.Contains(s.Users, p.User):
		return fmt.Sprintf("user %d is none of %s", p.User, join(s.Users))
	case s.Groups != nil && !slices.Contains(s.Groups, p.Group):
		return fmt.Sprintf("group %d is none of %s", p.Group, join(s.Groups))
	case s.Binaries == nil && s.Scripts == nil:
		return ""
	case p.Truncated && r.Denies():
		// A cut path could be any: a Deny rule takes it for one of its own (fails closed).
		return ""
	case p.Truncated:
		return "the path was cut, so that it matches no binaries of an Allow rule"
	case s.Scripts != nil && !runs(s.Scripts, p):
		return fmt.Sprintf("binary %s with script %s is none of the scripts", show(p.Exe), show(p.Script))
	case s.Binaries == nil, anyGlob(s.Binaries, p.Exe), p.Script != "" && anyGlob(s.Binaries, p.Script):
		return ""
	case p.Script != "":
		return fmt.Sprintf("neither binary %s nor script %s matches any of %s", show(p.Exe), show(p.Script), join(s.Binaries))
	}
	return fmt.Sprintf("binary %s matches none of %s", show(p.Exe), join(s.Binaries))
}

// runs says whether a process runs one of the scripts.
func runs(scripts []policy.Script, p *Process) bool {
	return p.Script != "" && slices.ContainsFunc(scripts, func(s policy.Script) bool {
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
func whyNotPeer(p *policy.Peers, node policy.Node, c *Call) string {
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
	for _, cidr := range p.CIDRs {
		if cidr.Contains(peer) {
			return ""
		}
	}
	excepted := ""
	for _, set := range p.CIDRSets {
		if !set.CIDR.Contains(peer) {
			continue
		}
		i := slices.IndexFunc(set.Except, func(e netip.Prefix) bool { return e.Contains(peer) })
		if i < 0 {
			return ""
		}
		excepted = fmt.Sprintf("peer %s is in %s, but excepted by %s", peer, set.CIDR, set.Except[i])
	}
	host := slices.Contains(node.HostAddresses(), peer)
	for _, e := range p.Entities {
		if e == policy.EntityHost && host || e == policy.EntityWorld && !host && !policy.IsLoopback(peer) {
			return ""
		}
	}
	if slices.ContainsFunc(c.Names, func(name string) bool { return anyName(p.FQDNs, name) }) {
		return ""
	}
	if excepted != "" {
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
	return join(names)
}

// whyNotPort says why an entry does not match the protocol and port of a call; "" if it does.
func whyNotPort(ports []policy.Port, c *Call) string {
	if ports == nil {
		return ""
	}
	var names []string
	for _, p := range ports {
		if matchesPort(p, c) {
			return ""
		}
		names = append(names, portName(p))
	}
	if !hasPort(c) {
		return "the call has no address, and the entry names ports"
	}
	return fmt.Sprintf("%s is none of %s", callPort(c), join(names))
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
