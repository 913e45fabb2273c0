package ladder

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/probes"
	"github.com/sallyport/sallyport/probes/event"
	"github.com/sallyport/sallyport/probes/label"
	"github.com/sallyport/sallyport/tests/testutil"
	"github.com/sallyport/sallyport/tests/testutil/attached"
	"github.com/sallyport/sallyport/tests/testutil/pod"
)

// newFullRig has rooms for few containers, and tolerates what is counted of them.
func newFullRig(t *testing.T, sizes probes.Sizes) *rig {
	t.Helper()
	testutil.RequireRoot(t)
	return newRigFor(t, strongest(t), probes.Config{Sizes: sizes})
}

// newRigFor has one step, those sizes, and that answer about containers nobody knows. What is counted is tolerated.
func newRigFor(t *testing.T, step event.Step, cfg probes.Config) *rig {
	t.Helper()
	r := newBareRig(t, step)
	r.cfg.Sizes, r.cfg.UnknownDeny = cfg.Sizes, cfg.UnknownDeny
	var err error
	if r.agent, err = attachAgent(attached.Reuse(t, r.cfg), r.step); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.close(); err != nil {
			t.Error(err)
		}
	})
	r.events = attached.Record(t, r.kernel)
	return r
}

// TestFullIDs: where there was no room for the numbers of a container's user namespace, no rule allows by ids, and those
// that deny by ids deny, until somebody joins who finds room.
func TestFullIDs(t *testing.T) {
	r := newFullRig(t, probes.Sizes{})
	r.govern(t)
	reachable(t, r.program)
	c := r.container(t, "web")
	run := func(line string) string {
		p := r.victim(c, line)
		p.UserNS = &pod.UserNS{First: 100_000, Count: 2000}
		p.Start(t)
		return outcome(t, p)
	}
	expect := func(rules, want string) {
		t.Helper()
		r.swap(t, rules)
		if got := run("setresuid 1000 1000 1000 -- connect-udp SERVER4 OPEN"); got != want {
			t.Errorf("got %s, want %s, under %s", got, want, rules)
		}
	}
	free := attached.Fill(t, r.kernel.Maps().Map("ids_by_container"))
	run("socket unix stream")
	expect(allowUser, "EPERM")
	expect(denyUser, "EPERM")
	free()
	expect(allowUser, "ok") // the next who joins finds room
	expect(denyUser, "EPERM")
}

// TestFullProbes: where there is no room for the command of a probe, who runs it is Exec, and the agent is told.
func TestFullProbes(t *testing.T) {
	r := newFullRig(t, probes.Sizes{})
	r.govern(t)
	c := r.started(t, "web")
	r.swap(t, probePolicy)
	const line = "-- connect-tcp SERVER4 OPEN"
	command := [][]string{append([]string{r.program}, strings.Fields(r.fill(line))...)}
	free := attached.Fill(t, r.kernel.Maps().Map("probe_by_slot"))
	if err := r.labels.SetProbes(c.ID, command); err == nil || errors.Is(err, label.ErrProbes) {
		t.Errorf("setting a probe without room: %v", err)
	}
	r.expect(t, c, line, "EPERM")
	free()
	if err := r.labels.SetProbes(c.ID, command); err != nil {
		t.Errorf("setting a probe: %v", err)
	}
	r.expect(t, c, line, "ok")
}

// TestFullMountNamespaces: where there was no room for a container's mount namespace, files of any are taken for its own, until
// somebody joins it who finds room.
func TestFullMountNamespaces(t *testing.T) {
	r := newFullRig(t, probes.Sizes{})
	r.govern(t)
	dir := linkable(t, r)
	if err := os.WriteFile(filepath.Join(dir, "real"), nil, 0o755); err != nil {
		t.Fatal(err)
	}
	free := attached.Fill(t, r.kernel.Maps().Map("mntns_by_container"))
	c := r.started(t, "web")
	r.swap(t, strings.ReplaceAll(allowTool, "DIR", dir))
	over := fmt.Sprintf("mount-over %s/real -- connect-tcp SERVER4 OPEN", dir)
	r.expect(t, c, over, "ok")
	r.expect(t, c, "-- connect-tcp SERVER4 OPEN", "EPERM") // by its path no tool
	free()
	r.expect(t, c, over, "EPERM")
}

// TestTooManyParents: an agent that cannot tell the kernel where containers are does not start.
func TestTooManyParents(t *testing.T) {
	r := newBareRig(t, strongest(t))
	for i := range 64 {
		r.cfg.ContainerParents = append(r.cfg.ContainerParents, fmt.Sprintf("/parent%d", i))
	}
	if a, err := attachAgent(r.cfg, r.step); !errors.Is(err, unix.E2BIG) {
		t.Errorf("65 parents, of 64 that there is room for: %v", err)
		if err == nil {
			_ = a.close() // it should not be there
		}
	}
}

// TestContainersComeAndGo: as many containers as a node has in months leave nothing behind, and the next is governed.
func TestContainersComeAndGo(t *testing.T) {
	churn := testutil.Flood(t, 10_000, 500)
	r := newFullRig(t, probes.Sizes{Containers: fewContainers})
	r.govern(t)
	before, err := r.labels.Containers()
	if err != nil {
		t.Fatal(err)
	}
	parent := r.Cgroup(t, "slice")
	for i := range churn {
		dir := filepath.Join(parent, fmt.Sprintf("%064x", i))
		if err := errors.Join(os.Mkdir(dir, 0o755), os.Remove(dir)); err != nil {
			t.Fatal(err)
		}
	}
	after, err := r.labels.Containers()
	if err != nil || len(after) != len(before) {
		t.Errorf("the kernel knows %d containers, and knew %d: %v", len(after), len(before), err)
	}
	if n := r.lost(t, "container_map"); n != 0 {
		t.Errorf("%d containers found no room", n)
	}
	// Each was told, coming and going, or counted as lost.
	testutil.Eventually(t, "what is told of them", func() error {
		told := len(r.events.Find(func(e event.Event) bool { return e.Kind == event.KindCgroup && strings.Contains(e.Path, "/slice/") }))
		if lost := r.lost(t, "alert_ring"); told+lost != 2*churn {
			return fmt.Errorf("%d are told, %d lost", told, lost)
		}
		return nil
	})
	c := r.container(t, "web")
	r.swap(t, webPolicy)
	r.expect(t, c, "connect-tcp SERVER4 OPEN", "ok")
	r.expect(t, c, "connect-tcp SERVER4 OPEN", "EPERM")
}
