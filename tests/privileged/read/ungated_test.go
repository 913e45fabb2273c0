package read

import (
	"testing"

	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/probes/event"
)

// TestWithoutGate: where nobody reads requests, what only rules.http allow is denied at the call, with its reason; Audit
// tells it and stops nothing.
func TestWithoutGate(t *testing.T) {
	s := newUngated(t, "Enforce")
	land := at(s.ServerAddr) + "/v1/request-landing"
	if text, code := s.curl(t, "-XPOST", land); code == 0 {
		t.Errorf("curl ended with %d and %q", code, text)
	}
	if seen := s.requests(); seen != "" {
		t.Errorf("the server saw %q", seen)
	}
	unread := func(verdict, would event.Verdict) {
		t.Helper()
		e := s.events.Wait(t, "a call", func(e event.Event) bool { return e.Kind == event.KindConnect && e.Verdict == verdict })
		if e.Reason != event.ReasonOpaque || e.Would != would || e.Rule == 0 || e.Remote.Port() != port {
			t.Errorf("the call is told as %+v", e)
		}
	}
	unread(event.VerdictDeny, event.VerdictNone)
	s.swap(t, "Audit", policy.VerdictDeny)
	if text, code := s.curl(t, "-XPOST", land); code != 0 || text != "Ship landed" {
		t.Errorf("under Audit curl ended with %d and %q", code, text)
	}
	unread(event.VerdictAudit, event.VerdictDeny)
}
