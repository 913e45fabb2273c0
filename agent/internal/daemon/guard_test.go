package daemon

import (
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/sirupsen/logrus"

	"github.com/sallyport/sallyport/probes"
	"github.com/sallyport/sallyport/probes/event"
)

// TestTamperingIsToldOnce: what was put back is told whenever it is, what could not be is told until it is.
func TestTamperingIsToldOnce(t *testing.T) {
	t.Parallel()
	quiet := logrus.New()
	quiet.SetOutput(io.Discard)
	var told []event.Event
	counted := map[bool]int{}
	g := &guard{
		log: quiet, tell: func(e event.Event) { told = append(told, e) },
		count: func(_ string, err error) { counted[err == nil]++ }, failing: map[string]bool{},
	}
	lost := []probes.Finding{{Name: "a"}, {Name: "b", Err: errors.New("no")}}
	for name := range strings.SplitSeq("c d e f g h", " ") {
		lost = append(lost, probes.Finding{Name: name})
	}
	g.report(lost)
	g.report(lost[1:2])
	g.report([]probes.Finding{{Name: "b"}})
	g.report(nil)
	g.report(lost[1:2])
	want := []struct {
		site    string
		removed bool
	}{{"link a, c, d, e, f and 2 more", false}, {"link b: no", true}, {"link b", false}, {"link b: no", true}}
	if len(told) != len(want) || counted[true] != 8 || counted[false] != 2 {
		t.Fatalf("told %+v, counted %v", told, counted)
	}
	for i, w := range want {
		if e := told[i]; e.Kind != event.KindTamper || e.Site != w.site || e.Removed != w.removed {
			t.Errorf("told %q, removed %t, want %q, %t", e.Site, e.Removed, w.site, w.removed)
		}
	}
}
