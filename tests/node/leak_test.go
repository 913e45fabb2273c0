package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/cilium/ebpf"

	"github.com/sallyport/sallyport/tests/testutil"
)

// usage is what an agent and its containers hold.
type usage struct {
	workloads, fds, links, goroutines int
	entries                           map[string]int // of the kernel maps that grow with containers
}

// use counts what is held now.
func (s *scene) use(t *testing.T) usage {
	t.Helper()
	u := usage{entries: map[string]int{}}
	for _, name := range []string{"container_by_cgroup", "netns_by_cookie", "gate_by_ifindex", "probe_by_slot"} {
		m, err := ebpf.LoadPinnedMap(filepath.Join(s.agent.Path("bpf"), "sallyport", name), &ebpf.LoadPinOptions{ReadOnly: true})
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
	fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", s.agent.Cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	links, err := os.ReadDir(filepath.Join(s.agent.Path("bpf"), "sallyport", "links"))
	if err != nil {
		t.Fatal(err)
	}
	u.fds, u.links = len(fds), len(links)
	u.workloads, u.goroutines = len(s.agent.status(t).Workloads), s.agent.goroutines(t)
	return u
}

// idle counts what is held when all containers are gone, for the agent too: it hears of them later than their runtime, and
// gathers what nobody waits for.
func (s *scene) idle(t *testing.T) (u usage) {
	t.Helper()
	testutil.Eventually(t, "the agent has no containers", func() error {
		if u = s.use(t); u.workloads > 0 || len(u.entries) > 0 {
			return fmt.Errorf("%+v", u)
		}
		return nil
	})
	return u
}

// goroutines asks the agent's metrics.
func (a *agent) goroutines(t *testing.T) int {
	t.Helper()
	var text []byte
	a.node.net.Node.Do(t, func() error {
		conn, err := net.Dial("tcp", metricsAddress)
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintf(conn, "GET /metrics HTTP/1.0\r\n\r\n"); err != nil {
			return err
		}
		text, err = io.ReadAll(conn)
		return errors.Join(err, conn.Close())
	})
	for line := range strings.Lines(string(text)) {
		if number, ok := strings.CutPrefix(strings.TrimSpace(line), "go_goroutines "); ok {
			n, err := strconv.Atoi(number)
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	t.Fatalf("the metrics tell no number of goroutines: %s", text)
	return 0
}

// leaked says what is more than it was. Descriptors and goroutines of calls that end come and go.
func (u usage) leaked(before usage) error {
	const passing = 3
	same := fmt.Sprint(u.entries, u.links, u.workloads) == fmt.Sprint(before.entries, before.links, before.workloads)
	if !same || u.fds > before.fds+passing || u.goroutines > before.goroutines+passing {
		return fmt.Errorf("%+v, before %+v", u, before)
	}
	return nil
}

// TestNothingLeaks starts and removes many pods at once, with execs in each, and looks at what is left.
func TestNothingLeaks(t *testing.T) {
	forEach(t, func(t *testing.T, r release) {
		s := newScene(t, r, r.calls())
		s.agent.Policy(t, "web.yaml", s.webPolicy())
		s.agent.start(t)
		s.churn(t, 1) // what is made once is there
		before := s.idle(t)
		s.churn(t, 12)
		testutil.Eventually(t, "everything is as before", func() error { return s.use(t).leaked(before) })
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
