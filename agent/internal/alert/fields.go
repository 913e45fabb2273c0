package alert

import (
	"strconv"
	"time"

	"github.com/sallyport/sallyport/probes/event"
)

// Value is the value of one field: a text that is already escaped, or a number or boolean.
type Value struct {
	text   string
	quoted bool
	object string // as JSON, where it is a map
}

// Text is the value as text, escaped as Escape does; numbers in decimal, booleans as true.
func (v Value) Text() string { return v.text }

// IsText reports whether the value is text rather than a number or boolean.
func (v Value) IsText() bool { return v.quoted }

// field is one row of the table: a name and how to read it.
type field struct {
	name string
	read func(*Record) Value
}

// table returns every field of a Record but its time, in the order in which the outputs write
// them: what matters most first, since a bounded output cuts at the end. The names are JSON keys
// and syslog SD-NAMEs alike. 64-bit ids are text, because JSON numbers lose digits.
func table() []field {
	return []field{
		{"kind", func(r *Record) Value { return name(KindName(r.Event.Kind)) }},
		{"severity", func(r *Record) Value { return name(SeverityName(r.Severity())) }},
		{"workload", func(r *Record) Value { return text(r.Workload) }},
		{"container", func(r *Record) Value { return text(r.Container) }},
		{"origin", func(r *Record) Value { return name(r.Origin()) }},
		{"session", func(r *Record) Value { return text(r.SessionID) }},
		{"execID", func(r *Record) Value { return text(r.ExecID) }},
		{"terminal", func(r *Record) Value { return flag(r.Terminal) }},
		{"user", func(r *Record) Value { return text(r.User) }},
		{"binary", func(r *Record) Value { return text(r.Binary()) }},
		{"call", func(r *Record) Value { return name(CallName(r.Event.Call)) }},
		{"peer", func(r *Record) Value { return name(r.Peer()) }},
		{"peerName", func(r *Record) Value { return text(r.PeerName) }},
		{"targetOrigin", ofTarget(func(s *event.Subject) Value { return name(OriginName(s.Origin)) })},
		{"targetBinary", ofTarget(func(s *event.Subject) Value { return text(binaryOf(s)) })},
		{"targetPID", ofTarget(func(s *event.Subject) Value { return count(s.PID) })},
		{"targetCgroup", ofTarget(func(s *event.Subject) Value { return id(s.Container) })},
		{"rule", func(r *Record) Value { return text(r.Rule) }},
		{"verdict", func(r *Record) Value { return name(VerdictName(r.Event.Verdict)) }},
		{"would", func(r *Record) Value { return name(VerdictName(r.Event.Would)) }},
		{"reason", func(r *Record) Value { return name(ReasonName(r.Event.Reason)) }},
		{"lost", func(r *Record) Value { return count(r.Event.Lost) }},
		{"site", func(r *Record) Value { return text(r.Event.Site) }},
		{"pid", func(r *Record) Value { return count(r.Event.Subject.PID) }},
		{"tid", func(r *Record) Value { return count(r.Event.Subject.TID) }},
		{"uid", uidField},
		{"step", func(r *Record) Value { return name(StepName(r.Event.Step)) }},
		{"local", func(r *Record) Value { return name(r.Local()) }},
		{"family", func(r *Record) Value { return name(FamilyName(r.Event.Family)) }},
		{"type", func(r *Record) Value { return name(TypeName(r.Event.Type)) }},
		{"protocol", protocolField},
		{"namespace", func(r *Record) Value { return text(r.Namespace) }},
		{"pod", func(r *Record) Value { return text(r.Pod) }},
		{"containerID", func(r *Record) Value { return text(r.ContainerID) }},
		{"policy", func(r *Record) Value { return text(r.Policy) }},
		{"revision", func(r *Record) Value { return count(r.Event.Revision) }},
		{"ruleRef", ruleRefField},
		{"comm", func(r *Record) Value { return text(r.Event.Subject.Comm) }},
		{"inferred", func(r *Record) Value { return flag(r.Event.Subject.Inferred) }},
		{"binaryCut", func(r *Record) Value { return flag(r.Event.Subject.Truncated) }},
		{"drifted", func(r *Record) Value { return flag(r.Event.Subject.Drifted) }},
		{"exec", func(r *Record) Value { return id(r.Event.Subject.Exec) }},
		{"cgroup", func(r *Record) Value { return id(r.Event.Subject.Container) }},
		{"netns", func(r *Record) Value { return id(r.Event.NetNS) }},
		{"ifindex", func(r *Record) Value { return count(r.Event.Ifindex) }},
		{"exitCode", exitCodeField},
		{"signal", func(r *Record) Value { return count(r.Event.Signal) }},
		{"packets", func(r *Record) Value { return count(r.Event.Packets) }},
		{"bytes", func(r *Record) Value { return count(r.Event.Bytes) }},
		{"query", func(r *Record) Value { return text(r.Event.Query) }},
		{"queryType", func(r *Record) Value { return count(uint32(r.Event.QType)) }},
		{"answer", func(r *Record) Value { return flag(r.Event.Answer) }},
		{"rcode", func(r *Record) Value { return count(uint32(r.Event.RCode)) }},
		{"told", func(r *Record) Value { return count(r.Event.Told) }},
		{"method", func(r *Record) Value { return text(r.Event.Method) }},
		{"host", func(r *Record) Value { return hostOf(r, event.KindRequest, event.KindResponse) }},
		{"serverName", func(r *Record) Value { return hostOf(r, event.KindHello) }},
		{"alpn", func(r *Record) Value { return name(ALPNName(r.Event.ALPN)) }},
		{"encryptedHello", func(r *Record) Value { return flag(r.Event.Encrypted) }},
		{"flaw", flawField},
		{"urlQuery", func(r *Record) Value { return text(r.Event.URLQuery) }},
		{"headers", headersField},
		{"cut", func(r *Record) Value { return name(cutDetails(&r.Event)) }},
		{"ktls", func(r *Record) Value { return name(KTLSPartName(r.Event.KTLS.Part)) }},
		{"tlsVersion", func(r *Record) Value { return name(TLSVersionName(r.Event.KTLS.Version)) }},
		{"cipher", func(r *Record) Value { return name(CipherName(r.Event.KTLS.Cipher)) }},
		{"tapped", func(r *Record) Value { return flag(r.Event.KTLS.Tapped) }},
		{"status", func(r *Record) Value { return count(uint32(r.Event.Status)) }},
		{"latencyNS", func(r *Record) Value { return count(uint64(r.Event.Latency)) }},
		{"removed", func(r *Record) Value { return flag(r.Event.Removed) }},
		{"path", func(r *Record) Value { return text(r.Event.Path) }},
		{"interpreter", interpreterField},
		{"image", func(r *Record) Value { return text(r.Image) }},
		{"containerType", func(r *Record) Value { return text(r.ContainerType) }},
		{"podLabels", func(r *Record) Value { return text(r.PodLabels) }},
		{"args", func(r *Record) Value { return name(joinArgs(r.Event.Args)) }},
	}
}

