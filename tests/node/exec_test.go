package node

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/sallyport/sallyport/tests/testutil"
)

// TestMainAndExec runs a pod whose main program is allowed, and execs of every kind, which are not.
func TestMainAndExec(t *testing.T) {
	forEach(t, func(t *testing.T, r release) {
		s := newScene(t, r)
		s.agent.Policy(t, "web.yaml", s.webPolicy())
		s.agent.start(t)
		web := s.pod(t, podSpec{name: "web"}).run(t, "main", s.knock(testutil.EchoPort))
		s.agent.awaitGoverned(t, web)
		s.wantLSM(t)
		more(t, "the main program is allowed", func() string { return web.output(t) }, "connect-tcp: ok", 5)

		for _, port := range []int{testutil.EchoPort, forbiddenPort, probePort} {
			line := s.connect(port)
			want(t, "exec", web.exec(t, strings.Fields(line)...).Stdout, "EPERM")
			want(t, "exec without terminal", web.stream(t, false, "sh", "-c", line), "EPERM")
			want(t, "exec with terminal", web.stream(t, true, "sh", "-c", line), "EPERM")
		}
		s.wantTerminals(t, web, 3)
		s.sequence(t, web, times(100))
		s.parallel(t, web, times(50))
		s.forbidden.ExpectNone(t)
		s.probed.ExpectNone(t)
		onlyOK(t, "the main program", web.output(t), "ok")
		for _, e := range s.agent.observe(t, "--verdict", "Deny") {
			if e.Origin != "Exec" || e.ContainerID != web.id || e.Session == "" {
				t.Errorf("a denial is of %+v, want a session of Exec", e)
			}
		}
		s.noLosses(t)
	})
}

// wantTerminals checks that the report says of sessions that they had a terminal, and of no others. made is how many had one
// so far: they were over so soon that the runtime may have told of them too late.
func (s *scene) wantTerminals(t *testing.T, c *container, made int) {
	t.Helper()
	testutil.Eventually(t, "a session with a terminal is told", func() error {
		c.stream(t, true, "sleep", "0.5")
		c.stream(t, false, "sleep", "0.5")
		made++
		with, without := 0, 0
		for _, e := range s.agent.observe(t, "--kind", "session-end") {
			switch {
			case e.Terminal:
				with++
			case e.Session != "":
				without++
			}
		}
		if with > made {
			t.Fatalf("%d sessions had a terminal, and %d are told of with one", made, with)
		}
		if with == 0 || without == 0 {
			return fmt.Errorf("%d with a terminal and %d without", with, without)
		}
		return nil
	})
}

// sequence makes execs in a row that all must be denied, each a session of its own.
func (s *scene) sequence(t *testing.T, c *container, n int) {
	t.Helper()
	for i := range n {
		want(t, fmt.Sprintf("exec %d in a row", i), c.exec(t, strings.Fields(s.connect(testutil.EchoPort))...).Stdout, "EPERM")
	}
}

// parallel makes execs at once that all must be denied.
func (s *scene) parallel(t *testing.T, c *container, n int) {
	t.Helper()
	var all sync.WaitGroup
	outputs, errs := make([]string, n), make([]error, n)
	ctx := call(t)
	for i := range n {
		all.Go(func() {
			result, err := c.execSync(ctx, strings.Fields(s.connect(testutil.EchoPort))...)
			outputs[i], errs[i] = result.Stdout, err
		})
	}
	all.Wait()
	for i := range n {
		if errs[i] != nil {
			t.Errorf("exec %d at once: %v", i, errs[i])
			continue
		}
		want(t, fmt.Sprintf("exec %d at once", i), outputs[i], "EPERM")
	}
}

func (s *scene) noLosses(t *testing.T) {
	t.Helper()
	for _, loss := range s.agent.status(t).Losses {
		if loss.Count > 0 {
			t.Errorf("%d events were lost at %s", loss.Count, loss.Site)
		}
	}
}
