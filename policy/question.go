package policy

import (
	"hash/fnv"
	"maps"
	"net/netip"
	"strconv"
)

// Input is everything that policies are judged with. compile.Compile and match.Judge take the same.
type Input struct {
	Policies  []*Policy
	Workloads []Workload
	Node      Node
	World     World
}

// Workload is one container as the policies see it.
type Workload struct {
	Key           uint64 // what the kernel knows it by; unique among workloads
	Namespace     string // the pod's; without a pod the runtime's
	Pod           string
	Container     string            // its name inside the pod, or its id without a pod
	Labels        map[string]string // the pod's, or without a pod its own
	ContainerType string            // App, Init, …; anything else matches no containerTypes

	NamespaceLabels map[string]string // of the pod's namespace
	ServiceAccount  string            // the pod's
	Ports           []NamedPort       // the pod's
	Host            *HostUnit         // not nil: processes of the node itself, and all of the above but Key is empty
}

// HostUnit is a workload of the node itself.
type HostUnit struct {
	Unit   string // the systemd unit; "" without one
	Cgroup string // path of its cgroup, from the root of the hierarchy: /system.slice/ssh.service
}

// NamespaceLabels returns the labels of a namespace with the one that every namespace has: its name.
func NamespaceLabels(name string, labels map[string]string) map[string]string {
	out := make(map[string]string, len(labels)+1)
	maps.Copy(out, labels)
	out["kubernetes.io/metadata.name"] = name
	return out
}

// Node is what policies can say about the node. Loopback among the addresses is left out: it is
// the pod's own.
type Node struct {
	Addresses []netip.Addr
}

// HostAddresses returns the addresses that the entity host stands for: unmapped, without zones
// and without loopback, in the order given.
func (n Node) HostAddresses() []netip.Addr {
	var out []netip.Addr
	for _, a := range n.Addresses {
		a = a.Unmap().WithZone("")
		if a.IsValid() && !IsLoopback(a) {
			out = append(out, a)
		}
	}
	return out
}

// Process is one process as its label describes it.
type Process struct {
	Workload  Workload
	Origin    Origin
	Exe       string // resolved path inside the container, or memfd:NAME
	Script    string // the script that an interpreter runs by its #! line; else empty
	Truncated bool   // Exe or Script was cut: neither can be compared with a pattern
	// Scriptless says that nobody can tell which script it runs, or whether: it is older than the agent, or Script
	// is a name that is not, or may not be, the path of the script's file. What names binaries goes by the name, what names scripts does not.
	Scriptless bool
	User       IDs
	Group      IDs
	Groups     []uint32 // supplementary
}

// Call is one socket call, or a packet: who is at the other end, and by which protocol and port.
type Call struct {
	Direction Direction
	Protocol  uint8      // IP protocol number
	Peer      netip.Addr // invalid: the call has no address (AF_PACKET, vsock, …)
	Port      uint16     // egress: the peer's, ingress: the workload's; 0: the call has none
	Listen    bool       // a bind, listen or accept: nobody is at the other end yet; see Canonical
	ICMPType  *uint8     // of an ICMP or ICMPv6 message; nil: not known yet, so a Deny rule takes it for its own
	// Names are those that DNS answers have told the workload for Peer and that have not expired, in
	// the form of NormalName. toFQDNs is asked for them when something leaves.
	Names []string
}

// Query is a DNS query that a process sends to a resolver. The call is that of the query's packet or
// connection; a query inside is judged if the call is allowed by a rule that has rules.dns.
type Query struct {
	Call Call
	Name string // in the form of NormalName
}

// IsICMP says whether the call is by ICMP or ICMPv6, which have types of messages in place of ports.
func (c *Call) IsICMP() bool { return c.Protocol == ipProtoICMP || c.Protocol == ipProtoICMPv6 }

// Canonical returns the call as the kernel judges it. The peer is unmapped and has no zone, and the
// unspecified addresses are loopback, which is where the kernel connects them. A Listen is ingress
// and has no peer: only a Deny rule of every peer can speak about it, because whom an Allow rule lets
// in shows when the peer comes.
func (c Call) Canonical() Call {
	if c.Listen {
		c.Direction, c.Peer = Ingress, netip.Addr{}
		return c
	}
	c.Peer = c.Peer.Unmap().WithZone("")
	switch c.Peer {
	case netip.IPv4Unspecified():
		c.Peer = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	case netip.IPv6Unspecified():
		c.Peer = netip.IPv6Loopback()
	}
	return c
}