// Fields reads records by the table of names. The zero Fields is not usable; make one with
// NewFields and share it, it does not change.
type Fields struct{ rows []field }

// NewFields returns the table.
func NewFields() Fields { return Fields{rows: table()} }

// Names returns the names of all fields in order.
func (f Fields) Names() []string {
	names := make([]string, 0, len(f.rows))
	for _, row := range f.rows {
		names = append(names, row.name)
	}
	return names
}

// Each calls visit for every field that the record has, in order. Absent are empty texts, zero
// counts and false flags, except where zero says something (the uid of a process, an exit code).
func (f Fields) Each(r *Record, visit func(name string, v Value)) {
	for _, row := range f.rows {
		if v := row.read(r); v.text != "" {
			visit(row.name, v)
		}
	}
}

// AppendJSON appends the record as one JSON object without a newline: the time (RFC 3339 with
// nanoseconds, UTC), the fields in order, and the message. Text is escaped by Escape first, so the
// object is printable, valid UTF-8 and keeps every byte.
func (f Fields) AppendJSON(dst []byte, r *Record) []byte {
	dst = append(dst, `{"time":"`...)
	dst = AppendTime(dst, r.Event.Time, time.RFC3339Nano)
	dst = append(dst, '"')
	f.Each(r, func(name string, v Value) {
		dst = append(dst, ',', '"')
		dst = append(dst, name...)
		dst = append(dst, '"', ':')
		switch {
		case v.object != "":
			dst = append(dst, v.object...)
		case v.quoted:
			dst = appendString(dst, v.text)
		default:
			dst = append(dst, v.text...)
		}
	})
	dst = append(dst, `,"message":`...)
	dst = appendString(dst, r.Message())
	return append(dst, '}')
}

