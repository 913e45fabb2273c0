package correlate

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sallyport/sallyport/agent/internal/alert"
	"github.com/sallyport/sallyport/policy/compile"
	"github.com/sallyport/sallyport/probes/event"
	"github.com/sallyport/sallyport/runtime/identity"
)

// clock is a clock that the test sets.
type clock struct{ now time.Time }

func newClock() *clock { return &clock{time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)} }

func (c *clock) time() time.Time      { return c.now }
func (c *clock) pass(d time.Duration) { c.now = c.now.Add(d) }
func (c *clock) registry() *Registry  { return New(Config{Now: c.time, Retain: time.Minute}) }
func change(k identity.ChangeKind, c identity.Container) identity.Change {
	return identity.Change{Kind: k, Container: c}
}

func app(cgroup uint64) identity.Container {
	return identity.Container{
		ID: "c0ffee", Runtime: "containerd", Namespace: "k8s.io", Name: "app", Image: "checkout:1", CgroupID: cgroup,
		Pod: identity.Pod{Namespace: "shop", Name: "checkout-7d"}, Type: identity.TypeApp, Labels: map[string]string{"app": "checkout", "a,b": "1=2"},
	}
}

func connect(cgroup, session, rule uint64) event.Event {
	return event.Event{Kind: event.KindConnect, Rule: rule, Subject: event.Subject{Container: cgroup, Session: session, PID: 9}}
}

func workload(g *Registry, cgroup uint64) string { return g.Join(connect(cgroup, 0, 0)).Workload }

func TestJoinNames(t *testing.T) {
	t.Parallel()
	clock := newClock()
	g := clock.registry()
	g.Apply(change(identity.ContainerCreated, app(0)))
	g.Apply(change(identity.ContainerStarted, app(4711)))
	g.SetRules([]compile.Rule{{Ref: 5, Name: "shop/checkout/pay", Policy: "shop/checkout"}})
	e := connect(4711, 42, 5)
	want := &alert.Record{
		Event: e, Workload: "shop/checkout-7d", Namespace: "shop", Pod: "checkout-7d", Container: "app", ContainerID: "c0ffee",
		Image: "checkout:1", PodLabels: "a%2Cb=1%3D2,app=checkout", ContainerType: "App", SessionID: "2a", Policy: "shop/checkout", Rule: "shop/checkout/pay",
	}
	if diff := cmp.Diff(want, g.Join(e), cmp.Comparer(func(a, b event.Event) bool { return a.Rule == b.Rule && a.Subject == b.Subject })); diff != "" {
		t.Errorf("record (-want +got):\n%s", diff)
	}
	alone := identity.Container{ID: "demo", Namespace: "default", Name: "demo", CgroupID: 8}
	g.Apply(change(identity.ContainerStarted, alone))
	if got := workload(g, 8); got != "default/demo" {
		t.Errorf("a container without a pod is workload %q", got)
	}
	if got := g.Join(connect(99, 0, 77)); got.Workload != "" || got.Rule != "" || got.SessionID != "" {
		t.Errorf("names out of nowhere: %+v", got)
	}
}

func TestNamesOutliveTheirContainer(t *testing.T) {
	t.Parallel()
	for _, kind := range []identity.ChangeKind{identity.ContainerStopped, identity.ContainerRemoved, identity.Resynced} {
		clock := newClock()
		g := clock.registry()
		g.Apply(change(identity.ContainerStarted, app(4711)))
		g.Apply(identity.Change{Kind: kind, Container: identity.Container{ID: "c0ffee", Namespace: "k8s.io"}})
		clock.pass(59 * time.Second)
		if got := workload(g, 4711); got != "shop/checkout-7d" {
			t.Errorf("change %d: a late event is of workload %q", kind, got)
		}
		if s := g.Stats(); s.Containers != 0 || s.Gone != 1 {
			t.Errorf("change %d: %+v", kind, s)
		}
		clock.pass(time.Minute)
		g.Join(event.Event{})
		if got := workload(g, 4711); got != "" {
			t.Errorf("change %d: long after, the workload is %q", kind, got)
		}
		if s := g.Stats(); s != (Stats{}) {
			t.Errorf("change %d: %+v", kind, s)
		}
	}
}

