package containerd

import (
	"context"
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
