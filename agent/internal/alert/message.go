package alert

import (
	"strconv"
	"strings"

	"github.com/sallyport/sallyport/probes/event"
)

// Message is the record as one line for people, for example
//
//	denied connect 10.0.0.5:443/TCP by Exec /bin/sh in shop/checkout-7d (container app): rule shop/checkout/shells-stay-inside
//
// It is printable UTF-8 without line breaks, whatever the workload put into its names, and not
// meant to be parsed: every part of it is a field of its own.
func (r *Record) Message() string {
	switch r.Event.Kind {
	case event.KindExec:
		return r.executed()
	case event.KindExit:
		return words("ended", who(r), r.where()) + ": " + ending(&r.Event)
	case event.KindSessionStart:
		line := words("session", sessionOf(r), "started by", who(r), r.where())
		if r.User != "" {
			line += ", asked for by " + Escape(r.User)
		}
		return line
	case event.KindSessionEnd:
		return words("session", sessionOf(r), "ended", r.where())
	case event.KindConnect, event.KindListen, event.KindSocket:
		return r.judged()
	case event.KindFlow:
		if r.Event.Packets == 0 {
			return r.judged() // a packet that was judged, not a count of those that passed
		}
		return words(verb(&r.Event), "flow", arrow(r), "of", who(r), r.where()) + ": " +
			strconv.FormatUint(r.Event.Packets, 10) + " packets, " +
			strconv.FormatUint(r.Event.Bytes, 10) + " bytes"
	case event.KindForeign:
		return words("dropped", CallName(r.Event.Call), arrow(r), r.where()) + ": it belongs to no judged flow"
	case event.KindBorrow:
		return words(verb(&r.Event), borrowed(&r.Event), "by", who(r), r.where()) + ": " + why(r)
	case event.KindCgroup:
		if r.Event.Removed {
			return words("cgroup", Escape(r.Event.Path), "went")
		}
		return words("cgroup", Escape(r.Event.Path), "appeared")
	case event.KindDNS:
		return r.dns()
	case event.KindRequest, event.KindHello:
		return r.request()
	case event.KindResponse:
		return r.response()
	case event.KindStale:
		if r.Event.Removed {
			return words("the cluster's API cannot be heard; what is known of it stays in force:", Escape(r.Event.Site))
		}
		return "the cluster's API is heard again"
	case event.KindTamper:
		return r.tamper()
	case event.KindKTLS:
		return r.ktls()
	case event.KindTunnel:
		return words("DNS tunnel:", who(r), r.where(), "has asked for", strconv.FormatUint(uint64(r.Event.Told), 10), "names below", Escape(r.Event.Query)) +
			" that look like data"
	case event.KindLost:
		return words("lost", strconv.FormatUint(r.Event.Lost, 10), "records at", Escape(r.Event.Site))
	case event.KindLate:
		if r.Event.Verdict == event.VerdictDeny {
			return words("refused the start", r.where()) + ": its policies were not in force in time"
		}
		return words("admitted the start", r.where()) + ", whose policies were not in force in time"
	}
	return words("event of unknown kind", KindName(r.Event.Kind), "by", who(r), r.where())
}

// executed is about a program that a process became.
func (r *Record) executed() string {
	line := words("executed", argsOf(r), "as", who(r), r.where())
	if r.Event.Subject.Drifted {
		line += ": the file is not of the container's image"
	}
	return line
}

// dns is about a query or an answer.
func (r *Record) dns() string {
	what, at := "DNS query for", "to"
	if r.Event.Answer {
		what, at = "DNS answer for", "from"
	}
	name := Escape(r.Event.Query)
	if name == "" {
		name = "nothing that can be read"
	}
	if peer := r.Peer(); peer != "" {
		name += " " + at + " " + peer
	}
	line := words(verb(&r.Event), what, name, "of", who(r), r.where())
	if r.Event.Verdict == event.VerdictAllow {
		return line + ": " + strconv.FormatUint(uint64(r.Event.Told), 10) + " addresses"
	}
	if r.Event.Verdict == event.VerdictAudit && r.Event.Would != event.VerdictNone {
		line += ", would get " + VerdictName(r.Event.Would)
	}
	return line + ": " + why(r)
}

func (r *Record) judged() string {
	what := CallName(r.Event.Call)
	if what == "" {
		what = KindName(r.Event.Kind)
	}
	line := words(verb(&r.Event), what, target(r), "by", who(r), r.where())
	if r.Event.Verdict == event.VerdictAudit && r.Event.Would != event.VerdictNone {
		line += ", would get " + VerdictName(r.Event.Would)
	}
	if why := why(r); why != "" {
		line += ": " + why
	}
	return line
}

// target is what a judged call aims at: its peer, the address it listens on, or the kind of socket.
func target(r *Record) string {
	e := &r.Event
	if e.Kind != event.KindSocket {
		local := e.Call == event.CallBind || e.Call == event.CallListen
		if at := r.Local(); local && at != "" {
			return at
		}
		if at := r.Peer(); at != "" {
			return at + named(r)
		}
	}
	parts := make([]string, 0, 3)
	for _, part := range []string{FamilyName(e.Family), TypeName(e.Type)} {
		if part != "" {
			parts = append(parts, part)
		}
	}
	if e.Protocol != 0 {
		parts = append(parts, ProtocolName(e.Protocol))
	}
	return strings.Join(parts, "/")
}

