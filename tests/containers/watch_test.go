package containers

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/sirupsen/logrus"
	"go.uber.org/goleak"

	"github.com/sallyport/sallyport/runtime/cgroup"
	"github.com/sallyport/sallyport/runtime/containerd"
	"github.com/sallyport/sallyport/runtime/identity"
	"github.com/sallyport/sallyport/runtime/procfs"
	"github.com/sallyport/sallyport/tests/testutil"
)

const (
	box  = "test.local/box:1"
	wait = time.Minute // for a change that must come
)

// watch follows a daemon and keeps what it tells.
type watch struct {
	mu      sync.Mutex
	changes []identity.Change
	more    chan struct{} // gets a token after each change
}

func startWatch(t *testing.T, c *testutil.Containerd, namespaces ...string) *watch {
	t.Helper()
	hierarchy, err := cgroup.Find()
	if err != nil {
		t.Fatal(err)
	}
	log := logrus.New()
	log.SetOutput(io.Discard)
	w := &watch{more: make(chan struct{}, 1)}
	changes := make(chan identity.Change)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		ended <- containerd.Watch(ctx, containerd.Config{
			Socket: c.Socket, Namespaces: namespaces, Cgroups: hierarchy, Proc: procfs.New("/proc"),
			ReconnectMax: time.Second, Relist: 2 * time.Second,
		}, log, changes)
		close(changes)
	}()
	var reader sync.WaitGroup
	reader.Go(func() {
		for change := range changes {
			w.mu.Lock()
			w.changes = append(w.changes, change)
			w.mu.Unlock()
			select {
			case w.more <- struct{}{}:
			default:
			}
		}
	})
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Watch ended with %v", err)
		}
		reader.Wait()
		if t.Failed() {
			t.Logf("told:\n%s", w)
		}
	})
	return w
}

// noLeaks fails the test if a goroutine outlives what starts after the call, but for those that wait for a daemon.
func noLeaks(t *testing.T) {
	t.Helper()
	const testutil = "github.com/sallyport/sallyport/tests/testutil."
	ignore := []goleak.Option{goleak.IgnoreCurrent()}
	for _, waits := range []string{"startDaemon.func1", "OnThread", "OnThread.func1"} {
		ignore = append(ignore, goleak.IgnoreAnyFunction(testutil+waits))
	}
	t.Cleanup(func() { goleak.VerifyNone(t, ignore...) })
}

func (w *watch) all() []identity.Change {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]identity.Change(nil), w.changes...)
}

func (w *watch) String() string {
	var b strings.Builder
	for _, c := range w.all() {
		fmt.Fprintf(&b, "%d %s/%s pid %d cgroup %d exec %s (%d) all %d err %v\n", c.Kind, c.Container.Namespace, c.Container.ID,
			c.Container.InitPID, c.Container.CgroupID, c.Exec.ID, c.Exec.PID, len(c.All), c.Err)
	}
	return b.String()
}

// await returns the first change after the first n that is wanted, and how many there were up to it.
func (w *watch) await(t *testing.T, n int, what string, wanted func(identity.Change) bool) (identity.Change, int) {
	t.Helper()
	deadline := time.After(wait)
	for {
		all := w.all()
		for ; n < len(all); n++ {
			if wanted(all[n]) {
				return all[n], n + 1
			}
		}
		select {
		case <-w.more:
		case <-deadline:
			t.Fatalf("%s was not told", what)
		}
	}
}

// of matches changes of one kind about one container.
func of(kind identity.ChangeKind, id string) func(identity.Change) bool {
	return func(c identity.Change) bool { return c.Kind == kind && c.Container.ID == id }
}

func kind(k identity.ChangeKind) func(identity.Change) bool {
	return func(c identity.Change) bool { return c.Kind == k }
}

func lists(id string) func(identity.Change) bool {
	return func(c identity.Change) bool {
		_, ok := find(c.All, id)
		return c.Kind == identity.Resynced && ok
	}
}

func find(all []identity.Container, id string) (identity.Container, bool) {
	for _, c := range all {
		if c.ID == id {
			return c, true
		}
	}
	return identity.Container{}, false
}

