package agent

import (
	"strings"
	"testing"

	"github.com/sallyport/sallyport/tests/testutil"
	"github.com/sallyport/sallyport/tests/testutil/inventory"
)

// TestCleanupRemovesEverything cleans up after an agent that was killed, while the main program connects: what BPF has in
// the kernel, and where it is attached and pinned, is what it was before.
func TestCleanupRemovesEverything(t *testing.T) {
	s := newScene(t)
	s.agent.Policy(t, "web.yaml", s.webPolicy())
	web := s.run(t, "web", s.load(testutil.EchoPort))
	main := func() string { return web.Log(t) }
	more(t, "the main program connects", main, "loop-tcp: ok=200 ", 1)
	at := inventory.Place{NetNS: s.net.Node, Cgroup: s.containerd.Namespace, Pins: s.agent.Path("bpf")}
	before := inventory.Take(t, at)
	s.agent.Start(t)
	s.agent.awaitGoverned(t, "web")
	more(t, "the main program connects", main, "loop-tcp: ok=200 ", 1)
	s.agent.Kill(t)
	s.wantShell(t, web, "EPERM")
	s.forbidden.ExpectNone(t)
	here := inventory.Take(t, at).But(before)
	for _, one := range []string{"program label_", "program judge_", "program gate_skb", "program gate_tc", "map control", "link", "attached CGroup", "pin"} {
		kind, name, _ := strings.Cut(one, " ")
		if !here.Has(kind, name) {
			t.Errorf("no %s* is there to be removed:\n%s", one, here)
		}
	}
	if !here.Has("attached", "TCX") && !here.Has("filter", "") {
		t.Errorf("no packets of a pod are gated:\n%s", here)
	}

	r := s.agent.Run(t, "run", "--cleanup", "--config", s.agent.Path("config.yaml"))
	if r.Code != 0 || !strings.HasPrefix(r.Stdout, "removed ") {
		t.Fatalf("cleanup ended with %d: %q %q", r.Code, r.Stdout, r.Stderr)
	}
	inventory.AwaitGone(t, at, before)
	s.wantShell(t, web, "ok")
	more(t, "the main program goes on", main, "loop-tcp: ok=200 ", 3)
	s.wantUnbroken(t, main())
	again := s.agent.Run(t, "run", "--cleanup", "--config", s.agent.Path("config.yaml"))
	if again.Code != 0 || !strings.HasPrefix(again.Stdout, "removed 0 pins") {
		t.Errorf("cleaning up again ended with %d: %q %q", again.Code, again.Stdout, again.Stderr)
	}
}
