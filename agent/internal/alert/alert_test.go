package alert

import (
	"encoding/json"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/probes/event"
)

// denied is a denied connect from a shell that somebody exec'd into a pod.
func denied() *Record {
	return &Record{
		Event: event.Event{
			Time: time.Date(2026, 11, 20, 19, 13, 28, 123456789, time.UTC),
			Kind: event.KindConnect,
			Call: event.CallConnect,
			Subject: event.Subject{
				Container: 4711, Session: 0x2a, Exec: 77, PID: 1234, TID: 1235, Origin: event.OriginExec,
				Exe: "/bin/sh", Comm: "sh",
			},
			Step: event.StepLSM, Family: unix.AF_INET, Type: unix.SOCK_STREAM | unix.SOCK_NONBLOCK, Protocol: unix.IPPROTO_TCP,
			Remote:  netip.MustParseAddrPort("10.0.0.5:443"),
			Verdict: event.VerdictDeny, Reason: event.ReasonRule, Severity: event.SeverityCritical,
			Rule: 0xabc, Revision: 3,
		},
		Workload: "shop/checkout-7d", Namespace: "shop", Pod: "checkout-7d", Container: "app", ContainerID: "c0ffee",
		Image: "registry.example/checkout:1", SessionID: FormatSession(0x2a), ExecID: "exec-1",
		Policy: "shop/checkout", Rule: "shop/checkout/shells-stay-inside",
	}
}