// AppendTime appends t in UTC in the given layout. A time that RFC 3339 cannot write (before year 0
// or after 9999) is written as the zero time, so that one bad clock does not break a line.
func AppendTime(dst []byte, t time.Time, layout string) []byte {
	t = t.UTC()
	if year := t.Year(); year < 0 || year > 9999 {
		t = time.Time{}
	}
	return t.AppendFormat(dst, layout)
}

// appendString quotes a text for JSON. Escaped text has no controls and is UTF-8, which leaves the
// quote and the backslash.
func appendString(dst []byte, s string) []byte {
	dst = append(dst, '"')
	for i := range len(s) {
		if c := s[i]; c == '"' || c == '\\' {
			dst = append(dst, '\\')
		}
		dst = append(dst, s[i])
	}
	return append(dst, '"')
}

func uidField(r *Record) Value {
	if !hasSubject(r) {
		return Value{}
	}
	return Value{text: strconv.FormatUint(uint64(r.Event.Subject.UID), 10)}
}

func protocolField(r *Record) Value {
	if protocol := protocolOf(&r.Event); protocol != 0 {
		return name(ProtocolName(protocol))
	}
	return Value{}
}

func ruleRefField(r *Record) Value {
	if r.Event.Rule == 0 {
		return Value{}
	}
	return name(strconv.FormatUint(r.Event.Rule, 16))
}

// ofTarget reads a field of the process that another one reached for.
func ofTarget(read func(*event.Subject) Value) func(*Record) Value {
	return func(r *Record) Value {
		if r.Event.Target == nil {
			return Value{}
		}
		return read(r.Event.Target)
	}
}

func exitCodeField(r *Record) Value {
	if r.Event.Kind != event.KindExit {
		return Value{}
	}
	return Value{text: strconv.FormatInt(int64(r.Event.ExitCode), 10)}
}

// interpreterField is the executable behind a script; binary names the script.
func interpreterField(r *Record) Value {
	if r.Event.Subject.Script == "" {
		return Value{}
	}
	return text(r.Event.Subject.Exe)
}

// hasSubject reports whether the event is about a process.
func hasSubject(r *Record) bool {
	s := &r.Event.Subject
	return s.PID != 0 || s.Exec != 0 || s.Exe != ""
}

// name is text of our own making, which needs no escaping.
func name(s string) Value { return Value{text: s, quoted: true} }

// text is text from outside.
func text(s string) Value { return Value{text: Escape(s), quoted: true} }

func count[T ~uint32 | ~uint64](n T) Value {
	if n == 0 {
		return Value{}
	}
	return Value{text: strconv.FormatUint(uint64(n), 10)}
}

// id is a 64-bit number that only names something.
func id(n uint64) Value {
	if n == 0 {
		return Value{}
	}
	return Value{text: strconv.FormatUint(n, 10), quoted: true}
}

func flag(set bool) Value {
	if !set {
		return Value{}
	}
	return Value{text: "true"}
}
