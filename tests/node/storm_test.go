package node

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/sallyport/sallyport/tests/testutil"
)

const (
	stormPods  = 50
	stormExecs = 200
)

// TestStorm starts 50 pods at once, executes 200 programs in them at once, and deletes them at once: everything gets its
// verdict, and nothing is left.
func TestStorm(t *testing.T) {
	c := newCluster(t, current)
	c.agent.Policy(t, "web.yaml", c.webPolicy())
	c.agent.start(t)
	c.run(t, manifest{name: "first", main: c.knock(testutil.EchoPort)}) // what is made once is there
	c.Must(t, "-n", "shop", "delete", "pod", "first", "--now")
	c.awaitNoPods(t)
	before, cgroups := c.idle(t), c.cgroups(t)

	var pods []manifest
	var names []string
	for i := range stormPods {
		name := fmt.Sprintf("storm-%d", i)
		pods = append(pods, manifest{name: name, main: c.connect(forbiddenPort) + "; while :; do " + c.connect(testutil.EchoPort) + "; sleep 1; done"})
		names = append(names, name)
	}
	c.run(t, pods...)
	c.execEverywhere(t)
	c.forbidden.ExpectNone(t)
	for _, name := range names {
		out := c.Must(t, "-n", "shop", "logs", name)
		first, rest, _ := strings.Cut(out, "\n")
		if first != "connect-tcp: EPERM" || count(rest, "connect-tcp: ok") == 0 {
			t.Errorf("%s wrote %q", name, out)
		}
		onlyOK(t, name, rest, "ok")
	}
	c.Must(t, append([]string{"-n", "shop", "delete", "pods", "--now", "--wait=false"}, names...)...)
	c.awaitNoPods(t)
	testutil.Eventually(t, "everything is as before", func() error {
		if left := c.cgroups(t); left != cgroups {
			return fmt.Errorf("%d cgroups, before %d", left, cgroups)
		}
		return c.use(t).leaked(before)
	})
	c.noLosses(t)
}

// execEverywhere executes programs at once in all containers that run, by the CRI as the kubelet does: so many kubectl
// would wait for the machine, not for each other.
func (c *cluster) execEverywhere(t *testing.T) {
	t.Helper()
	var all sync.WaitGroup
	ids := c.running(t)
	errs := make([]error, stormExecs)
	ctx := call(t)
	for i := range stormExecs {
		all.Go(func() { errs[i] = c.denied(ctx, &container{pod: &pod{node: c.node}, id: ids[i%len(ids)]}) })
	}
	all.Wait()
	for i, err := range errs {
		if err != nil {
			t.Errorf("exec %d: %v", i, err)
		}
	}
}

// cgroups is how many cgroups there are below that of all pods.
func (c *cluster) cgroups(t *testing.T) (n int) {
	t.Helper()
	for _, hierarchy := range testutil.CgroupHierarchies(t) {
		err := filepath.WalkDir(filepath.Join(hierarchy, c.name), func(_ string, d os.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				n++
			}
			return nil // what went meanwhile is not there
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return n
}

// awaitNoPods waits until all pods of shop are gone, in the API and on the node.
func (c *cluster) awaitNoPods(t *testing.T) {
	t.Helper()
	testutil.Eventually(t, "the pods are gone", func() error {
		if out := c.Must(t, "-n", "shop", "get", "pods", "-o", "name"); out != "" {
			return fmt.Errorf("there are %d", strings.Count(out, "\n"))
		}
		return nil
	})
}

// TestOutages kills and restarts each part of the node under traffic of a main program and of a shell.
func TestOutages(t *testing.T) {
	c := newCluster(t, current)
	c.agent.Policy(t, "web.yaml", c.webPolicy())
	c.agent.start(t)
	// Their output goes to files: without containerd nobody reads their pipes.
	c.run(t, manifest{name: "web", main: "(" + c.knock(testutil.EchoPort) + ") >/tmp/main 2>&1"})
	web := &container{pod: &pod{node: c.node}, id: c.idOf(t, "web", "main"), name: "web"}
	testutil.Eventually(t, "the pod is governed", func() error { return c.denied(call(t), web) })
	web.exec(t, "sh", "-c", "("+c.knock(forbiddenPort)+") >/tmp/shell 2>&1 &")
	pid := web.pid(t)
	check := func(when string) {
		t.Helper()
		more(t, "the shell is denied "+when, func() string { return inside(t, pid, "/tmp/shell") }, "connect-tcp: EPERM", 3)
		more(t, "the main program goes on "+when, func() string { return inside(t, pid, "/tmp/main") }, "connect-tcp: ok", 3)
	}
	for _, part := range []struct {
		name       string
		stop, back func()
	}{
		{"the API server", func() { c.Stop(t, syscall.SIGKILL) }, func() { c.Start(t) }},
		{"the kubelet", func() { c.StopKubelet(t, syscall.SIGKILL) }, func() { c.StartKubelet(t); c.AwaitNode(t) }},
		{"containerd", func() { c.kill(t) }, func() { c.start(t); c.agent.awaitRuntime(t) }},
		{"the agent", func() { c.agent.End(t, syscall.SIGKILL) }, func() { c.agent.start(t) }},
	} {
		part.stop()
		check("without " + part.name)
		part.back()
		check("after the return of " + part.name)
		want(t, "an exec after the return of "+part.name, web.exec(t, "sh", "-c", c.connect(testutil.EchoPort)).Stdout, "EPERM")
	}
	out, err := c.kubectl(t, append([]string{"exec", "web", "--"}, strings.Fields(c.connect(testutil.EchoPort))...)...)
	if err := expect(out, err, "EPERM"); err != nil {
		t.Error("kubectl exec after all of it: ", err)
	}
	onlyOK(t, "the main program", inside(t, pid, "/tmp/main"), "ok")
	onlyOK(t, "the shell", inside(t, pid, "/tmp/shell"), "EPERM")
	c.forbidden.ExpectNone(t)
}