// Direction is seen from the workload.
type Direction uint8

// The directions.
const (
	Egress Direction = iota
	Ingress
)

// String returns the direction as policies spell it.
func (d Direction) String() string {
	if d == Ingress {
		return "ingress"
	}
	return "egress"
}

// IsLoopback says whether an address is the pod's own: 127.0.0.0/8, ::1, and the unspecified
// addresses, which the kernel connects to loopback. IPv4-mapped addresses count as IPv4.
func IsLoopback(a netip.Addr) bool {
	a = a.Unmap()
	return a.IsValid() && (a.IsLoopback() || a.IsUnspecified())
}

// Origin says how a process came into its container.
type Origin string

// The origins, in the order of their numbers.
const (
	OriginUnknown Origin = "Unknown"
	OriginMain    Origin = "Main"
	OriginExec    Origin = "Exec"
	OriginProbe   Origin = "Probe"
	OriginHost    Origin = "Host"
)

// Origins returns all origins: the index of one is its number in the kernel ABI and in
// probes/event.
func Origins() [5]Origin {
	return [...]Origin{OriginUnknown, OriginMain, OriginExec, OriginProbe, OriginHost}
}

// Number returns the origin's number in the kernel ABI. A word that is no origin is Unknown: it
// must not be taken for a process that a rule for Main covers.
func (o Origin) Number() uint8 {
	for i, known := range Origins() {
		if o == known {
			return uint8(i)
		}
	}
	return 0
}

// Verdict is what is decided about a call, or for Audit what would have been.
type Verdict string

// The verdicts. A policy can ask for the last four.
const (
	VerdictAllow Verdict = "Allow"
	VerdictAudit Verdict = "Audit" // passes, and would be denied if the policy enforced
	VerdictDeny  Verdict = "Deny"  // the call fails with EPERM
	VerdictDrop  Verdict = "Drop"  // dropped silently
	VerdictReset Verdict = "Reset" // the caller sees a refused or reset connection
	VerdictKill  Verdict = "Kill"  // as Deny, and the process is killed
)

// Number returns the verdict's number in the kernel ABI and in probes/event; 0 is no verdict.
func (v Verdict) Number() uint8 {
	return number(v, VerdictAllow, VerdictAudit, VerdictDeny, VerdictDrop, VerdictReset, VerdictKill)
}

// Severity is how loud a violation is told.
type Severity string

// The severities, mildest first.
const (
	SeverityInfo     Severity = "info"
	SeverityWarning  Severity = "warning"
	SeverityCritical Severity = "critical"
)

// Number returns the severity's number in the kernel ABI and in probes/event. "" is info.
func (s Severity) Number() uint8 {
	return max(number(s, SeverityInfo, SeverityWarning, SeverityCritical), 1) - 1
}

// Reason says which part of a judgement decided.
type Reason string

// The reasons.
const (
	ReasonRule       Reason = "rule"       // a rule matched
	ReasonDefault    Reason = "default"    // Allow rules select the process in this direction and none allows the call
	ReasonUngoverned Reason = "ungoverned" // no Allow rule selects the process in this direction
	ReasonLoopback   Reason = "loopback"   // default-deny leaves the pod's own loopback alone
)

// Number returns the reason's number in the kernel ABI and in probes/event; 0 is no reason.
func (r Reason) Number() uint8 {
	return number(r, ReasonRule, ReasonDefault, ReasonUngoverned, ReasonLoopback)
}

// number returns the place of v in list, from 1; 0 if it is not there.
func number[T comparable](v T, list ...T) uint8 {
	for i, known := range list {
		if v == known {
			return uint8(i + 1)
		}
	}
	return 0
}

// Ref is the number of one compiled rule: the combination index of a YAML rule's process selectors
// and entries in one direction. It is the FNV-1a hash (64 bit) of "namespace/policy/rule|direction|index"
// and so the same in every revision and after every restart. It is never 0.
func Ref(ruleName string, d Direction, index int) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(ruleName + "|" + d.String() + "|" + strconv.Itoa(index)))
	return max(h.Sum64(), 1)
}