// checkCgroup compares a container's ids with what /proc and the file system say, read here without the code under test.
func checkCgroup(t *testing.T, c identity.Container, pid uint32, path string) {
	t.Helper()
	if c.InitPID != pid || c.CgroupPath != path {
		t.Errorf("container %s has process %d in %q, want %d in %q", c.ID, c.InitPID, c.CgroupPath, pid, path)
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(text), "0::"+path+"\n") {
		t.Errorf("/proc says %q, and %q was told", text, path)
	}
	root := "/sys/fs/cgroup"
	if _, err := os.Stat(filepath.Join(root, "cgroup.controllers")); err != nil {
		root = "/sys/fs/cgroup/unified"
	}
	info, err := os.Stat(filepath.Join(root, path))
	if err != nil {
		t.Fatal(err)
	}
	if stat, ok := info.Sys().(*syscall.Stat_t); !ok || stat.Ino != c.CgroupID || c.CgroupID == 0 {
		t.Errorf("cgroup id is %d, and the directory's inode %+v", c.CgroupID, info.Sys())
	}
}

func TestWatchFollowsAContainer(t *testing.T) {
	c := testutil.NewContainerd(t)
	noLeaks(t)
	c.Image(t, box)
	w := startWatch(t, c)
	_, n := w.await(t, 0, "the first list", kind(identity.Resynced))
	k := c.Run(t, testutil.RunSpec{
		ID: "demo", Image: box, Args: []string{"sleep", "1000"}, Labels: map[string]string{"app": "demo"},
	})
	created, n := w.await(t, n, "the container", of(identity.ContainerCreated, "demo"))
	started, n := w.await(t, n, "its start", of(identity.ContainerStarted, "demo"))
	if created.Container.Running || created.Container.Image != box || created.Container.Labels["app"] != "demo" {
		t.Errorf("created: %+v", created.Container)
	}
	path := "/" + c.Namespace + "/demo"
	checkCgroup(t, started.Container, k.PID, path)
	got := started.Container
	got.CgroupID, got.CreatedAt, got.Labels = 0, time.Time{}, nil
	want := identity.Container{
		ID: "demo", Runtime: "containerd", Namespace: c.Namespace, Name: "demo", Type: identity.TypeApp, Image: box,
		Pod: identity.Pod{Namespace: c.Namespace, Name: "demo"}, CgroupPath: path, InitPID: k.PID, Running: true,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("started (-want +got):\n%s", diff)
	}
	known := false
	for _, change := range w.all() { // told before the entrypoint runs
		known = known || change.Kind == identity.ContainerCreated && change.Container.CgroupID == started.Container.CgroupID
	}
	if !known {
		t.Error("the cgroup was not told before the start")
	}

	if result := k.Exec(t, "sh", "-c", "echo out; exit 7"); result.Code != 7 || result.Stdout != "out\n" {
		t.Errorf("exec gave %+v", result)
	}
	short, n := w.await(t, n, "the end of the short exec", kind(identity.ExecExited))
	if short.Exec.ExitCode != 7 || short.Exec.ContainerID != "demo" || short.Exec.PID == 0 || short.Exec.ExitedAt.IsZero() {
		t.Errorf("short exec ended as %+v", short.Exec)
	}
	pid := k.ExecDetached(t, "session1", "sleep", "2000")
	exec, n := w.await(t, n, "the exec", kind(identity.ExecStarted))
	if exec.Exec.ID != "session1" || exec.Exec.PID != pid || exec.Exec.Terminal || exec.Exec.StartedAt.IsZero() {
		t.Errorf("exec is %+v, want session1 with process %d", exec.Exec, pid)
	}
	if diff := cmp.Diff([]string{"sleep", "2000"}, exec.Exec.Args); diff != "" {
		t.Errorf("the exec's arguments (-want +got):\n%s", diff)
	}
	k.Signal(t, "SIGKILL")
	stopped, n := w.await(t, n, "the end", of(identity.ContainerStopped, "demo"))
	if stopped.Container.CgroupID != started.Container.CgroupID || stopped.Container.Running {
		t.Errorf("stopped: %+v", stopped.Container)
	}
	k.Remove(t)
	_, _ = w.await(t, n, "the removal", of(identity.ContainerRemoved, "demo"))
}

