package containers

import (
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/runtime/cgroup"
	"github.com/sallyport/sallyport/runtime/procfs"
	"github.com/sallyport/sallyport/tests/testutil"
)

// TestInferTellsWhatIsProved runs, in a real container, processes of every lineage, told apart by how long they sleep.
func TestInferTellsWhatIsProved(t *testing.T) {
	c := testutil.NewContainerd(t)
	c.Image(t, box)
	k := c.Run(t, testutil.RunSpec{ID: "demo", Image: box, Args: []string{"sh", "-c", `
		sleep 101 &
		(sleep 102 &)
		sh -c 'setsid sleep 103 & wait' &
		(setsid sleep 104 &)
		wait; sleep 1000`}})
	open := k.ExecDetached(t, "open", "sh", "-c", `
		sleep 201 &
		(sleep 202 &)
		(setsid sleep 203 &)
		sh -c 'setsid sleep 204 & wait' &
		wait; sleep 1000`)
	k.Exec(t, "sh", "-c", "(sleep 205 </dev/null >/dev/null 2>&1 &)")
	want := map[string]struct {
		origin procfs.Origin
		reason procfs.Reason
	}{
		"101": {procfs.Main, procfs.ReasonSession},
		"102": {procfs.Main, procfs.ReasonSession}, // orphan
		"103": {procfs.Main, procfs.ReasonParent},
		"104": {procfs.Unknown, procfs.ReasonAdopted}, // a daemon: as 203 is
		"201": {procfs.Exec, procfs.ReasonSession},
		"202": {procfs.Exec, procfs.ReasonSession}, // orphan
		"203": {procfs.Unknown, procfs.ReasonAdopted},
		"204": {procfs.Exec, procfs.ReasonParent},
		"205": {procfs.Unknown, procfs.ReasonAdopted}, // its session's leader is gone
	}
	proc := procfs.New("/proc")
	path := "/" + c.Namespace + "/demo"
	found := awaitSleepers(t, proc, path, k.PID, len(want))
	for seconds, w := range want {
		got, ok := found[seconds]
		if !ok {
			t.Errorf("sleep %s was not told of", seconds)
			continue
		}
		if got.Origin != w.origin || got.Reason != w.reason {
			t.Errorf("sleep %s is %s because it %s; want %s because it %s", seconds, got.Origin, got.Reason, w.origin, w.reason)
		}
		root := uint32(0)
		if w.origin == procfs.Exec {
			root = open
		}
		if got.SessionRootPID != root {
			t.Errorf("sleep %s is of session %d, want %d", seconds, got.SessionRootPID, root)
		}
	}
	for _, inferred := range infer(t, proc, path, k.PID) {
		if inferred.PID == k.PID && (inferred.Origin != procfs.Main || inferred.Reason != procfs.ReasonInit) ||
			inferred.PID == open && (inferred.Origin != procfs.Exec || inferred.Reason != procfs.ReasonJoined) {
			t.Errorf("%d is %+v", inferred.PID, inferred)
		}
	}
}

func infer(t *testing.T, proc procfs.FS, path string, init uint32) []procfs.Inferred {
	t.Helper()
	snapshot, err := proc.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	return procfs.Infer(snapshot, procfs.Query{Cgroup: path, InitPID: init})
}

// awaitSleepers infers until want processes of the container sleep, each found by its time, and none is about to lose
// its parent.
func awaitSleepers(t *testing.T, proc procfs.FS, path string, init uint32, want int) map[string]procfs.Inferred {
	t.Helper()
	deadline := time.Now().Add(wait)
	for {
		time.Sleep(time.Second) // the shells between have ended
		found := make(map[string]procfs.Inferred)
		for _, inferred := range infer(t, proc, path, init) {
			args, err := proc.Cmdline(inferred.PID)
			if err == nil && len(args) == 2 && strings.HasSuffix(args[0], "sleep") {
				found[args[1]] = inferred
			}
		}
		if len(found) >= want {
			return found
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d processes sleep, want %d: %v", len(found), want, found)
		}
	}
}

func TestContainersAreFoundByTheirCgroups(t *testing.T) {
	c := testutil.NewContainerd(t)
	c.Image(t, box)
	id := strings.Repeat("0123456789abcdef", 4)
	c.Run(t, testutil.RunSpec{ID: id, Image: box, Args: []string{"sleep", "1000"}})
	c.Run(t, testutil.RunSpec{ID: "named", Image: box, Args: []string{"sleep", "1000"}})
	hierarchy, err := cgroup.Find()
	if err != nil {
		t.Fatal(err)
	}
	for name, parents := range map[string][]string{id: nil, "named": {"/" + c.Namespace}} {
		found, err := hierarchy.Containers(parents)
		if err != nil {
			t.Fatal(err)
		}
		count := 0
		for _, cg := range found {
			if cg.Path != "/"+c.Namespace+"/"+name {
				continue
			}
			count++
			if path, err := hierarchy.Path(cg.ID); err != nil || path != cg.Path {
				t.Errorf("id %d has the path %q, %v; want %q", cg.ID, path, err, cg.Path)
			}
		}
		if count != 1 {
			t.Errorf("%s was found %d times among %+v", name, count, found)
		}
	}
}