func TestRestartedContainerHasTwoCgroups(t *testing.T) {
	t.Parallel()
	clock := newClock()
	g := clock.registry()
	g.Apply(change(identity.ContainerStarted, app(1)))
	g.Apply(change(identity.ContainerStopped, app(1)))
	second := app(2)
	second.Image = "checkout:2"
	g.Apply(change(identity.ContainerStarted, second))
	if first := g.Join(connect(1, 0, 0)).Image; first != "checkout:1" {
		t.Errorf("the first task is of image %q", first)
	}
	if now := g.Join(connect(2, 0, 0)).Image; now != "checkout:2" {
		t.Errorf("the second task is of image %q", now)
	}
	clock.pass(2 * time.Minute)
	g.Join(event.Event{})
	if workload(g, 1) != "" || workload(g, 2) == "" {
		t.Errorf("after a while the first is %q and the second %q", workload(g, 1), workload(g, 2))
	}
}

func TestResync(t *testing.T) {
	t.Parallel()
	clock := newClock()
	g := clock.registry()
	g.Apply(change(identity.ContainerStarted, app(1)))
	other := identity.Container{ID: "other", Namespace: "default", CgroupID: 2}
	g.Apply(change(identity.ContainerStarted, other))
	g.Join(event.Event{Kind: event.KindCgroup, Path: "/default/new", Subject: event.Subject{Container: 3}})
	g.Apply(identity.Change{Kind: identity.Disconnected})
	if s := g.Stats(); s.Containers != 2 {
		t.Errorf("while the runtime is away: %+v", s)
	}
	g.Apply(identity.Change{Kind: identity.Resynced, All: []identity.Container{app(0), other}})
	if s := g.Stats(); s.Containers != 1 || s.Gone != 1 {
		t.Errorf("after the list: %+v", s)
	}
	clock.pass(2 * time.Minute)
	g.Join(event.Event{})
	if got := []string{workload(g, 1), workload(g, 2), workload(g, 3)}; !cmp.Equal(got, []string{"", "default/other", "/default/new"}) {
		t.Errorf("workloads %q", got)
	}
}

func TestProvisionalCgroupGetsItsNameLater(t *testing.T) {
	t.Parallel()
	g := newClock().registry()
	g.Join(event.Event{Kind: event.KindCgroup, Path: "/k8s.io/c0ffee", Subject: event.Subject{Container: 4711}})
	if got := workload(g, 4711); got != "/k8s.io/c0ffee" {
		t.Errorf("before its name: %q", got)
	}
	g.Apply(change(identity.ContainerStarted, app(4711)))
	if got := workload(g, 4711); got != "shop/checkout-7d" {
		t.Errorf("after its name: %q", got)
	}
	g.Join(event.Event{Kind: event.KindCgroup, Removed: true, Subject: event.Subject{Container: 4711}})
	g.Join(event.Event{Kind: event.KindCgroup, Path: "/k8s.io/next", Subject: event.Subject{Container: 4711}})
	if got := workload(g, 4711); got != "/k8s.io/next" {
		t.Errorf("the inode came again: %q", got)
	}
}

func TestSessions(t *testing.T) {
	t.Parallel()
	start := newClock().now
	session := func(id uint64, pid uint32, cgroup uint64, at time.Time) event.Event {
		return event.Event{Kind: event.KindSessionStart, Time: at, Subject: event.Subject{Session: id, PID: pid, Container: cgroup}}
	}
	exec := func(id string, pid uint32, container string, at time.Time) identity.Change {
		return identity.Change{Kind: identity.ExecStarted, Exec: identity.Exec{
			ID: id, PID: pid, ContainerID: container, Namespace: "k8s.io", StartedAt: at, Terminal: id == "e1",
		}}
	}
	tests := []struct {
		name  string
		steps []any // events and changes in order
		want  string
	}{
		{"name first", []any{exec("e1", 9, "c0ffee", start), session(42, 9, 4711, start)}, "e1"},
		{"session first", []any{session(42, 9, 4711, start), exec("e1", 9, "c0ffee", start.Add(time.Millisecond))}, "e1"},
		{"only the end is heard of", []any{session(42, 9, 4711, start), func() identity.Change {
			c := exec("e1", 9, "c0ffee", start)
			c.Kind = identity.ExecExited
			return c
		}()}, "e1"},
		{"another process", []any{session(42, 9, 4711, start), exec("e1", 10, "c0ffee", start)}, ""},
		{"the PID came again", []any{session(42, 9, 4711, start), exec("e1", 9, "c0ffee", start.Add(time.Minute))}, ""},
		{"another container", []any{session(42, 9, 4711, start), exec("e1", 9, "other", start)}, ""},
		{"container not known yet", []any{session(42, 9, 5, start), exec("e1", 9, "other", start)}, "e1"},
		{"not started yet", []any{exec("e1", 0, "c0ffee", start), session(42, 0, 4711, start)}, ""},
		{"two sessions of one PID", []any{
			session(41, 9, 4711, start.Add(-time.Second)), exec("e0", 9, "c0ffee", start.Add(-time.Second)),
			exec("e1", 9, "c0ffee", start), session(42, 9, 4711, start),
		}, "e1"},
		{"no start time", []any{session(42, 9, 4711, start), exec("e1", 9, "c0ffee", time.Time{})}, "e1"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			g := newClock().registry()
			g.Apply(change(identity.ContainerStarted, app(4711)))
			for _, step := range test.steps {
				switch s := step.(type) {
				case event.Event:
					g.Join(s)
				case identity.Change:
					g.Apply(s)
				}
			}
			if got := g.Join(connect(4711, 42, 0)); got.ExecID != test.want || got.Terminal != (test.want == "e1") {
				t.Errorf("session 42 is exec %q (terminal %v), want %q", got.ExecID, got.Terminal, test.want)
			}
		})
	}
}

