package ladder

import (
	"fmt"
	"slices"
	"testing"

	"github.com/sallyport/sallyport/probes"
	"github.com/sallyport/sallyport/probes/event"
	"github.com/sallyport/sallyport/probes/tell"
	"github.com/sallyport/sallyport/tests/testutil"
	"github.com/sallyport/sallyport/tests/testutil/attached"
	"github.com/sallyport/sallyport/tests/testutil/pod"
)

// ring is the size of each ring, in bytes: of some hundred reports.
const ring = 64 << 10

// unread is a rig whose small rings nobody reads yet, and a container. exec: executions and exits are told.
func unread(t *testing.T, exec bool) (*rig, *pod.Container) {
	t.Helper()
	testutil.RequireRoot(t)
	r := newBareRig(t, strongest(t))
	r.cfg.Sizes, r.cfg.TellExec, r.cfg.TellConnect = probes.Sizes{AlertRing: ring, FlowRing: ring}, exec, false
	var err error
	if r.agent, err = attachAgent(attached.Reuse(t, r.cfg), r.step); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.close(); err != nil {
			t.Error(err)
		}
	})
	c := r.container(t, "web")
	r.swap(t, webPolicy)
	return r, c
}

// TestFullRings floods both rings while nobody reads them. What fits is there when somebody does, the rest was counted one by
// one, no verdict is another, and what is told of traffic takes nothing from the alerts.
func TestFullRings(t *testing.T) {
	r, c := unread(t, true)
	const forks, few = 2000, 50 // alerts that fit
	r.loop(t, c, fmt.Sprintf("crowd %d --", forks), few)
	if lost := r.lost(t, "alert_ring"); lost != 0 {
		t.Errorf("%d alerts were lost behind what was told of traffic", lost)
	}
	r.events = attached.Record(t, r.kernel)
	r.balance(t, few, 0, event.KindConnect)
	lost := r.lost(t, "flow_ring")
	if lost == 0 {
		t.Error("no exit was lost")
	}
	r.balance(t, 1+forks+1, lost, event.KindExec, event.KindExit) // one execution; whoever forked ends, too
}

// TestFullAlertRing: the same of alerts alone, that a reader comes too late for.
func TestFullAlertRing(t *testing.T) {
	many := testutil.Flood(t, 1_000_000, 20_000)
	r, c := unread(t, false)
	r.loop(t, c, "--", many)
	lost := r.lost(t, "alert_ring")
	if lost == 0 {
		t.Error("no alert was lost")
	}
	r.events = attached.Record(t, r.kernel)
	r.balance(t, many, lost, event.KindConnect)
	r.events.Reset()
	r.loop(t, c, "--", 1) // there is room again
	r.balance(t, 1, 0, event.KindConnect)
}

// loop lets a process of the container, as it goes on behind transforms, call what it may not n times: each is denied.
func (r *rig) loop(t *testing.T, c *pod.Container, transforms string, n int) {
	t.Helper()
	want := fmt.Sprintf("ok=0 eperm=%d other=0", n)
	if got := r.try(t, c, fmt.Sprintf("%s loop-udp SERVER4 CLOSED %d 0", transforms, n)); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// lost is what was counted at a site.
func (r *rig) lost(t *testing.T, site string) int {
	t.Helper()
	counters, err := tell.ReadCounters(r.kernel)
	if err != nil {
		t.Fatal(err)
	}
	return int(counters[site])
}

// balance waits until as many events of some kinds are told as were made and not lost.
func (r *rig) balance(t *testing.T, made, lost int, kinds ...event.Kind) {
	t.Helper()
	testutil.Eventually(t, fmt.Sprintf("%d events less %d that were lost", made, lost), func() error {
		told := len(r.events.Find(func(e event.Event) bool { return slices.Contains(kinds, e.Kind) }))
		if told+lost != made {
			return fmt.Errorf("%d are told", told)
		}
		return nil
	})
}

// TestFloodOfForks: behind as many forks, each of which has ended when the next begins, a process is still what it was, and
// nobody has lost a label.
func TestFloodOfForks(t *testing.T) {
	r := newRig(t, strongest(t))
	c := r.container(t, "web")
	r.swap(t, webPolicy)
	forks := fmt.Sprintf("forks %d ", testutil.Flood(t, 20_000, 500))
	r.expect(t, c, forks+toOpen, "ok")    // Main
	r.expect(t, c, forks+toOpen, "EPERM") // Exec
	if lost := r.lost(t, siteLabels); lost != 0 {
		t.Errorf("%d labels were lost", lost)
	}
}
