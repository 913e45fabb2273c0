package ladder

import (
	"testing"

	"github.com/sallyport/sallyport/probes/event"
	"github.com/sallyport/sallyport/tests/testutil"
	"github.com/sallyport/sallyport/tests/testutil/attached"
)

// TestReusedIsAsNew holds that a test which gets the maps and programs of the one before finds nothing of it: no
// container, no policy, no flow, no event; and nothing that still judges, though JUDGE may still be attached.
func TestReusedIsAsNew(t *testing.T) {
	testutil.RequireRoot(t)
	step := strongest(t)
	for _, name := range []string{"attached", "anew"} {
		t.Run("former of "+name, func(t *testing.T) {
			r := newRig(t, step)
			c := r.started(t, "web")
			r.swap(t, webPolicy)
			r.expect(t, c, "connect-tcp SERVER4 OPEN", "EPERM")
		})
		t.Run(name, func(t *testing.T) {
			if name == "anew" {
				attached.Anew(t)
			}
			r := newBareRig(t, step)
			r.attach(t)
			if step != event.StepCgroup && r.hook(t, "connect").Adopted != (name == "attached") { // cgroups are each test's own
				t.Errorf("hook connect: %+v", r.hook(t, "connect"))
			}
			r.asNew(t)
		})
	}
}

// asNew checks that nothing of a former test is there.
func (r *rig) asNew(t *testing.T) {
	t.Helper()
	for _, name := range []string{"container_by_cgroup", "netns_by_cookie", "gate_by_ifindex", "flow_by_tuple"} {
		key, err := r.kernel.Maps().Map(name).NextKeyBytes(nil)
		if err != nil {
			t.Fatal(err)
		}
		if key != nil {
			t.Errorf("%s holds %x", name, key)
		}
	}
	if revision, err := r.kernel.Revision(); err != nil || revision != 1 {
		t.Errorf("revision %d: %v", revision, err)
	}
	if r.labels.Hook().Adopted {
		t.Error("the labels' hook was adopted")
	}
	r.govern(t)
	c := r.started(t, "web") // a session is allowed what the former's policy denied
	r.expect(t, c, "connect-tcp SERVER4 OPEN", "ok")
	if e := r.events.Find(func(e event.Event) bool { return e.Verdict == event.VerdictDeny }); len(e) > 0 {
		t.Errorf("told of the former test: %+v", e[0])
	}
}
