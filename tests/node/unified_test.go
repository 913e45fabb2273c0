package node

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/tests/testutil"
)

// times is how often something is tried that is right every time: in an emulated machine, where a start takes seconds, a
// few times.
func times(n int) int {
	if testutil.InVM() {
		return max(2, n/20)
	}
	return n
}

// withoutLimits is a runc for machines whose cgroup v2 has no controllers, as version 1 has them all: it takes the limits
// that containerd gives every sandbox out of the spec, and is runc then.
const withoutLimits = `#!/bin/sh
bundle=
for arg in "$@"; do
	[ "$bundle" != next ] || bundle=$arg
	[ "$arg" != --bundle ] || bundle=next
done
if [ -n "$bundle" ]; then
	sed -e 's/"shares":[0-9]*,*//' -e 's/"pids":{[^}]*},*//' -e 's/"memory":{[^}]*},*//' "$bundle/config.json" >"$bundle/config.json.new"
	cat "$bundle/config.json.new" >"$bundle/config.json"
fi
exec %s "$@"
`

// unified makes a node one with cgroup v2 alone, whatever the machine has.
func unified(t *testing.T) func(*node) {
	return func(n *node) {
		n.over["/sys/fs/cgroup"] = testutil.UnifiedHierarchy(t)
		runc, err := testutil.LookPath("runc")
		if err != nil {
			testutil.Unsupported(t, "runc", err.Error())
		}
		if err := os.Mkdir(n.path("bin"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(n.path("bin/runc"), fmt.Appendf(nil, withoutLimits, runc), 0o755); err != nil {
			t.Fatal(err)
		}
	}
}

// TestPureCgroupV2 governs pods on a node that has no cgroup v1, from their first instruction on.
func TestPureCgroupV2(t *testing.T) {
	if testutil.InVM() {
		t.Skip("the guest has cgroup v2 alone, for every test")
	}
	forEach(t, func(t *testing.T, r release) {
		s := newScene(t, r, r.calls(), unified(t))
		s.agent.Policy(t, "web.yaml", s.webPolicy())
		s.agent.start(t)
		p := s.pod(t, podSpec{name: "web"})
		for i := range 3 {
			c := p.run(t, fmt.Sprintf("first%d", i), s.firstInstruction())
			want(t, "the first instruction of "+c.name, c.awaitOutput(t), "EPERM")
		}
		web := p.run(t, "main", s.knock(testutil.EchoPort))
		more(t, "the main program is allowed", func() string { return web.output(t) }, "connect-tcp: ok", 3)
		s.sequence(t, web, 5)
		want(t, "exec with terminal", web.stream(t, true, "sh", "-c", s.connect(testutil.EchoPort)), "EPERM")
		// Of the container's own cgroup namespace only the root can be seen: the v2 layout is the one that was meant.
		if own := web.exec(t, "grep", "^0:", "/proc/self/cgroup").Stdout; strings.TrimSpace(own) != "0::/" {
			t.Errorf("the container sees its cgroup as %q", own)
		}
		onlyOK(t, "the main program", web.output(t), "ok")
		s.forbidden.ExpectNone(t)
		s.noLosses(t)
	})
}

// wantLSM checks in a guest, where it can be, that BPF LSM judges calls.
func (s *scene) wantLSM(t *testing.T) {
	t.Helper()
	if !testutil.InVM() {
		return
	}
	for _, h := range s.agent.status(t).Hooks {
		if h.Name == "connect" && h.Step == "lsm" {
			return
		}
	}
	t.Errorf("connect is not judged by BPF LSM: %+v", s.agent.status(t).Hooks)
}
