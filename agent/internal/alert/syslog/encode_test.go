package syslog

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	gosyslog "github.com/leodido/go-syslog/v4"
	"github.com/leodido/go-syslog/v4/octetcounting"
	"github.com/leodido/go-syslog/v4/rfc5424"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/agent/internal/alert"
	"github.com/sallyport/sallyport/probes/event"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func testConfig(t *testing.T, change func(*Config)) Config {
	t.Helper()
	cfg := Config{Hostname: "node-1", ProcID: "42"}
	if change != nil {
		change(&cfg)
	}
	cfg, err := cfg.complete()
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

// denied is a denied connect from an exec'd binary of the given path.
func denied(exe string) *alert.Record {
	return &alert.Record{
		Event: event.Event{
			Time: time.Date(2026, 11, 20, 19, 13, 28, 123456789, time.UTC),
			Kind: event.KindConnect, Call: event.CallConnect,
			Subject:  event.Subject{PID: 1234, Origin: event.OriginExec, Exe: exe},
			Protocol: unix.IPPROTO_TCP, Remote: netip.MustParseAddrPort("10.0.0.5:443"),
			Verdict: event.VerdictDeny, Reason: event.ReasonRule, Severity: event.SeverityCritical,
		},
		Workload: "shop/checkout-7d", Container: "app", SessionID: "2a", Rule: "shop/checkout/shells",
	}
}

func TestMessageIsWrittenAsRFC5424Says(t *testing.T) {
	t.Parallel()
	got := string(newEncoder(testConfig(t, nil)).append(nil, denied(`/tmp/a"b]c\d`+"\n<0>1 evil\x00\xff"), 7))
	want := `<26>1 2026-11-20T19:13:28.123456Z node-1 sallyport 42 connect ` +
		`[sallyport@32473 kind="connect" severity="critical" workload="shop/checkout-7d" container="app" origin="Exec" ` +
		`session="2a" binary="/tmp/a\"b\]c\\\\d\\n<0>1 evil\\x00\\xff" call="connect" peer="10.0.0.5:443/TCP" ` +
		`rule="shop/checkout/shells" verdict="Deny" reason="rule" pid="1234" uid="0" protocol="TCP"]` +
		`[meta sequenceId="7"] ` + "\ufeff" +
		`denied connect 10.0.0.5:443/TCP by Exec /tmp/a"b]c\\d\n<0>1 evil\x00\xff in shop/checkout-7d (container app): rule shop/checkout/shells`
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("message (-want +got):\n%s", diff)
	}
}

func TestPriority(t *testing.T) {
	t.Parallel()
	for severity, want := range map[event.Severity]string{
		event.SeverityInfo: "<166>", event.SeverityWarning: "<164>", event.SeverityCritical: "<162>",
	} {
		r := denied("/bin/sh")
		r.Event.Severity = severity
		encode := newEncoder(testConfig(t, func(c *Config) { c.Facility = 20 }))
		if got := string(encode.append(nil, r, 1)); !strings.HasPrefix(got, want) {
			t.Errorf("severity %s begins with %.5s, want %s", alert.SeverityName(severity), got, want)
		}
	}
}

func TestHeaderFieldsAreBounded(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t, func(c *Config) {
		c.Hostname, c.AppName, c.ProcID = strings.Repeat("h", 300), "a b\n]é"+strings.Repeat("x", 60), strings.Repeat("9", 200)
		c.EnterpriseID, c.MaxMessage = 4294967295, minMaxMessage
	})
	r := denied(strings.Repeat("/deep", 800))
	parsed, message := parse(t, newEncoder(cfg).append(nil, r, maxSequence))
	if len(message) > minMaxMessage {
		t.Errorf("%d bytes, want at most %d", len(message), minMaxMessage)
	}
	if len(*parsed.Hostname) != maxHostname || len(*parsed.ProcID) != maxProcID {
		t.Errorf("host name of %d and process id of %d bytes", len(*parsed.Hostname), len(*parsed.ProcID))
	}
	if want := "a_b_]__" + strings.Repeat("x", maxAppName-7); *parsed.Appname != want {
		t.Errorf("application name %q, want %q", *parsed.Appname, want)
	}
	if _, ok := (*parsed.StructuredData)["sallyport@4294967295"]["omitted"]; !ok {
		t.Errorf("nothing is said to be left out of %s", message)
	}
}

