package containerd

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	"go.uber.org/goleak"

	"github.com/sallyport/sallyport/runtime/cgroup"
	"github.com/sallyport/sallyport/runtime/identity"
	"github.com/sallyport/sallyport/runtime/procfs"
)

func TestBackoff(t *testing.T) {
	t.Parallel()
	b := newBackoff(100*time.Millisecond, time.Second)
	for round := range 2 {
		for i, whole := range []time.Duration{100, 200, 400, 800, 1000, 1000} {
			whole *= time.Millisecond
			if got := b.next(); got < whole/2 || got > whole {
				t.Errorf("round %d: pause %d is %v, want %v to %v", round, i, got, whole/2, whole)
			}
		}
		b.reset()
	}
}

func hierarchy(t *testing.T) cgroup.Hierarchy {
	t.Helper()
	h, err := cgroup.FindIn(strings.NewReader("1 2 0:3 / " + t.TempDir() + " rw - cgroup2 none rw\n"))
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func discard() *logrus.Logger {
	log := logrus.New()
	log.SetOutput(io.Discard)
	return log
}

func TestWatchRefusesWhatCannotWork(t *testing.T) {
	t.Parallel()
	good := Config{Socket: "/nowhere", Cgroups: hierarchy(t)}
	for name, spoil := range map[string]func(*Config){
		"Socket":       func(c *Config) { c.Socket = "relative" },
		"Cgroups":      func(c *Config) { c.Cgroups = cgroup.Hierarchy{} },
		"Relist":       func(c *Config) { c.Relist = -1 },
		"ReconnectMax": func(c *Config) { c.ReconnectMax = time.Millisecond },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			config := good
			spoil(&config)
			if err := Watch(t.Context(), config, discard(), nil); err == nil {
				t.Error("it was taken")
			}
		})
	}
}

// TestWatchWaitsForTheDaemon has no daemon: its absence is told once, and the end of the context ends everything.
func TestWatchWaitsForTheDaemon(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	changes := make(chan identity.Change)
	ended := make(chan error, 1)
	go func() {
		ended <- Watch(ctx, Config{
			Socket: filepath.Join(t.TempDir(), "none.sock"), Cgroups: hierarchy(t), Proc: procfs.New("/proc"),
			ReconnectMin: time.Millisecond, ReconnectMax: 5 * time.Millisecond, CallTimeout: time.Second,
		}, discard(), changes)
	}()
	if first := <-changes; first.Kind != identity.Disconnected || first.Err == nil {
		t.Errorf("the first change is %+v", first)
	}
	select {
	case more := <-changes:
		t.Errorf("it was told again: %+v", more)
	case <-time.After(200 * time.Millisecond):
	}
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("Watch returned %v", err)
	}
}

// TestListIsBelievedAtTheSecondLook: a list that is ahead of the events is left to them.
func TestListIsBelievedAtTheSecondLook(t *testing.T) {
	t.Parallel()
	with := func(pids ...uint32) map[key]entry {
		all := make(map[key]entry)
		for _, pid := range pids {
			all[key{"ns", fmt.Sprint(pid)}] = entry{Container: identity.Container{InitPID: pid}}
		}
		return all
	}
	s := session{known: with(1)}
	for i, step := range []struct {
		listed map[key]entry
		want   belief
	}{
		{with(1), right},
		{with(1, 2), doubtful},
		{with(1), right},       // the event came
		{with(1, 2), doubtful}, // a new doubt, though it was had before
		{with(1, 3), doubtful}, // not the same
		{with(1, 3), wrong},    // no event in all that time
		{with(1, 3), doubtful}, // adopt was not called here
		{map[key]entry{}, doubtful},
		{map[key]entry{}, wrong},
	} {
		if got := s.compare(step.listed); got != step.want {
			t.Errorf("step %d: belief %d, want %d", i, got, step.want)
		}
	}
}

func TestArgumentsOfRuncAreNotTheProgram(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		args []string
		want bool
	}{
		{[]string{"runc", "init"}, true},
		{[]string{"/usr/sbin/runc", "init"}, true},
		{[]string{"runc", "init", "x"}, false},
		{[]string{"sh", "init"}, false},
		{nil, false},
	} {
		if got := isRuncInit(tc.args); got != tc.want {
			t.Errorf("isRuncInit(%q) = %v", tc.args, got)
		}
	}
}
