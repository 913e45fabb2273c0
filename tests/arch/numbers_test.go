package arch

import (
	"testing"

	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/policy/compile"
	"github.com/sallyport/sallyport/probes/event"
)

// policy imports nothing, so it numbers its words itself. They must be those of the kernel ABI.
func TestNumbers(t *testing.T) {
	origins := map[policy.Origin]event.Origin{
		policy.OriginUnknown: event.OriginUnknown, policy.OriginMain: event.OriginMain, policy.OriginExec: event.OriginExec,
		policy.OriginProbe: event.OriginProbe, policy.OriginHost: event.OriginHost,
	}
	if compile.OriginCount != len(origins) {
		t.Errorf("%d origins in compile, %d here", compile.OriginCount, len(origins))
	}
	for _, word := range policy.Origins() {
		same(t, string(word), word.Number(), origins[word])
	}
	for word, number := range map[policy.Verdict]event.Verdict{
		"": event.VerdictNone, policy.VerdictAllow: event.VerdictAllow, policy.VerdictAudit: event.VerdictAudit,
		policy.VerdictDeny: event.VerdictDeny, policy.VerdictDrop: event.VerdictDrop,
		policy.VerdictReset: event.VerdictReset, policy.VerdictKill: event.VerdictKill,
	} {
		same(t, string(word), word.Number(), number)
	}
	for word, number := range map[policy.Severity]event.Severity{
		policy.SeverityInfo: event.SeverityInfo, policy.SeverityWarning: event.SeverityWarning, policy.SeverityCritical: event.SeverityCritical,
	} {
		same(t, string(word), word.Number(), number)
	}
	for word, number := range map[policy.Reason]event.Reason{
		"": event.ReasonNone, policy.ReasonRule: event.ReasonRule, policy.ReasonDefault: event.ReasonDefault,
		policy.ReasonUngoverned: event.ReasonUngoverned, policy.ReasonLoopback: event.ReasonLoopback,
	} {
		same(t, string(word), word.Number(), number)
	}
}

func same[T ~uint8](t *testing.T, word string, got uint8, want T) {
	t.Helper()
	if got != uint8(want) {
		t.Errorf("%q is %d in policy and %d in probes/event", word, got, want)
	}
}