func TestMessage(t *testing.T) {
	t.Parallel()
	edit := func(change func(*Record)) *Record {
		r := denied()
		change(r)
		return r
	}
	tests := []struct {
		name   string
		record *Record
		want   string
	}{
		{"denied connect", denied(), "denied connect 10.0.0.5:443/TCP by Exec /bin/sh in shop/checkout-7d (container app): rule shop/checkout/shells-stay-inside"},
		{"audit names what would be", edit(func(r *Record) { r.Event.Verdict, r.Event.Would = event.VerdictAudit, event.VerdictReset }), "audited connect 10.0.0.5:443/TCP by Exec /bin/sh in shop/checkout-7d (container app), would get Reset: rule shop/checkout/shells-stay-inside"},
		{"default deny", edit(func(r *Record) { r.Event.Reason = event.ReasonDefault }), "denied connect 10.0.0.5:443/TCP by Exec /bin/sh in shop/checkout-7d (container app): no rule allows it, default of rule shop/checkout/shells-stay-inside"},
		{"nobody reads requests", edit(func(r *Record) { r.Event.Reason = event.ReasonOpaque }), "denied connect 10.0.0.5:443/TCP by Exec /bin/sh in shop/checkout-7d (container app): rule shop/checkout/shells-stay-inside allows requests only, and nobody can read them here"},
		{"no names yet", edit(func(r *Record) { *r = Record{Event: r.Event} }), "denied connect 10.0.0.5:443/TCP by Exec /bin/sh in cgroup 4711: rule #abc"},
		{"a peer by its name", edit(func(r *Record) { r.PeerName = "pay\x1b.example" }), `denied connect 10.0.0.5:443/TCP (pay\x1b.example) by Exec /bin/sh in shop/checkout-7d (container app): rule shop/checkout/shells-stay-inside`},
		{"raw socket", edit(func(r *Record) {
			r.Event.Kind, r.Event.Call = event.KindSocket, event.CallSocket
			r.Event.Type, r.Event.Protocol, r.Event.Remote = unix.SOCK_RAW, unix.IPPROTO_ICMP, netip.AddrPort{}
		}), "denied socket inet/raw/ICMP by Exec /bin/sh in shop/checkout-7d (container app): rule shop/checkout/shells-stay-inside"},
		{"listen names this end", edit(func(r *Record) {
			r.Event.Kind, r.Event.Call = event.KindListen, event.CallBind
			r.Event.Local, r.Event.Remote = netip.MustParseAddrPort("[::]:80"), netip.AddrPort{}
		}), "denied bind [::]:80/TCP by Exec /bin/sh in shop/checkout-7d (container app): rule shop/checkout/shells-stay-inside"},
		{"script, hostile", edit(func(r *Record) { r.Event.Subject.Script = "/tmp/a\n<0>1 \x1b[31m\xff\u202e" }), `denied connect 10.0.0.5:443/TCP by Exec /tmp/a\n<0>1 \x1b[31m\xff\u202e in shop/checkout-7d (container app): rule shop/checkout/shells-stay-inside`},
		{"foreign", edit(func(r *Record) {
			r.Event.Kind, r.Event.Call, r.Event.Subject = event.KindForeign, event.CallPacketOut, event.Subject{}
			r.Event.Local = netip.MustParseAddrPort("10.1.1.1:0")
			r.Event.Protocol = unix.IPPROTO_ICMP
		}), "dropped packet-out 10.1.1.1/ICMP → 10.0.0.5/ICMP in shop/checkout-7d (container app): it belongs to no judged flow"},
		{"exec", edit(func(r *Record) {
			r.Event.Kind, r.Event.Verdict = event.KindExec, event.VerdictNone
			r.Event.Args = []string{"sh", "-c", "echo a b", ""}
		}), `executed sh -c "echo a b" "" as Exec /bin/sh in shop/checkout-7d (container app)`},
		{"drifted", edit(func(r *Record) {
			r.Event.Kind, r.Event.Verdict, r.Event.Subject.Drifted = event.KindExec, event.VerdictNone, true
			r.Event.Args = []string{"sh"}
		}), "executed sh as Exec /bin/sh in shop/checkout-7d (container app): the file is not of the container's image"},
		{"exit", edit(func(r *Record) { r.Event.Kind, r.Event.Signal = event.KindExit, 9 }), "ended Exec /bin/sh in shop/checkout-7d (container app): signal 9"},
		{"session", edit(func(r *Record) { r.Event.Kind = event.KindSessionStart }), "session 2a (exec-1) started by Exec /bin/sh in shop/checkout-7d (container app)"},
		{"query", &Record{Event: event.Event{
			Kind: event.KindDNS, Verdict: event.VerdictDeny, Reason: event.ReasonRule, Rule: 10, Query: "a\n\"\xff.bad.example", Protocol: 17,
			Remote: netip.MustParseAddrPort("10.0.0.10:53"), Subject: event.Subject{Exe: "/bin/a"},
		}}, `denied DNS query for a\n"\xff.bad.example to 10.0.0.10:53/UDP of Unknown /bin/a: rule #a`},
		{"answer", &Record{Event: event.Event{
			Kind: event.KindDNS, Verdict: event.VerdictAllow, Answer: true, Query: "a.example", Told: 2, Subject: event.Subject{Exe: "/bin/a", Origin: event.OriginMain},
		}}, "allowed DNS answer for a.example of Main /bin/a: 2 addresses"},
		{"stale", &Record{Event: event.Event{Kind: event.KindStale, Removed: true, Site: "pods: refused\n"}}, `the cluster's API cannot be heard; what is known of it stays in force: pods: refused\n`},
		{"heard again", &Record{Event: event.Event{Kind: event.KindStale}}, "the cluster's API is heard again"},
		{
			"tunnel", &Record{Event: event.Event{Kind: event.KindTunnel, Query: "ev\nil.example", Told: 100, Subject: event.Subject{Exe: "/bin/dig", Origin: event.OriginExec}}},
			`DNS tunnel: Exec /bin/dig has asked for 100 names below ev\nil.example that look like data`,
		},
		{"hello", &Record{Event: event.Event{Kind: event.KindHello, Host: "pay\n.example", Verdict: event.VerdictDeny, Reason: event.ReasonDefault, Remote: netip.MustParseAddrPort("192.0.2.1:443")}}, `denied TLS for pay\n.example to 192.0.2.1:443: no rule allows it, default of a rule`},
		{"response", &Record{Event: event.Event{Kind: event.KindResponse, Method: "GET", Host: "a\n.example", Path: "/x", Status: 404, Latency: 1500 * time.Microsecond, Remote: netip.MustParseAddrPort("192.0.2.1:80")}}, `status 404 after 1.5ms for request GET a\n.example/x to 192.0.2.1:80`},
		{"hello without a name", &Record{Event: event.Event{Kind: event.KindHello, Verdict: event.VerdictDeny, Reason: event.ReasonAmbiguous, Flaw: event.FlawHello, Remote: netip.MustParseAddrPort("192.0.2.1:443")}}, "denied TLS for no name to 192.0.2.1:443: its ClientHello cannot be read, or asks for a name in two ways"},
		{"ktls", &Record{Event: event.Event{
			Kind: event.KindKTLS, KTLS: event.KTLS{Part: event.KTLSSend, Version: 0x304, Cipher: 51}, Protocol: 6, Remote: netip.MustParseAddrPort("192.0.2.1:443"),
			Subject: event.Subject{Exe: "/bin/ngi\nnx", Origin: event.OriginMain},
		}}, `saw sending by the kernel with TLS 1.3 AES-GCM-128 to 192.0.2.1:443/TCP of Main /bin/ngi\nnx`},
		{"ktls that is refused", &Record{Event: event.Event{
			Kind: event.KindKTLS, KTLS: event.KTLS{Part: event.KTLSULP}, Verdict: event.VerdictDeny, Reason: event.ReasonOpaque, Subject: event.Subject{Exe: "/bin/a"},
		}}, `denied encryption by the kernel of Unknown /bin/a: rules allow requests only, and nobody could read them`},
		{"ktls that a library is refused", &Record{Event: event.Event{
			Kind: event.KindKTLS, KTLS: event.KTLS{Part: event.KTLSULP, Tapped: true}, Verdict: event.VerdictDeny, Reason: event.ReasonOpaque, Subject: event.Subject{Exe: "/bin/a"},
		}}, `denied encryption by the kernel of Unknown /bin/a: rules allow requests only, which are read in the library, so that it encrypts by itself`},
		{"tamper", &Record{Event: event.Event{Kind: event.KindTamper, Site: "pin controls"}}, "somebody has tampered with what enforces; it was put back: pin controls"},
		{"tamper for good", &Record{Event: event.Event{Kind: event.KindTamper, Removed: true, Site: "pin a: no\n"}}, `somebody has tampered with what enforces, and it could not be put back: pin a: no\n`},
		{"bpf", &Record{Event: event.Event{
			Kind: event.KindTamper, Call: event.CallBPF, Site: "BPF_OBJ_GET", Verdict: event.VerdictDeny, Reason: event.ReasonProtected,
			Subject: event.Subject{Exe: "/bin/bpf\ntool", Origin: event.OriginMain},
		}}, `denied call of bpf BPF_OBJ_GET by Main /bin/bpf\ntool: the agent, and what it has put into the kernel, is not for governed containers`},
		{"signal", &Record{Event: event.Event{
			Kind: event.KindTamper, Call: event.CallSignal, Signal: 9, Verdict: event.VerdictAudit, Would: event.VerdictDeny, Reason: event.ReasonProtected,
		}}, `audited signal 9 to the agent by somebody, would get Deny: the agent, and what it has put into the kernel, is not for governed containers`},
		{"lost", &Record{Event: event.Event{Kind: event.KindLost, Lost: 12, Site: "alerts"}}, "lost 12 records at alerts"},
		{"relay", &Record{Event: event.Event{
			Kind: event.KindBorrow, Call: event.CallLocal, Verdict: event.VerdictAudit, Reason: event.ReasonBorrow,
			Subject: event.Subject{Exe: "/bin/sh", Origin: event.OriginExec}, Target: &event.Subject{Exe: "/srv/a\n", Origin: event.OriginMain, PID: 7},
		}}, `audited asking, over its unix socket, Main /srv/a\n pid 7 by Exec /bin/sh: another's label may reach what its own may not`},
		{"borrow", &Record{Event: event.Event{
			Kind: event.KindBorrow, Call: event.CallTrace, Verdict: event.VerdictDeny, Reason: event.ReasonBorrow,
			Subject: event.Subject{Exe: "/bin/gdb", Origin: event.OriginExec}, Target: &event.Subject{Exe: "/srv/a\npp", Origin: event.OriginMain, PID: 7},
		}}, `denied reaching into Main /srv/a\npp pid 7 by Exec /bin/gdb: nobody acts under another's label`},
		{
			"a late container is admitted", &Record{Event: event.Event{Kind: event.KindLate, Verdict: event.VerdictAllow}, Workload: "shop/web", Container: "app"},
			"admitted the start in shop/web (container app), whose policies were not in force in time",
		},
		{
			"a late container is refused", &Record{Event: event.Event{Kind: event.KindLate, Verdict: event.VerdictDeny}, Workload: "shop/web", Container: "app"},
			"refused the start in shop/web (container app): its policies were not in force in time",
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(test.want, test.record.Message()); diff != "" {
				t.Errorf("message (-want +got):\n%s", diff)
			}
		})
	}
}