func TestWatchOutlivesTheDaemon(t *testing.T) {
	c := testutil.NewContainerd(t)
	noLeaks(t)
	c.Image(t, box)
	stays := c.Run(t, testutil.RunSpec{ID: "stays", Image: box, Args: []string{"sleep", "1000"}})
	ends := c.Run(t, testutil.RunSpec{ID: "ends", Image: box, Args: []string{"sleep", "1000"}})
	session := stays.ExecDetached(t, "session1", "sleep", "2000")
	c.Kill(t)

	w := startWatch(t, c)
	away, n := w.await(t, 0, "that the daemon is away", kind(identity.Disconnected))
	if away.Err == nil || n != 1 {
		t.Errorf("change %d is %+v", n, away)
	}
	c.Start(t)
	_, n = w.await(t, n, "the first list", lists("ends"))
	exec, n := w.await(t, n, "the exec that ran already", kind(identity.ExecStarted))
	if exec.Exec.ID != "session1" || exec.Exec.PID != session || !exec.Exec.StartedAt.IsZero() {
		t.Errorf("exec is %+v, want session1 with process %d", exec.Exec, session)
	}

	c.Kill(t)
	_, n = w.await(t, n, "that the daemon is away again", kind(identity.Disconnected))
	if err := syscall.Kill(int(ends.PID), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	time.Sleep(3 * time.Second) // several attempts to connect
	c.Start(t)
	again, n := w.await(t, n, "the second list", lists("stays"))
	checkAfterRestart(t, again.All, stays, c.Namespace)
	aways := 0
	for _, change := range w.all() {
		if change.Kind == identity.Disconnected {
			aways++
		}
	}
	if aways != 2 {
		t.Errorf("that the daemon is away was told %d times, want 2", aways)
	}

	k := c.Run(t, testutil.RunSpec{ID: "later", Image: box, Args: []string{"sleep", "1000"}})
	later, _ := w.await(t, n, "a container after the restart", of(identity.ContainerStarted, "later"))
	checkCgroup(t, later.Container, k.PID, "/"+c.Namespace+"/later")
}

func checkAfterRestart(t *testing.T, all []identity.Container, stays *testutil.Container, namespace string) {
	t.Helper()
	if len(all) != 2 {
		t.Errorf("%d containers were listed, want 2", len(all))
	}
	running, _ := find(all, "stays")
	checkCgroup(t, running, stays.PID, "/"+namespace+"/stays")
	if !running.Running {
		t.Error("the container that runs was listed as not running")
	}
	ended, ok := find(all, "ends")
	if !ok || ended.Running || ended.InitPID != 0 || ended.CgroupID != 0 {
		t.Errorf("the container that ended meanwhile was listed as %+v, %v", ended, ok)
	}
}

func TestWatchFollowsNamespaces(t *testing.T) {
	c := testutil.NewContainerd(t)
	noLeaks(t)
	other := testutil.UniqueName()
	c.Image(t, box)
	c.ImageIn(t, other, box)
	all, one := startWatch(t, c), startWatch(t, c, other)
	all.await(t, 0, "the first list", kind(identity.Resynced))
	one.await(t, 0, "the first list", kind(identity.Resynced))
	sleep := []string{"sleep", "1000"}
	c.Run(t, testutil.RunSpec{ID: "same", Image: box, Args: sleep})
	second := c.Run(t, testutil.RunSpec{ID: "same", Image: box, Args: sleep, Namespace: other})

	in := func(namespace string) func(identity.Change) bool {
		return func(change identity.Change) bool {
			return of(identity.ContainerStarted, "same")(change) && change.Container.Namespace == namespace
		}
	}
	all.await(t, 0, "the container of the first namespace", in(c.Namespace))
	all.await(t, 0, "the container of the other namespace", in(other))
	started, _ := one.await(t, 0, "the container of the other namespace", in(other))
	checkCgroup(t, started.Container, second.PID, "/"+other+"/same")
	for _, change := range one.all() {
		if change.Container.Namespace == c.Namespace || len(change.All) > 1 {
			t.Errorf("the watch of %s was told of %s: %+v", other, c.Namespace, change)
		}
	}
}

func TestWatchNamesPods(t *testing.T) {
	c := testutil.NewContainerd(t)
	noLeaks(t)
	c.Image(t, box)
	sleep := []string{"sleep", "1000"}
	annotations := func(more map[string]string) map[string]string {
		more["io.kubernetes.cri.sandbox-id"] = "pause"
		more["io.kubernetes.cri.sandbox-name"] = "checkout-1"
		more["io.kubernetes.cri.sandbox-namespace"] = "shop"
		more["io.kubernetes.cri.sandbox-uid"] = "uid-1"
		return more
	}
	c.Run(t, testutil.RunSpec{
		ID: "pause", Image: box, Args: sleep, Annotations: annotations(map[string]string{"io.kubernetes.cri.container-type": "sandbox"}),
		Labels: map[string]string{"app": "checkout", "io.cri-containerd.kind": "sandbox", "io.kubernetes.pod.name": "checkout-1"},
	})
	// Started before the watch, and after: both ways lead to the same.
	app := annotations(map[string]string{"io.kubernetes.cri.container-type": "container", "io.kubernetes.cri.container-name": "web"})
	c.Run(t, testutil.RunSpec{ID: "app1", Image: box, Args: sleep, Annotations: app, Labels: map[string]string{"app": "of-the-image"}})
	w := startWatch(t, c)
	listed, n := w.await(t, 0, "the first list", lists("app1"))
	c.Run(t, testutil.RunSpec{ID: "app2", Image: box, Args: sleep, Annotations: app, HostNetwork: true})
	started, n := w.await(t, n, "the second container", of(identity.ContainerStarted, "app2"))
	// What an image can say, and no more than that: it is no pod's.
	c.Run(t, testutil.RunSpec{ID: "liar", Image: box, Args: sleep, Labels: map[string]string{
		"io.kubernetes.pod.name": "checkout-1", "io.kubernetes.pod.namespace": "shop", "io.cri-containerd.kind": "sandbox",
	}})
	liar, _ := w.await(t, n, "the liar", of(identity.ContainerStarted, "liar"))

	app1, _ := find(listed.All, "app1")
	sandbox, _ := find(listed.All, "pause")
	for _, tc := range []struct {
		got    identity.Container
		name   string
		typ    identity.Type
		pod    identity.Pod
		labels map[string]string
	}{
		{app1, "web", identity.TypeApp, identity.Pod{Namespace: "shop", Name: "checkout-1", UID: "uid-1"}, map[string]string{"app": "checkout"}},
		{started.Container, "web", identity.TypeApp, identity.Pod{Namespace: "shop", Name: "checkout-1", UID: "uid-1", HostNetwork: true}, map[string]string{"app": "checkout"}},
		{sandbox, "pause", identity.TypeSandbox, identity.Pod{Namespace: "shop", Name: "checkout-1", UID: "uid-1"}, map[string]string{"app": "checkout"}},
		{liar.Container, "liar", identity.TypeApp, identity.Pod{Namespace: c.Namespace, Name: "liar"}, liar.Container.Labels},
	} {
		if tc.got.Name != tc.name || tc.got.Type != tc.typ {
			t.Errorf("%s is %q of type %s, want %q of type %s", tc.got.ID, tc.got.Name, tc.got.Type, tc.name, tc.typ)
		}
		if diff := cmp.Diff(tc.pod, tc.got.Pod); diff != "" {
			t.Errorf("pod of %s (-want +got):\n%s", tc.got.ID, diff)
		}
		got := map[string]string{}
		for key, value := range tc.got.Labels {
			if !strings.HasPrefix(key, "io.containerd.") { // ctr's own
				got[key] = value
			}
		}
		want := map[string]string{}
		for key, value := range tc.labels {
			if !strings.HasPrefix(key, "io.containerd.") {
				want[key] = value
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("labels of %s (-want +got):\n%s", tc.got.ID, diff)
		}
	}
}
