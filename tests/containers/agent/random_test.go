package agent

import (
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/sallyport/sallyport/tests/testutil"
	"github.com/sallyport/sallyport/tests/testutil/inventory"
)

// envKills is how often the agent is killed at random, where it is not the few times that every run can afford.
const envKills = "KILLS"

// kills is how often the agent is killed at random.
func kills(t *testing.T) int {
	t.Helper()
	text := os.Getenv(envKills)
	if text == "" {
		return 2 * rounds()
	}
	n, err := strconv.Atoi(text)
	check(t, err)
	return n
}

// TestKilledAtRandom kills the agent again and again wherever it is: starting, adopting, swapping, at rest; meanwhile a shell
// tries what is denied, the main program does what is allowed, and the policy changes. Nothing gets through or breaks, the last
// agent finds what the first has pinned, and a cleanup takes away all there is.
func TestKilledAtRandom(t *testing.T) {
	s := newScene(t)
	web := s.run(t, "web", s.load(testutil.EchoPort))
	at := inventory.Place{NetNS: s.net.Node, Cgroup: s.containerd.Namespace, Pins: s.agent.Path("bpf")}
	before := inventory.Take(t, at)
	s.agent.Policy(t, "web.yaml", s.webPolicy())
	s.agent.Start(t)
	s.agent.awaitGoverned(t, "web")
	attached, pins := s.attached(t), s.tree(t, s.agent.Path("bpf"))
	web.ExecDetached(t, "shell", "sh", "-c", s.knock(forbiddenPort))
	shell, main := func() string { return web.ExecLog(t, "shell") }, func() string { return web.Log(t) }
	more(t, "the shell is denied", shell, "connect-tcp: EPERM", 2)
	begin := time.Now()
	s.awaitSteady(t)
	started := time.Since(begin) // no less than what a start takes, by far

	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	for i := range kills(t) {
		s.agent.Kill(t)
		s.agent.Policy(t, "other.yaml", s.policyOf("other", "  rules: [{name: none"+strconv.Itoa(i%3)+", processes: [{binaries: [/nowhere]}], action: Deny}]\n"))
		s.agent.launch(t)
		time.Sleep(time.Duration(random.Int64N(int64(started)))) // how far it comes is what is tried
		if s.agent.Gone() {
			t.Fatalf("after %d kills the agent ended by itself:\n%s", i, s.agent.Log(t))
		}
	}
	s.agent.Kill(t)
	more(t, "the shell goes on to be denied", shell, "connect-tcp: EPERM", 2)
	more(t, "the main program goes on", main, "loop-tcp: ok=200 ", 2)
	s.agent.Start(t)
	s.agent.awaitGoverned(t, "web")
	s.wantShell(t, web, "EPERM")
	if !s.agent.Status(t).Adopted {
		t.Error("the pins were not adopted")
	}
	if n := s.attached(t); n != attached {
		t.Errorf("%d hooks were attached, and only the first agent had to attach its %d", n, attached)
	}
	if now := s.tree(t, s.agent.Path("bpf")); now != pins {
		t.Errorf("pinned is\n%s\nand was\n%s", now, pins)
	}
	s.forbidden.ExpectNone(t)
	s.wantUnbroken(t, main())
	t.Logf("%d kills, %d connects denied, %d allowed", kills(t), count(shell(), "connect-tcp: EPERM"), 200*count(main(), "loop-tcp:"))
	wantAllDenied(t, shell())
	s.agent.Stop(t)
	if r := s.agent.Run(t, "run", "--cleanup", "--config", s.agent.Path("config.yaml")); r.Code != 0 {
		t.Errorf("cleanup ended with %d: %s", r.Code, r.Stderr)
	}
	inventory.AwaitGone(t, at, before)
}

// awaitSteady restarts the agent and waits until it governs.
func (s *scene) awaitSteady(t *testing.T) {
	t.Helper()
	s.agent.Kill(t)
	s.agent.Start(t)
	s.agent.awaitGoverned(t, "web")
}