func TestAppendJSON(t *testing.T) {
	t.Parallel()
	got := string(NewFields().AppendJSON(nil, denied()))
	want := `{"time":"2026-11-20T19:13:28.123456789Z","kind":"connect","severity":"critical","workload":"shop/checkout-7d",` +
		`"container":"app","origin":"Exec","session":"2a","execID":"exec-1","binary":"/bin/sh","call":"connect",` +
		`"peer":"10.0.0.5:443/TCP","rule":"shop/checkout/shells-stay-inside","verdict":"Deny","reason":"rule","pid":1234,` +
		`"tid":1235,"uid":0,"step":"lsm","family":"inet","type":"stream","protocol":"TCP","namespace":"shop",` +
		`"pod":"checkout-7d","containerID":"c0ffee","policy":"shop/checkout","revision":3,"ruleRef":"abc","comm":"sh",` +
		`"exec":"77","cgroup":"4711","image":"registry.example/checkout:1",` +
		`"message":"denied connect 10.0.0.5:443/TCP by Exec /bin/sh in shop/checkout-7d (container app): rule shop/checkout/shells-stay-inside"}`
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("JSON (-want +got):\n%s", diff)
	}
}

// What a request says of itself is hostile: no output has more of it than its text, and none can be taken for something else.
func TestDetailsAreEscaped(t *testing.T) {
	t.Parallel()
	const hostile = "a\x1b[2J\r\n\xff\u202e\"]\\ x=\"y"
	r := &Record{Event: event.Event{
		Kind: event.KindRequest, Verdict: event.VerdictAllow, Method: "GET", Host: "h", Path: "/p", URLQuery: hostile, URLQueryCut: true,
		Headers: []event.Header{
			{Name: "x-request-id", Value: hostile, There: true},
			{Name: "x-a", There: true},
			{Name: "user-agent", Cut: true},
		},
	}}
	line := string(NewFields().AppendJSON(nil, r))
	var got struct {
		URLQuery string            `json:"urlQuery"`
		Headers  map[string]string `json:"headers"`
		Cut      string            `json:"cut"`
		Message  string            `json:"message"`
	}
	if err := json.Unmarshal([]byte(line), &got); err != nil || !utf8.ValidString(line) || strings.ContainsAny(line, "\x1b\r\n\u202e") {
		t.Fatalf("%q: %v", line, err)
	}
	if unescape(t, got.URLQuery) != hostile || len(got.Headers) != 2 || unescape(t, got.Headers["x-request-id"]) != hostile || got.Cut != "urlQuery,user-agent" {
		t.Errorf("%q", line)
	}
	const escaped = `a\x1b[2J\r\n\xff\u202e`
	if want := `request GET h/p?` + escaped + `"]\\ x="y`; !strings.Contains(got.Message, want) {
		t.Errorf("%q does not have %q", got.Message, want)
	}
	if want := `, with x-request-id="` + escaped + `\"]\\ x=\"y" x-a=""`; !strings.Contains(got.Message, want) {
		t.Errorf("%q does not have %q", got.Message, want)
	}
}

