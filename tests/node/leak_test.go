package node

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/cilium/ebpf"

	"github.com/sallyport/sallyport/tests/testutil"
)

// usage is what an agent and its containers hold.
type usage struct {
	cgroups, fds, links int
	entries             map[string]int // of the kernel maps that grow with containers
}

// use counts what is held now.
func (s *scene) use(t *testing.T) usage {
	t.Helper()
	u := usage{entries: map[string]int{}}
	for _, name := range []string{"container_by_cgroup", "netns_by_cookie", "gate_by_ifindex", "probe_by_slot"} {
		m, err := ebpf.LoadPinnedMap(filepath.Join(s.agent.path("bpf"), "sallyport", name), &ebpf.LoadPinOptions{ReadOnly: true})
		if err != nil {
			t.Fatal(err)
		}
		key := make([]byte, m.KeySize())
		it, value := m.Iterate(), make([]byte, m.ValueSize())
		for it.Next(&key, &value) {
			u.entries[name]++
		}
		if err := it.Err(); err != nil {
			t.Fatal(err)
		}
		_ = m.Close() // read only
	}
	fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", s.agent.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	links, err := os.ReadDir(filepath.Join(s.agent.path("bpf"), "sallyport", "links"))
	if err != nil {
		t.Fatal(err)
	}
	u.fds, u.links = len(fds), len(links)
	u.cgroups = len(s.agent.status(t).Workloads)
	return u
}

// TestNothingLeaks starts and removes many pods at once, with execs in each, and looks at what is left.
func TestNothingLeaks(t *testing.T) {
	forEach(t, func(t *testing.T, r release) {
		s := newScene(t, r, r.calls())
		s.agent.policy(t, "web.yaml", s.webPolicy())
		s.agent.start(t)
		s.churn(t, 1) // what is made once is there
		before := s.use(t)
		s.churn(t, 16)
		testutil.Eventually(t, "everything is as before", func() error {
			after := s.use(t)
			// Descriptors of a connection that closes, and of the status call itself, come and go.
			if fmt.Sprint(after.entries, after.links, after.cgroups) != fmt.Sprint(before.entries, before.links, before.cgroups) || after.fds > before.fds+2 {
				return fmt.Errorf("%+v, before %+v", after, before)
			}
			return nil
		})
		s.forbidden.ExpectNone(t)
		s.noLosses(t)
	})
}

// churn makes pods at once, each with an exec, and removes them.
func (s *scene) churn(t *testing.T, n int) {
	t.Helper()
	var containers []*container
	for i := range n {
		p := s.pod(t, podSpec{name: fmt.Sprintf("churn-%d-%d", n, i)})
		containers = append(containers, p.create(t, "main", s.knock(testutil.EchoPort)))
	}
	ctx := call(t)
	atOnce(t, containers, func(c *container) error { return c.tryStart(ctx) })
	atOnce(t, containers, func(c *container) error { return s.denied(ctx, c) })
	for _, c := range containers {
		more(t, c.pod.spec.name+" is allowed", func() string { return c.output(t) }, "connect-tcp: ok", 1)
		onlyOK(t, c.pod.spec.name, c.output(t), "ok")
	}
	atOnce(t, containers, func(c *container) error { return s.removePod(ctx, c.pod.id) })
}

// denied executes a connect in a container, which must be denied.
func (s *scene) denied(ctx context.Context, c *container) error {
	result, err := c.execSync(ctx, strings.Fields(s.connect(testutil.EchoPort))...)
	if err == nil && result.Stdout != "connect-tcp: EPERM\n" {
		err = fmt.Errorf("an exec got %q, want EPERM", result.Stdout)
	}
	return err
}

// atOnce does the same with all containers at the same time.
func atOnce(t *testing.T, containers []*container, do func(*container) error) {
	t.Helper()
	var all sync.WaitGroup
	errs := make([]error, len(containers))
	for i, c := range containers {
		all.Go(func() { errs[i] = do(c) })
	}
	all.Wait()
	for i, err := range errs {
		if err != nil {
			t.Errorf("pod %s: %v", containers[i].pod.spec.name, err)
		}
	}
}
