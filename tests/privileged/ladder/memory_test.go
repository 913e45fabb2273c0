package ladder

import (
	"errors"
	"testing"

	"github.com/sallyport/sallyport/probes"
	"github.com/sallyport/sallyport/probes/event"
	"github.com/sallyport/sallyport/probes/tell"
	"github.com/sallyport/sallyport/tests/testutil"
	"github.com/sallyport/sallyport/tests/testutil/attached"
)

const (
	siteLabels = "label_storage"
	throng     = "crowd 800 "     // more processes than there is memory for labels
	spare      = int64(128 << 10) // bytes: of the agent's memory cgroup
	siteSocket = "socket_storage"
)

// crammed is an agent whose memory cgroup is all but full, and a container whose Main offers its connection.
func crammed(t *testing.T, step event.Step) (*rig, *testutil.Memory) {
	t.Helper()
	attached.Anew(t)
	r := newBareRig(t, step)
	r.cfg.BorrowTell, r.cfg.BorrowRefuse = true, true
	memory := testutil.NewMemory(t)
	memory.Charge(t, func() {
		var err error
		if r.agent, err = attachAgent(r.cfg, step); err != nil {
			t.Fatal(err)
		}
	})
	t.Cleanup(func() {
		memory.Leave(t, -1)
		if err := r.close(); err != nil {
			t.Error(err)
		}
	})
	r.events = attached.Record(t, r.kernel)
	r.govern(t)
	memory.Leave(t, spare)
	return r, memory
}

// TestNoMemoryForLabels holds that a session which forks until there is no memory for labels sheds none: those who got no
// label are denied what rules govern, also when there is memory again, whatever they execute then, and it is counted.
func TestNoMemoryForLabels(t *testing.T) {
	onEachEnforcingStep(t, func(t *testing.T, step event.Step) {
		r, memory := crammed(t, step)
		c, main := r.offering(t, "web")
		if step != event.StepCgroup { // which does not see these
			for _, b := range borrowings {
				r.expect(t, c, throng+"-- "+replacePID(b.line, main), b.refused)
			}
		}
		for _, line := range []string{"connect-tcp SERVER4 OPEN", "sendto-udp SERVER4 OPEN 200", "raw-udp SERVER4 OPEN POD4"} {
			r.expect(t, c, throng+"-- "+line, "EPERM")
		}
		r.expect(t, c, throng+"exec-self -- connect-tcp SERVER4 OPEN", "EPERM")
		counters, err := tell.ReadCounters(r.kernel)
		if err != nil {
			t.Fatal(err)
		}
		switch lost := counters[siteLabels]; {
		case lost > 0:
			r.events.Counted(t, siteLabels)
		case step == event.StepCgroup:
			t.Error("no label was lost")
		default:
			t.Log("no label was lost: before Linux 6.4 labels may go beyond the limit of a memory cgroup")
		}
		// Where there is memory again, who comes has a label, and is told of as ever. The kernel fetches memory after it has
		// had none to give, so the first may still get none.
		memory.Leave(t, -1)
		r.events.Reset()
		testutil.Eventually(t, "a session with a label", func() error {
			r.expect(t, c, "connect-tcp SERVER4 OPEN", "EPERM")
			if len(r.events.Find(func(e event.Event) bool {
				return e.Kind == event.KindConnect && e.Subject.Origin == event.OriginExec && e.Subject.Exe == r.program
			})) == 0 {
				return errors.New("no denial of one is told")
			}
			return nil
		})
		r.net.Echo.ExpectNone(t)
	})
}

// TestNoMemoryForSockets: where nothing can be kept with a socket nobody knows its owner. What is denied stays denied, what is
// allowed does not get past the gate, and it is counted.
func TestNoMemoryForSockets(t *testing.T) {
	onEachEnforcingStep(t, func(t *testing.T, step event.Step) {
		r := newRigFor(t, step, probes.Config{})
		r.govern(t)
		c := r.container(t, "web")
		r.swap(t, webPolicy)
		free := r.net.Pod.LimitOptions(t, 512)
		if got := r.try(t, c, "connect-tcp SERVER4 OPEN 500"); got == "ok" { // Main
			t.Error("a socket of nobody got past the gate")
		}
		r.expect(t, c, toOpen, "EPERM") // Exec
		r.events.Counted(t, siteSocket)
		r.open.ExpectNone(t)
		free()
		r.expect(t, r.container(t, "web"), toOpen, "ok")
	})
}