func TestFieldNamesFitEveryOutput(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{"time": true, "message": true, "omitted": true}
	for _, name := range NewFields().Names() {
		if seen[name] {
			t.Errorf("field %q twice", name)
		}
		seen[name] = true
		if len(name) > 32 || strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune(`="]\`, r) }) {
			t.Errorf("field %q is no SD-NAME", name)
		}
	}
}

func TestSeverityAndImportance(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name      string
		event     event.Event
		severity  event.Severity
		important bool
	}{
		{"critical denial", event.Event{Kind: event.KindConnect, Verdict: event.VerdictDeny, Severity: event.SeverityCritical}, event.SeverityCritical, true},
		{"quiet denial", event.Event{Kind: event.KindConnect, Verdict: event.VerdictDrop}, event.SeverityInfo, true},
		{"audit", event.Event{Kind: event.KindConnect, Verdict: event.VerdictAudit, Severity: event.SeverityWarning}, event.SeverityWarning, true},
		{"allowed", event.Event{Kind: event.KindConnect, Verdict: event.VerdictAllow, Severity: event.SeverityCritical}, event.SeverityInfo, false},
		{"exec", event.Event{Kind: event.KindExec}, event.SeverityInfo, false},
		{"session's own program", event.Event{Kind: event.KindExec, Subject: event.Subject{Origin: event.OriginExec, Drifted: true}}, event.SeverityInfo, false},
		{"Main's, which the image lacks", event.Event{Kind: event.KindExec, Subject: event.Subject{Origin: event.OriginMain, Drifted: true}}, event.SeverityCritical, true},
		{"lost", event.Event{Kind: event.KindLost}, event.SeverityWarning, true},
		{"late", event.Event{Kind: event.KindLate, Verdict: event.VerdictAllow}, event.SeverityWarning, true},
		{"stale", event.Event{Kind: event.KindStale, Removed: true}, event.SeverityWarning, true},
		{"tamper", event.Event{Kind: event.KindTamper}, event.SeverityCritical, true},
		{"heard again", event.Event{Kind: event.KindStale}, event.SeverityInfo, true},
		{"foreign", event.Event{Kind: event.KindForeign, Severity: event.SeverityCritical}, event.SeverityCritical, true},
		{"beyond the table", event.Event{Kind: 99, Verdict: 99, Severity: 99}, event.SeverityCritical, true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			r := &Record{Event: test.event}
			if got := r.Severity(); got != test.severity {
				t.Errorf("severity %s, want %s", SeverityName(got), SeverityName(test.severity))
			}
			if got := r.Important(); got != test.important {
				t.Errorf("important %t, want %t", got, test.important)
			}
		})
	}
}

func TestNamesAreDistinct(t *testing.T) {
	t.Parallel()
	distinct := func(what string, count int, name func(uint8) string) {
		seen := map[string]int{}
		for i := range 256 {
			n := name(uint8(i))
			if before, twice := seen[n]; twice {
				t.Errorf("%s %d and %d are both %q", what, before, i, n)
			}
			seen[n] = i
			if _, err := strconv.Atoi(n); (err == nil) != (i >= count) {
				t.Errorf("%s %d is called %q", what, i, n)
			}
		}
	}
	distinct("verdict", int(event.VerdictKill)+1, func(i uint8) string { return VerdictName(event.Verdict(i)) })
	distinct("origin", int(event.OriginHost)+1, func(i uint8) string { return OriginName(event.Origin(i)) })
	distinct("reason", int(event.ReasonFronted)+1, func(i uint8) string { return ReasonName(event.Reason(i)) })
	distinct("call", int(event.CallLocal)+1, func(i uint8) string { return CallName(event.Call(i)) })
	distinct("step", int(event.StepTap)+1, func(i uint8) string { return StepName(event.Step(i)) })
	distinct("severity", int(event.SeverityCritical)+1, func(i uint8) string { return SeverityName(event.Severity(i)) })
	distinct("flaw", int(event.FlawHello), func(i uint8) string { return FlawName(event.Flaw(i + 1)) })
	distinct("part of kTLS", int(event.KTLSReceive)+1, func(i uint8) string { return KTLSPartName(event.KTLSPart(i)) })
	distinct("kind", int(event.KindTunnel), func(i uint8) string { return KindName(event.Kind(i + 1)) })
}

func TestCut(t *testing.T) {
	t.Parallel()
	size := func(s string) int { return len(s) }
	tests := []struct {
		text  string
		limit int
		want  string
	}{
		{"short", 5, "short"},
		{"longer text", 8, `long\...`},
		{`ab\x1bcd`, 8, `ab\x1bcd`},
		{`ab\x1bcde`, 8, `ab\...`},
		{`aé` + "日本語", 8, `aé\...`},
		{`\\\\\\\\\\`, 9, `\\\\\...`},
		{"abcdefgh", 3, ""},
	}
	for _, test := range tests {
		if got := Cut(test.text, test.limit, size); got != test.want {
			t.Errorf("Cut(%q, %d) = %q, want %q", test.text, test.limit, got, test.want)
		}
	}
}

func FuzzEscape(f *testing.F) {
	for _, seed := range []string{"/bin/sh", "a\\b", "\xff\x00\n\r\t\x1b", "日本\u202e\u2028\u00a0\U000e0001", `\xff`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		escaped := Escape(s)
		for _, r := range escaped {
			if !strconv.IsPrint(r) || (r == utf8.RuneError && !strings.ContainsRune(s, utf8.RuneError)) {
				t.Fatalf("Escape(%q) = %q has %U", s, escaped, r)
			}
		}
		if back := unescape(t, escaped); back != s {
			t.Fatalf("Escape(%q) = %q, back %q", s, escaped, back)
		}
		for limit := range 24 {
			if cut := Cut(escaped, limit, func(s string) int { return len(s) }); len(cut) > limit || !utf8.ValidString(cut) {
				t.Fatalf("Cut(%q, %d) = %q", escaped, limit, cut)
			}
		}
		r := denied()
		r.Event.Subject.Exe, r.Workload, r.Event.Args = s, s, []string{s, s}
		line := NewFields().AppendJSON(nil, r)
		var object map[string]any
		if err := json.Unmarshal(line, &object); err != nil || strings.ContainsAny(string(line), "\n\r\x00\x1b") {
			t.Fatalf("JSON line %q: %v", line, err)
		}
		if text, _ := object["binary"].(string); unescape(t, text) != s {
			t.Fatalf("binary of %q is %q", line, text)
		}
	})
}

func unescape(t *testing.T, s string) string {
	t.Helper()
	var out []byte
	for s != "" {
		r, multibyte, rest, err := strconv.UnquoteChar(s, 0)
		if err != nil {
			t.Fatalf("unescaping %q: %v", s, err)
		}
		if multibyte {
			out = utf8.AppendRune(out, r)
		} else {
			out = append(out, byte(r)) // a byte of its own, such as \xff
		}
		s = rest
	}
	return string(out)
}