func TestLongValuesAreCutWithAMark(t *testing.T) {
	t.Parallel()
	r := denied("/" + strings.Repeat(`]`, 4095))
	parsed, message := parse(t, newEncoder(testConfig(t, nil)).append(nil, r, 1))
	params := (*parsed.StructuredData)["sallyport@32473"]
	binary, ok := strings.CutSuffix(params["binary"], `\...`)
	if !ok || len(binary) < 400 || strings.Trim(binary, "/]") != "" {
		t.Errorf("binary %q of %q", binary, message)
	}
	if params["verdict"] != "Deny" || params["rule"] != "shop/checkout/shells" {
		t.Errorf("the fields after it are %v", params)
	}
	if len(message) > defaultMaxMessage {
		t.Errorf("%d bytes", len(message))
	}
}

// parse reads a message with a parser that is not ours.
func parse(t *testing.T, message []byte) (*rfc5424.SyslogMessage, []byte) {
	t.Helper()
	parsed, err := rfc5424.NewParser(rfc5424.WithCompliantMsg()).Parse(message)
	if err != nil {
		t.Fatalf("parsing %q: %v", message, err)
	}
	got, ok := parsed.(*rfc5424.SyslogMessage)
	if !ok || !got.Valid() {
		t.Fatalf("parsing %q gave %T, valid %t", message, parsed, ok && got.Valid())
	}
	return got, message
}

// unescape takes alert.Escape off.
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
			out = append(out, byte(r))
		}
		s = rest
	}
	return string(out)
}

// recordFrom makes any record from fuzzed bytes: numbers from the front, texts given.
func recordFrom(numbers []byte, exe, script, names string, args []string) *alert.Record {
	next := func() uint64 {
		var word [8]byte
		numbers = numbers[copy(word[:], numbers):]
		return binary.LittleEndian.Uint64(word[:])
	}
	address := func() netip.AddrPort {
		var ip [16]byte
		binary.BigEndian.PutUint64(ip[:8], next())
		binary.BigEndian.PutUint64(ip[8:], next())
		return netip.AddrPortFrom(netip.AddrFrom16(ip).Unmap().WithZone(names), uint16(next()))
	}
	bits := next()
	e := event.Event{
		Kind: event.Kind(bits % 14), Verdict: event.Verdict(bits >> 8 % 9), Would: event.Verdict(bits >> 16 % 9),
		Reason: event.Reason(bits >> 24 % 11), Call: event.Call(bits >> 32 % 11), Step: event.Step(bits >> 40 % 7),
		Severity: event.Severity(bits >> 48 % 5), Removed: bits>>63 == 1,
		Time: time.Unix(int64(next()), int64(next()%1e9)), Remote: address(), Local: address(),
		Family: uint16(next()), Type: uint16(next()), Protocol: uint16(next()),
		Rule: next(), Revision: next(), NetNS: next(), Ifindex: uint32(next()), Packets: next(), Bytes: next(),
		Lost: next(), ExitCode: int32(next()), Signal: uint32(next()),
		Site: names, Path: exe, Args: args,
	}
	bits = next()
	e.Subject = event.Subject{
		Container: next(), Session: next(), Exec: next(), PID: uint32(next()), UID: uint32(bits),
		Origin: event.Origin(bits >> 32 % 7), Inferred: bits>>62&1 == 1, Truncated: bits>>63 == 1,
		Exe: exe, Script: script, Comm: names,
	}
	return &alert.Record{
		Event: e, Workload: names, Namespace: names, Pod: names, Container: names, ContainerID: names, Image: names,
		SessionID: alert.FormatSession(e.Subject.Session), ExecID: names, Policy: names, Rule: names,
	}
}

