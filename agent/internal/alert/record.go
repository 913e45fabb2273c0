// Package alert is the TELL end of the agent: it owns the Record (an event joined with names), the
// one table of its field names that every output shares, the line a person reads, and the fan-out
// that hands records to sinks without ever blocking the reader of the kernel's ring buffers.
//
// It imports probes/event and no kernel, runtime, policy or configuration package. The sinks are
// the packages below it.
package alert

import (
	"net/netip"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/probes/event"
)

// Record is one event joined with names. Names that are not known are empty. Text is kept as it
// came, hostile bytes included: what leaves through Each, AppendJSON or Message is escaped.
//
// A Record that was published is shared by all sinks and must not be changed.
type Record struct {
	Event         event.Event
	Workload      string // namespace/pod; for a container without a pod namespace/id; else its cgroup path
	Namespace     string // of the pod, or the runtime's for a container without a pod
	Pod           string
	Container     string // name inside the pod
	ContainerID   string
	Image         string
	PodLabels     string // that policies select by: key=value,key=value as policy/flows writes them
	ContainerType string // App, Init, Sidecar, Ephemeral
	SessionID     string // the kernel's session id in hex; empty outside a session
	ExecID        string // the runtime's name of the session
	Terminal      bool   // the session was given one (kubectl exec -t), as the runtime says
	User          string // who asked the cluster's API for the session, as it has authenticated them
	PeerName      string // by which DNS has told the container the peer's address
	Policy        string // namespace/policy of the deciding rule
	Rule          string // namespace/policy/rule
}

// Denied reports whether something was stopped.
func (r *Record) Denied() bool { return r.Event.Verdict >= event.VerdictDeny }

// Important reports whether the record is an alert rather than traffic: a denial or what would
// have been one, a session, a loss, a program of Main that its image does not have. Alerts are never displaced by traffic.
func (r *Record) Important() bool {
	switch r.Event.Kind {
	case event.KindSessionStart, event.KindSessionEnd, event.KindForeign, event.KindLost, event.KindLate, event.KindStale, event.KindTamper, event.KindTunnel:
		return true
	case event.KindExec, event.KindExit, event.KindConnect, event.KindListen, event.KindSocket,
		event.KindFlow, event.KindCgroup, event.KindBorrow, event.KindDNS, event.KindRequest, event.KindHello,
		event.KindKTLS, event.KindResponse:
		return r.Event.Verdict >= event.VerdictAudit || r.planted()
	}
	return true // an unknown kind is kept rather than lost
}

// Severity is how loud the record is: a judged event has what its policy says, losses and foreign
// packets are at least warnings because they mean that something was not seen or not judged.
func (r *Record) Severity() event.Severity {
	switch {
	case r.Event.Kind == event.KindTamper, r.Event.Kind == event.KindTunnel, r.planted():
		return event.SeverityCritical
	case r.Event.Kind == event.KindStale && !r.Event.Removed:
		return event.SeverityInfo
	case r.Event.Kind == event.KindStale, r.Event.Kind == event.KindLost, r.Event.Kind == event.KindForeign, r.Event.Kind == event.KindLate:
		return max(event.SeverityWarning, min(r.Event.Severity, event.SeverityCritical))
	case r.Event.Verdict >= event.VerdictAudit:
		return min(r.Event.Severity, event.SeverityCritical)
	default:
		return event.SeverityInfo
	}
}

// planted reports whether Main executes what its image does not have: a session may have written it, to act as Main.
func (r *Record) planted() bool {
	return r.Event.Kind == event.KindExec && r.Event.Subject.Drifted && r.Event.Subject.Origin == event.OriginMain
}

// Peer is the other end, such as 10.0.0.5:443/TCP or [2001:db8::1]/ICMPv6, or "" where the event
// has none.
func (r *Record) Peer() string { return endpoint(&r.Event, r.Event.Remote) }

// Local is this end, written as Peer is.
func (r *Record) Local() string { return endpoint(&r.Event, r.Event.Local) }

// Origin is how the process came into its container, or "" where the event is about no process.
func (r *Record) Origin() string {
	if !hasSubject(r) {
		return ""
	}
	return OriginName(r.Event.Subject.Origin)
}

// Binary is what ran: the script where there is one, else the executable.
func (r *Record) Binary() string {
	return binaryOf(&r.Event.Subject)
}

func binaryOf(s *event.Subject) string {
	if s.Script != "" {
		return s.Script
	}
	return s.Exe
}

func endpoint(e *event.Event, at netip.AddrPort) string {
	if !at.Addr().IsValid() {
		return ""
	}
	// A zone is text without bounds, and the kernel's events have none.
	addr := at.Addr().WithZone("")
	protocol := protocolOf(e)
	suffix := ""
	if protocol != 0 {
		suffix = "/" + ProtocolName(protocol)
	}
	if hasPorts(protocol) {
		return netip.AddrPortFrom(addr, at.Port()).String() + suffix
	}
	if addr.Is6() {
		return "[" + addr.String() + "]" + suffix
	}
	return addr.String() + suffix
}

func hasPorts(protocol uint16) bool {
	switch protocol {
	case 0, unix.IPPROTO_TCP, unix.IPPROTO_UDP, unix.IPPROTO_UDPLITE, unix.IPPROTO_SCTP,
		unix.IPPROTO_DCCP, unix.IPPROTO_MPTCP:
		return true
	}
	return false
}

// sockTypeMask cuts SOCK_NONBLOCK off a socket type.
const sockTypeMask = 0xf

// protocolOf is the IP protocol of an event. A socket may be made with protocol 0, which means the
// usual one of its type.
func protocolOf(e *event.Event) uint16 {
	if e.Protocol != 0 || (e.Family != unix.AF_INET && e.Family != unix.AF_INET6) {
		return e.Protocol
	}
	switch e.Type & sockTypeMask {
	case unix.SOCK_STREAM:
		return unix.IPPROTO_TCP
	case unix.SOCK_DGRAM:
		return unix.IPPROTO_UDP
	case unix.SOCK_SEQPACKET:
		return unix.IPPROTO_SCTP
	}
	return 0
}

// FormatSession is the text of a kernel session id: lower-case hex, and "" for no session.
func FormatSession(id uint64) string {
	if id == 0 {
		return ""
	}
	return strconv.FormatUint(id, 16)
}
