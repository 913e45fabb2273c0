package metrics

import (
	"testing"

	"github.com/sirupsen/logrus"

	"github.com/sallyport/sallyport/probes/event"
)

// BenchmarkObserve is what counting a request takes.
func BenchmarkObserve(b *testing.B) {
	m, err := New(Config{Log: logrus.New()})
	if err != nil {
		b.Fatal(err)
	}
	e := &event.Event{Kind: event.KindRequest, Call: event.CallPacketOut, Verdict: event.VerdictAllow, Reason: event.ReasonRule}
	for b.Loop() {
		m.Observe(e)
	}
}
