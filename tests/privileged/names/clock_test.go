package names

import (
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/probes"
	"github.com/sallyport/sallyport/probes/event"
	"github.com/sallyport/sallyport/tests/testutil"
)

// TestClockJumps: somebody sets the machine's clock. What names are known, and for how long, stays; what is told has the time
// of the clock as it is now.
func TestClockJumps(t *testing.T) {
	testutil.RequireRoot(t)
	if !testutil.InVM() {
		t.Log("tested in a guest: this machine's clock is not the test's to set")
		return
	}
	s := newScene(t, probes.Names{})
	a := newInsider(t, s.a)
	q := dnsmessage.Question{Name: dnsmessage.MustNewName("x.good.example."), Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}
	s.resolver.with(func(query []byte, q dnsmessage.Question) [][]byte {
		return [][]byte{answer(query, q, 3600, unique(q)...)}
	})
	s.ask(t, a, 1, query(1, q.Name.String(), q.Type), patience)
	const day = 24 * time.Hour
	for _, jump := range []time.Duration{day, -2 * day, day} {
		now := unix.NsecToTimespec(time.Now().Add(jump).UnixNano())
		if err := unix.ClockSettime(unix.CLOCK_REALTIME, &now); err != nil {
			t.Fatal("setting the clock: ", err)
		}
		set := time.Now()
		s.events.Reset()
		a.want(t, "ok", order{Do: "connect", Address: at(unique(q)[0], 443)})
		a.want(t, "EPERM", order{Do: "connect", Address: at(unique(q)[0], 444)})
		e := s.events.Wait(t, "the denial", func(e event.Event) bool { return e.Kind == event.KindConnect && e.Verdict == event.VerdictDeny })
		if early, late := set.Add(-time.Minute), set.Add(time.Hour); e.Time.Round(0).Before(early.Round(0)) || e.Time.Round(0).After(late.Round(0)) {
			t.Errorf("after a jump by %v it is told of %v, and the clock said %v", jump, e.Time, set)
		}
		if swept, err := s.names.Sweep(); err != nil || swept.Addresses != 0 {
			t.Errorf("after a jump by %v the sweep took %+v: %v", jump, swept, err)
		}
	}
}
