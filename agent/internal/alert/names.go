package alert

import (
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/probes/event"
)

// KindNames are the names of all kinds, in the order of the kernel ABI.
func KindNames() (names []string) {
	for k := event.KindExec; KindName(k) != number(k); k++ {
		names = append(names, KindName(k))
	}
	return names
}

// KindName is the name of a kind in every output: exec, exit, session-start, …
func KindName(k event.Kind) string {
	switch k {
	case event.KindExec:
		return "exec"
	case event.KindExit:
		return "exit"
	case event.KindSessionStart:
		return "session-start"
	case event.KindSessionEnd:
		return "session-end"
	case event.KindConnect:
		return "connect"
	case event.KindListen:
		return "listen"
	case event.KindSocket:
		return "socket"
	case event.KindFlow:
		return "flow"
	case event.KindForeign:
		return "foreign"
	case event.KindCgroup:
		return "cgroup"
	case event.KindLost:
		return "lost"
	case event.KindBorrow:
		return "borrow"
	case event.KindLate:
		return "late"
	case event.KindDNS:
		return "dns"
	case event.KindStale:
		return "stale"
	case event.KindRequest:
		return "request"
	case event.KindTamper:
		return "tamper"
	case event.KindHello:
		return "hello"
	case event.KindKTLS:
		return "ktls"
	case event.KindResponse:
		return "response"
	case event.KindTunnel:
		return "tunnel"
	}
	return number(k)
}

// OriginName is the name of an origin as policies write it.
func OriginName(o event.Origin) string {
	switch o {
	case event.OriginUnknown:
		return "Unknown"
	case event.OriginMain:
		return "Main"
	case event.OriginExec:
		return "Exec"
	case event.OriginProbe:
		return "Probe"
	case event.OriginHost:
		return "Host"
	}
	return number(o)
}

// VerdictName is the name of a verdict as policies write it; "" for none.
func VerdictName(v event.Verdict) string {
	switch v {
	case event.VerdictNone:
		return ""
	case event.VerdictAllow:
		return "Allow"
	case event.VerdictAudit:
		return "Audit"
	case event.VerdictDeny:
		return "Deny"
	case event.VerdictDrop:
		return "Drop"
	case event.VerdictReset:
		return "Reset"
	case event.VerdictKill:
		return "Kill"
	}
	return number(v)
}

// ReasonName is the name of a reason; "" for none.
func ReasonName(r event.Reason) string {
	switch r {
	case event.ReasonNone:
		return ""
	case event.ReasonRule:
		return "rule"
	case event.ReasonDefault:
		return "default"
	case event.ReasonUngoverned:
		return "ungoverned"
	case event.ReasonLoopback:
		return "loopback"
	case event.ReasonUnknown:
		return "unknown"
	case event.ReasonForeign:
		return "foreign"
	case event.ReasonMalformed:
		return "malformed"
	case event.ReasonMPTCP:
		return "mptcp"
	case event.ReasonBorrow:
		return "borrow"
	case event.ReasonDNSStream:
		return "dnsUnread"
	case event.ReasonUnasked:
		return "unasked"
	case event.ReasonAmbiguous:
		return "ambiguous"
	case event.ReasonOpaque:
		return "opaque"
	case event.ReasonProtected:
		return "protected"
	case event.ReasonFronted:
		return "fronted"
	case event.ReasonNamesFull:
		return "namesFull"
	}
	return number(r)
}

// CallName is the name of the judged call; "" for none.
func CallName(c event.Call) string {
	switch c {
	case event.CallNone:
		return ""
	case event.CallConnect:
		return "connect"
	case event.CallSendmsg:
		return "sendmsg"
	case event.CallBind:
		return "bind"
	case event.CallListen:
		return "listen"
	case event.CallAccept:
		return "accept"
	case event.CallSocket:
		return "socket"
	case event.CallPacketOut:
		return "packet-out"
	case event.CallPacketIn:
		return "packet-in"
	case event.CallTrace:
		return "trace"
	case event.CallReceive:
		return "receive"
	case event.CallSignal:
		return "signal"
	case event.CallLimit:
		return "limit"
	case event.CallBPF:
		return "bpf"
	case event.CallOption:
		return "setsockopt"
	case event.CallLocal:
		return "unix-connect"
	}
	return number(c)
}

// StepName is the name of a rung of the enforcement ladder as the configuration writes it; "" for
// none.
func StepName(s event.Step) string {
	switch s {
	case event.StepNone:
		return ""
	case event.StepLSM:
		return "lsm"
	case event.StepModRet:
		return "fmod_ret"
	case event.StepCgroup:
		return "cgroup"
	case event.StepReport:
		return "report"
	case event.StepGate:
		return "gate"
	case event.StepTap:
		return "tap"
	}
	return number(s)
}

// SeverityName is the name of a severity as policies write it.
func SeverityName(s event.Severity) string {
	switch s {
	case event.SeverityInfo:
		return "info"
	case event.SeverityWarning:
		return "warning"
	case event.SeverityCritical:
		return "critical"
	}
	return number(s)
}

// ProtocolName is the name of an IP protocol as policies write it, else its number.
func ProtocolName(protocol uint16) string {
	switch protocol {
	case unix.IPPROTO_ICMP:
		return "ICMP"
	case unix.IPPROTO_ICMPV6:
		return "ICMPv6"
	case unix.IPPROTO_TCP:
		return "TCP"
	case unix.IPPROTO_UDP:
		return "UDP"
	case unix.IPPROTO_UDPLITE:
		return "UDPLite"
	case unix.IPPROTO_SCTP:
		return "SCTP"
	case unix.IPPROTO_DCCP:
		return "DCCP"
	case unix.IPPROTO_MPTCP:
		return "MPTCP"
	case unix.IPPROTO_RAW:
		return "RAW"
	}
	return number(protocol)
}

// FamilyName is the short name of an address family, else its number; "" for AF_UNSPEC.
func FamilyName(family uint16) string {
	switch family {
	case unix.AF_UNSPEC:
		return ""
	case unix.AF_UNIX:
		return "unix"
	case unix.AF_INET:
		return "inet"
	case unix.AF_INET6:
		return "inet6"
	case unix.AF_NETLINK:
		return "netlink"
	case unix.AF_PACKET:
		return "packet"
	case unix.AF_VSOCK:
		return "vsock"
	case unix.AF_ALG:
		return "alg"
	case unix.AF_XDP:
		return "xdp"
	case unix.AF_BLUETOOTH:
		return "bluetooth"
	case unix.AF_CAN:
		return "can"
	case unix.AF_TIPC:
		return "tipc"
	}
	return number(family)
}

// TypeName is the short name of a socket type, else its number; "" for none.
func TypeName(socketType uint16) string {
	switch t := socketType & sockTypeMask; t {
	case 0:
		return ""
	case unix.SOCK_STREAM:
		return "stream"
	case unix.SOCK_DGRAM:
		return "dgram"
	case unix.SOCK_RAW:
		return "raw"
	case unix.SOCK_SEQPACKET:
		return "seqpacket"
	default:
		return number(t)
	}
}

// number is the text of a value that a newer kernel side may send and this table does not name.
func number[T ~uint8 | ~uint16](v T) string { return strconv.FormatUint(uint64(v), 10) }
