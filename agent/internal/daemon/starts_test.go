package daemon

import (
	"context"
	"errors"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sallyport/sallyport/agent/internal/correlate"
	"github.com/sallyport/sallyport/runtime/identity"
)

// startsEngine is an engine without a kernel: what it takes in, the test puts in force.
func startsEngine() *engine {
	a := &agent{registry: correlate.New(correlate.Config{})}
	a.cfg.Runtime.ContainerParents = []string{"/pods"}
	return &engine{a: a, starts: make(chan *start), ended: make(chan struct{}), workloads: newWorkloads(a)}
}

func starting(id string, cgroup uint64) identity.Container {
	return identity.Container{ID: id, Namespace: "k8s.io", CgroupID: cgroup, CgroupPath: "/pods/" + id}
}

// force puts a container in force, as apply and govern do.
func (e *engine) force(cgroup uint64) {
	g := e.workloads.byCgroup[cgroup]
	g.applied, g.confirmed = true, true
	e.release()
}

func TestAwaitReturnsWhenInForce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e := startsEngine()
		done := make(chan string, 2)
		for id, cgroup := range map[string]uint64{"a": 1, "b": 2} {
			go func() {
				if err := e.await(t.Context(), starting(id, cgroup)); err != nil {
					t.Error(err)
				}
				done <- id
			}()
		}
		synctest.Wait()
		e.begin(<-e.starts) // both
		if len(e.waiting) != 2 || !e.behind {
			t.Fatalf("%d starts wait", len(e.waiting))
		}
		e.release()
		e.force(2)
		if got := <-done; got != "b" || len(e.waiting) != 1 {
			t.Errorf("%s was released first, and %d wait", got, len(e.waiting))
		}
		e.workloads.byCgroup[1].ungated = true
		e.force(1)
		if len(e.waiting) != 1 {
			t.Error("a container whose packets are not gated was released")
		}
		e.workloads.byCgroup[1].ungated = false
		e.force(1)
		if got := <-done; got != "a" || len(e.waiting) != 0 {
			t.Errorf("%s was released, and %d wait", got, len(e.waiting))
		}
	})
}

func TestAwaitEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e := startsEngine()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := e.await(ctx, starting("a", 1)); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("an engine that takes nothing in: %v", err)
		}
		ctx, cancel = context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		begun := make(chan struct{})
		go func() {
			defer close(begun)
			e.begin(<-e.starts)
		}()
		if err := e.await(ctx, starting("a", 1)); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("an engine that puts nothing in force: %v", err)
		}
		<-begun
		e.release()
		if len(e.waiting) != 0 {
			t.Error("a start is kept that nobody waits for")
		}
		if e.workloads.byCgroup[1] == nil {
			t.Error("the container was not taken in")
		}
		close(e.ended)
		if err := e.await(t.Context(), starting("b", 2)); !errors.Is(err, errEnding) {
			t.Errorf("an engine that has ended: %v", err)
		}
	})
}

func TestAwaitOfACgroupThatTheKernelDoesNotSee(t *testing.T) {
	t.Parallel()
	e := startsEngine()
	for path, seen := range map[string]bool{
		"/pods/a": true, "/pods/a/b": false, "/user.slice/mycontainer": false, "/": false, "": false,
		"/machine.slice/libpod-" + strings.Repeat("0a", 32) + ".scope": true,
	} {
		if got := e.seen(path); got != seen {
			t.Errorf("%q is seen: %t, want %t", path, got, seen)
		}
	}
	err := e.await(t.Context(), identity.Container{ID: "a", CgroupID: 1, CgroupPath: "/user.slice/mycontainer"})
	if !errors.Is(err, errUnseen) {
		t.Errorf("got %v, want errUnseen", err)
	}
}

// TestChangesAreGathered: what nobody waits for is left until a tenth of a second after the last time.
func TestChangesAreGathered(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e := startsEngine()
		if pause := e.catchUpInTime(); pause != 0 {
			t.Errorf("a pause of %v without a change", pause)
		}
		e.behind, e.caughtUp, e.pause = true, time.Now(), pauseAfter(time.Millisecond)
		if pause := e.catchUpInTime(); pause != gather {
			t.Errorf("a pause of %v right after the last time, not %v", pause, gather)
		}
		time.Sleep(gather / 4)
		if pause := e.catchUpInTime(); pause != gather*3/4 || !e.behind {
			t.Errorf("a pause of %v later, not %v", pause, gather*3/4)
		}
	})
}

// TestCostlyChangesAreGatheredLonger: changes that nobody waits for take a tenth of a processor, unless one alone takes more
// than that of a second.
func TestCostlyChangesAreGatheredLonger(t *testing.T) {
	t.Parallel()
	for cost, want := range map[time.Duration]time.Duration{
		0: gather, time.Millisecond: gather, 40 * time.Millisecond: 480 * time.Millisecond, 2 * time.Second: gatherMost,
	} {
		if got := pauseAfter(cost); got != want {
			t.Errorf("after %v changes are gathered for %v, want %v", cost, got, want)
		}
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for before := threadTime(); threadTime() == before; { // a processor is used until that shows
		continue
	}
}
