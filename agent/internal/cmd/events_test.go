package cmd

import (
	"bytes"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/agent/internal/alert"
	"github.com/sallyport/sallyport/policy/flows"
	"github.com/sallyport/sallyport/probes/event"
)

// TestEventsAreReadBack writes records as every output of the agent does and reads them as flows: the two
// tables of names must be one.
func TestEventsAreReadBack(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
	record := func(e event.Event) *alert.Record {
		e.Time, e.Family = at, unix.AF_INET
		e.Subject.PID = 7
		return &alert.Record{Event: e, Namespace: "shop", Pod: "web-0", Workload: "shop/web-0", Container: hostile, Rule: "shop/p/r", ContainerType: "Init", PodLabels: flows.LabelText(map[string]string{"a": "\x1b,=%", "b": ""})}
	}
	peer, local := netip.MustParseAddrPort("192.0.2.1:443"), netip.MustParseAddrPort("[::]:8080")
	var lines bytes.Buffer
	fields := alert.NewFields()
	for _, r := range []*alert.Record{
		record(event.Event{
			Kind: event.KindConnect, Call: event.CallConnect, Remote: peer, Protocol: unix.IPPROTO_TCP, Verdict: event.VerdictAudit, Would: event.VerdictKill,
			Subject: event.Subject{Origin: event.OriginExec, Exe: "/bin/py\xff\\thon", Script: "/opt/\u202ea.py", Truncated: true},
		}),
		record(event.Event{Kind: event.KindConnect, Call: event.CallSendmsg, Remote: peer, Type: unix.SOCK_DGRAM, Verdict: event.VerdictAllow}),
		record(event.Event{Kind: event.KindFlow, Call: event.CallPacketIn, Remote: peer, Local: local, Protocol: unix.IPPROTO_UDPLITE, Verdict: event.VerdictAllow}),
		record(event.Event{Kind: event.KindListen, Call: event.CallListen, Local: local, Protocol: unix.IPPROTO_TCP, Verdict: event.VerdictDeny}),
		record(event.Event{Kind: event.KindConnect, Call: event.CallConnect, Remote: peer, Protocol: unix.IPPROTO_ICMP, Verdict: event.VerdictReset}),
		record(event.Event{Kind: event.KindSocket, Call: event.CallSocket, Verdict: event.VerdictDeny}),
		record(event.Event{Kind: event.KindLost, Lost: 3}),
	} {
		lines.Write(append(fields.AppendJSON(nil, r), '\n'))
	}
	log, err := flows.Read(&lines, flows.Options{})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range log.Flows {
		if f.Process.Workload.Namespace != "shop" || f.Process.Workload.Pod != "web" || f.Process.Workload.Container != hostile ||
			f.Process.Workload.ContainerType != "Init" || f.Process.Workload.Labels["a"] != "\x1b,=%" || !f.First.Equal(at) {
			t.Errorf("%+v", f)
		}
		got = append(got, fmt.Sprintf("%s %q %q %v %s %s %s %s %s", f.Process.Origin, f.Process.Exe, f.Process.Script, f.Process.Truncated, f.Call.Direction, f.Call, f.Verdict, f.Would, f.Rule))
	}
	want := []string{
		`Exec "/bin/py\xff\\thon" "/opt/\u202ea.py" true egress 192.0.2.1:443/TCP Audit Kill shop/p/r`,
		`Unknown "" "" false egress 192.0.2.1/ICMP Reset  shop/p/r`,
		`Unknown "" "" false egress 192.0.2.1:443/UDP Allow  shop/p/r`,
		`Unknown "" "" false ingress 8080/TCP Deny  shop/p/r`,
		`Unknown "" "" false ingress 192.0.2.1:8080/136 Allow  shop/p/r`,
	}
	if diff := cmp.Diff(want, got); diff != "" || log.Lost != 3 {
		t.Errorf("%d lost, flows (-want +got):\n%s", log.Lost, diff)
	}
}