func FuzzMessage(f *testing.F) {
	f.Add([]byte(nil), "/bin/sh", "", "shop/app", "sh", 8192, uint32(1))
	f.Add([]byte{1, 3, 4, 1, 1, 1}, `/a\b]"c`, `\x00`, "n\\\xff]", `"`, 8192, uint32(1))
	f.Add(bytes.Repeat([]byte{0xff}, 400), "a\"]\\\n\r\x00\xff\u2028", "\ufeff", "] [x y=\"z\"", "a b", 1024, uint32(99))
	f.Add(bytes.Repeat([]byte{5, 1, 4}, 99), strings.Repeat("]", 5000), strings.Repeat("\xf0", 5000), strings.Repeat("日", 99), "", 2048, uint32(0))
	f.Fuzz(func(t *testing.T, numbers []byte, exe, script, names, arg string, limit int, enterprise uint32) {
		cfg, err := Config{Hostname: names, AppName: exe, ProcID: script, MaxMessage: limit, EnterpriseID: enterprise}.complete()
		if err != nil {
			if limit >= minMaxMessage && limit <= maxMaxMessage {
				t.Fatal(err)
			}
			return
		}
		r := recordFrom(numbers, exe, script, names, []string{arg, exe})
		encode := newEncoder(cfg)
		parsed, message := parse(t, encode.append(nil, r, 7))
		if len(message) > cfg.MaxMessage {
			t.Fatalf("%d bytes of at most %d", len(message), cfg.MaxMessage)
		}
		if bytes.ContainsAny(message, "\n\r\x00\x1b") || !utf8.Valid(message) {
			t.Fatalf("message %q is not one printable line", message)
		}
		checkPriority(t, parsed, cfg, r)
		checkFields(t, (*parsed.StructuredData)["sallyport@"+strconv.FormatUint(uint64(cfg.EnterpriseID), 10)], r)
		checkOneFrame(t, message)
	})
}

func checkPriority(t *testing.T, parsed *rfc5424.SyslogMessage, cfg Config, r *alert.Record) {
	t.Helper()
	if *parsed.Facility != uint8(cfg.Facility) || *parsed.Severity != severityOf(r) {
		t.Fatalf("facility %d and severity %d", *parsed.Facility, *parsed.Severity)
	}
	if parsed.Timestamp != nil && !parsed.Timestamp.Equal(r.Event.Time.Truncate(time.Microsecond)) {
		t.Fatalf("time %s, want %s", parsed.Timestamp, r.Event.Time)
	}
}

// checkFields compares what the parser read with the record: every field is there, cut with the
// mark, or counted as omitted.
func checkFields(t *testing.T, params map[string]string, r *alert.Record) {
	t.Helper()
	omitted := 0
	alert.NewFields().Each(r, func(name string, v alert.Value) {
		got, ok := params[name]
		if !ok {
			omitted++
			return
		}
		if start, cut := strings.CutSuffix(got, `\...`); cut && strings.HasPrefix(v.Text(), start) {
			return
		}
		if got != v.Text() {
			t.Fatalf("field %s is %q, want %q", name, got, v.Text())
		}
		if name == "workload" && unescape(t, got) != r.Workload {
			t.Fatalf("workload is %q, want %q", unescape(t, got), r.Workload)
		}
	})
	if said, _ := strconv.Atoi(params["omitted"]); said != omitted {
		t.Fatalf("%d fields are missing, said are %d", omitted, said)
	}
}

// checkOneFrame sends the message through an octet counting parser, between two others.
func checkOneFrame(t *testing.T, message []byte) {
	t.Helper()
	const other = "<14>1 - - - - - - other"
	stream := []byte(strconv.Itoa(len(other)) + " " + other + strconv.Itoa(len(message)) + " ")
	stream = append(stream, message...)
	stream = append(stream, strconv.Itoa(len(other))+" "+other...)
	var frames []gosyslog.Message
	octetcounting.NewParser(
		gosyslog.WithMaxMessageLength(maxMaxMessage),
		gosyslog.WithListener(func(result *gosyslog.Result) {
			if result.Error != nil {
				t.Fatalf("parsing the frame of %q: %v", message, result.Error)
			}
			frames = append(frames, result.Message)
		}),
	).Parse(bytes.NewReader(stream))
	if len(frames) != 3 {
		t.Fatalf("%d frames, want 3, in %q", len(frames), stream)
	}
}