func TestSessionThatEndedKeepsItsNameWhileItsChildrenLive(t *testing.T) {
	t.Parallel()
	clock := newClock()
	g := clock.registry()
	g.Join(event.Event{Kind: event.KindSessionStart, Time: clock.now, Subject: event.Subject{Session: 42, PID: 9}})
	g.Apply(identity.Change{Kind: identity.ExecStarted, Exec: identity.Exec{ID: "e1", PID: 9, StartedAt: clock.now}})
	g.Join(event.Event{Kind: event.KindSessionEnd, Subject: event.Subject{Session: 42, PID: 9}})
	for range 10 {
		clock.pass(50 * time.Second)
		if got := g.Join(connect(0, 42, 0)).ExecID; got != "e1" {
			t.Fatalf("a process that was left behind is of exec %q", got)
		}
	}
	clock.pass(5 * time.Minute)
	g.Join(event.Event{})
	if got := g.Join(connect(0, 42, 0)).ExecID; got != "" {
		t.Errorf("long after, the session is exec %q", got)
	}
}

func TestRulesOfEarlierRevisions(t *testing.T) {
	t.Parallel()
	clock := newClock()
	g := clock.registry()
	g.SetRules([]compile.Rule{{Ref: 1, Name: "a/b/one"}, {Ref: 2, Name: "a/b/two"}, {Ref: 1, Name: "a/b/one"}})
	g.SetRules([]compile.Rule{{Ref: 2, Name: "a/b/two"}})
	name := func(ref uint64) string { return g.Join(connect(0, 0, ref)).Rule }
	if name(1) != "a/b/one" || name(2) != "a/b/two" {
		t.Errorf("rules are %q and %q", name(1), name(2))
	}
	clock.pass(2 * time.Minute)
	g.Join(event.Event{})
	if name(1) != "" || name(2) != "a/b/two" {
		t.Errorf("after a while rules are %q and %q", name(1), name(2))
	}
}

func TestMemoryIsBounded(t *testing.T) {
	t.Parallel()
	clock := newClock()
	const most = 100
	g := New(Config{Now: clock.time, MaxGone: most})
	for i := range 20 * most {
		clock.pass(time.Second)
		id := uint64(i + 1)
		c := app(id)
		c.ID = fmt.Sprint(i)
		g.Apply(change(identity.ContainerStarted, c))
		g.Apply(change(identity.ContainerRemoved, c))
		g.Join(event.Event{Kind: event.KindSessionStart, Time: clock.now, Subject: event.Subject{Session: id, PID: uint32(id)}})
		g.Apply(identity.Change{Kind: identity.ExecStarted, Exec: identity.Exec{ID: "e", PID: uint32(1e6 + i)}})
		g.SetRules([]compile.Rule{{Ref: id}})
		if n := g.containers.size() + g.sessions.size() + len(g.sessions.byPID) + len(g.rules); n > 14*most {
			t.Fatalf("after %d of each, %d entries", i+1, n)
		}
	}
	if got := workload(g, 20*most); got != "shop/checkout-7d" {
		t.Errorf("the newest was forgotten: %q", got)
	}
}

func TestConcurrentUse(t *testing.T) {
	t.Parallel()
	g := New(Config{})
	var users sync.WaitGroup
	for user := range 4 {
		users.Go(func() {
			for i := range 500 {
				id := uint64(i%50 + 1)
				switch user {
				case 0:
					g.Apply(change(identity.ContainerStarted, app(id)))
				case 1:
					g.SetRules([]compile.Rule{{Ref: id, Name: "n"}})
				default:
					g.Join(event.Event{Kind: event.Kind(i%11 + 1), Rule: id, Subject: event.Subject{Container: id, Session: id, PID: uint32(id)}})
				}
			}
		})
	}
	users.Wait()
	if g.Stats().Containers != 1 {
		t.Errorf("%+v, want one running container", g.Stats())
	}
}
