package agent

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/tests/testutil"
)

// TestLearntPolicyHolds learns a policy from what a workload without one does, and puts it in force: the main
// program goes on, and what only a shell had done is denied.
func TestLearntPolicyHolds(t *testing.T) {
	s := newScene(t)
	s.agent.Start(t)
	web := s.run(t, "web", s.load(testutil.EchoPort))
	more(t, "the main program connects", func() string { return web.Log(t) }, "loop-tcp: ok=200 ", 1)
	s.wantShell(t, web, "ok")

	seen := filepath.Join(t.TempDir(), "seen.jsonl")
	testutil.Eventually(t, "both are observed", func() error {
		r := s.agent.Run(t, "observe", "--socket", s.agent.Path("api.sock"), "-o", "json")
		for _, part := range []string{`"origin":"Main"`, `"origin":"Exec"`, fmt.Sprintf(`"peer":"%s:%d/TCP"`, s.net.ServerAddr, forbiddenPort), `"podLabels":"app=web`} {
			if !strings.Contains(r.Stdout, part) {
				return fmt.Errorf("no %s in %d bytes of events (%s)", part, len(r.Stdout), r.Stderr)
			}
		}
		return os.WriteFile(seen, []byte(r.Stdout), 0o600)
	})
	learnt := s.agent.Run(t, "policy", "learn", "--mode", "Enforce", seen)
	if learnt.Code != 0 || !strings.Contains(learnt.Stdout, "binaries: [/bin/victim]") || !strings.Contains(learnt.Stdout, "app: web") {
		t.Fatalf("learn ended with %d: %s\n%s", learnt.Code, learnt.Stderr, learnt.Stdout)
	}
	if !strings.Contains(learnt.Stderr, "it is from an exec session") {
		t.Errorf("nothing was left out: %s", learnt.Stderr)
	}
	s.agent.Policy(t, "learnt.yaml", learnt.Stdout)
	s.agent.awaitGoverned(t, "web")

	diff := s.agent.Run(t, "policy", "diff", "--policies", s.agent.Path("policies"), "--events", seen, "-o", "columns", "--exit-code")
	if want := fmt.Sprintf("%s:%d/TCP", s.net.ServerAddr, forbiddenPort); diff.Code != 1 || !strings.Contains(diff.Stdout, want) || strings.Contains(diff.Stdout, "Main /bin/victim") {
		t.Errorf("diff ended with %d: %s\n%s", diff.Code, diff.Stderr, diff.Stdout)
	}
	s.wantShell(t, web, "EPERM")
	more(t, "the main program goes on", func() string { return web.Log(t) }, "loop-tcp: ok=200 ", 2)
}
