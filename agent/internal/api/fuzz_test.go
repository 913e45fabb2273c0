package api

import (
	"net/netip"
	"testing"

	"google.golang.org/protobuf/proto"

	apiv1 "github.com/sallyport/sallyport/agent/internal/api/v1"

	"github.com/sallyport/sallyport/agent/internal/alert"
	"github.com/sallyport/sallyport/probes/event"
)

func wire(f *testing.F, m proto.Message) []byte {
	f.Helper()
	b, err := proto.Marshal(m)
	if err != nil {
		f.Fatal(err)
	}
	return b
}

// FuzzObserve: whatever is asked, the answer is a filter or an error.
func FuzzObserve(f *testing.F) {
	f.Add(wire(f, &apiv1.ObserveRequest{Peers: []string{"10.0.0.0/8", "::ffff:1.2.3.4", "fe80::1%eth0"}, Binaries: []string{"/bin/*"}}))
	f.Add(wire(f, &apiv1.ObserveRequest{Kinds: []string{"connect"}, Verdicts: []string{"Deny"}, Origins: []string{"Exec"}}))
	r := &alert.Record{Event: event.Event{
		Kind: event.KindConnect, Verdict: event.VerdictDeny, Remote: netip.MustParseAddrPort("[::ffff:10.1.2.3]:1"),
		Subject: event.Subject{Origin: event.OriginExec, Exe: "/bin/sh"},
	}}
	f.Fuzz(func(t *testing.T, text []byte) {
		var req apiv1.ObserveRequest
		if proto.Unmarshal(text, &req) != nil {
			return
		}
		match, err := newFilter(&req)
		if (match == nil) == (err == nil) {
			t.Fatalf("a filter and an error, or neither: %v", err)
		}
		if err == nil && match(r) && len(req.GetNamespaces()) > 0 && r.Namespace != "" {
			t.Error("it matches what is in another namespace")
		}
	})
}

// FuzzEvent: what a client is sent as an event, it can show and send on, and it is the same event then.
func FuzzEvent(f *testing.F) {
	f.Add(wire(f, fromRecord(&alert.Record{Event: event.Event{Kind: event.KindConnect, Args: []string{"a"}, Target: &event.Subject{Exe: "/x"}}, Pod: "web"})))
	f.Add(wire(f, &apiv1.Event{Remote: []byte{1, 2, 3, 4, 0, 80}, Workload: []byte{0xff}}))
	f.Fuzz(func(t *testing.T, text []byte) {
		var e apiv1.Event
		if proto.Unmarshal(text, &e) != nil {
			return
		}
		first := fromRecord(ToRecord(&e))
		if _, err := proto.Marshal(first); err != nil {
			t.Fatalf("it cannot be sent on: %v", err)
		}
		if again := fromRecord(ToRecord(first)); !proto.Equal(first, again) {
			t.Errorf("sent on twice it is another:\n%v\n%v", first, again)
		}
	})
}