// borrowed is what a process reached for: another's process, or its socket.
func borrowed(e *event.Event) string {
	what := "reaching into"
	switch e.Call {
	case event.CallReceive:
		what = "taking a socket of"
	case event.CallLocal:
		what = "asking, over its unix socket,"
	default:
	}
	if e.Target == nil {
		return words(what, "another process")
	}
	return words(what, OriginName(e.Target.Origin), Escape(binaryOf(e.Target)), "pid", strconv.FormatUint(uint64(e.Target.PID), 10))
}

func verb(e *event.Event) string {
	switch e.Verdict {
	case event.VerdictNone:
		return "saw"
	case event.VerdictAllow:
		return "allowed"
	case event.VerdictAudit:
		return "audited"
	case event.VerdictDeny:
		return "denied"
	case event.VerdictDrop:
		return "dropped"
	case event.VerdictReset:
		return "reset"
	case event.VerdictKill:
		return "killed on"
	}
	return "judged"
}

func why(r *Record) string {
	switch r.Event.Reason {
	case event.ReasonNone:
		return ""
	case event.ReasonRule:
		return ruleOf(r)
	case event.ReasonDefault:
		return "no rule allows it, default of " + ruleOf(r)
	case event.ReasonUngoverned:
		return "no rule selects the process"
	case event.ReasonLoopback:
		return "the pod's own loopback"
	case event.ReasonUnknown:
		return "the workload is not known yet"
	case event.ReasonForeign:
		return "no judged flow"
	case event.ReasonMalformed:
		return "malformed address, packet or request"
	case event.ReasonMPTCP:
		return "MPTCP is refused to governed processes"
	case event.ReasonBorrow:
		if r.Event.Call == event.CallLocal {
			return "another's label may reach what its own may not"
		}
		return "nobody acts under another's label"
	case event.ReasonProtected:
		return "the agent, and what it has put into the kernel, is not for governed containers"
	case event.ReasonFronted:
		return "another site is asked for than the connection was made for"
	case event.ReasonDNSStream:
		return "this DNS cannot be read, and " + ruleOf(r) + " allows no other"
	case event.ReasonUnasked:
		return "it answers no query"
	case event.ReasonAmbiguous:
		return FlawName(r.Event.Flaw)
	case event.ReasonOpaque:
		if r.Event.Flaw == event.FlawNone {
			return ruleOf(r) + " allows requests only, and nobody can read them here"
		}
		return FlawName(r.Event.Flaw)
	case event.ReasonNamesFull:
		return "the container has been told more addresses than are remembered for it"
	}
	return "reason " + ReasonName(r.Event.Reason)
}

// ruleOf names the deciding rule, by its reference where the name is not known (any more).
func ruleOf(r *Record) string {
	switch {
	case r.Rule != "":
		return "rule " + Escape(r.Rule)
	case r.Event.Rule != 0:
		return "rule #" + strconv.FormatUint(r.Event.Rule, 16)
	}
	return "a rule"
}

func who(r *Record) string {
	if !hasSubject(r) {
		return ""
	}
	binary := r.Binary()
	if binary == "" {
		binary = r.Event.Subject.Comm
	}
	if binary == "" {
		binary = "pid " + strconv.FormatUint(uint64(r.Event.Subject.PID), 10)
	}
	return OriginName(r.Event.Subject.Origin) + " " + Escape(binary)
}

// where names the workload, or the cgroup as long as nobody has told its name.
func (r *Record) where() string {
	switch {
	case r.Workload != "" && r.Container != "":
		return "in " + Escape(r.Workload) + " (container " + Escape(r.Container) + ")"
	case r.Workload != "":
		return "in " + Escape(r.Workload)
	case r.Event.Subject.Container != 0:
		return "in cgroup " + strconv.FormatUint(r.Event.Subject.Container, 10)
	}
	return ""
}

func sessionOf(r *Record) string {
	if r.ExecID == "" {
		return Escape(r.SessionID)
	}
	return words(Escape(r.SessionID), "("+Escape(r.ExecID)+")")
}

func argsOf(r *Record) string {
	if len(r.Event.Args) == 0 {
		return Escape(r.Binary())
	}
	return joinArgs(r.Event.Args)
}

func ending(e *event.Event) string {
	if e.Signal != 0 {
		return "signal " + strconv.FormatUint(uint64(e.Signal), 10)
	}
	return "code " + strconv.FormatInt(int64(e.ExitCode), 10)
}

func arrow(r *Record) string {
	switch local, peer := r.Local(), r.Peer(); {
	case local == "":
		return peer
	case peer == "":
		return local
	case r.Event.Call == event.CallPacketIn:
		return peer + " → " + local
	default:
		return local + " → " + peer + named(r)
	}
}

// named is the peer's name behind its address.
func named(r *Record) string {
	if r.PeerName == "" {
		return ""
	}
	return " (" + Escape(r.PeerName) + ")"
}

// words joins the parts that are not empty. A preposition whose object is missing goes with it.
func words(parts ...string) string {
	var b strings.Builder
	for i, part := range parts {
		dangling := (part == "by" || part == "of" || part == "as") && i+1 < len(parts) && parts[i+1] == ""
		if part == "" || dangling {
			continue
		}
		if b.Len() > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(part)
	}
	return b.String()
}
