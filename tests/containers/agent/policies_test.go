package agent

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/policy/compile"
	"github.com/sallyport/sallyport/tests/testutil"
)

// awaitPolicy waits until the status has an entry of that file that check accepts.
func (a *agent) awaitPolicy(t *testing.T, what, file string, check func(policyStatus) bool) {
	t.Helper()
	a.awaitStatus(t, what, func(s status) error {
		for _, p := range s.Policies {
			if p.File == file && check(p) {
				return nil
			}
		}
		return fmt.Errorf("no such entry of %s", file)
	})
}

// awaitShell waits until a shell in the container gets that answer from the forbidden server.
func (s *scene) awaitShell(t *testing.T, k *testutil.Container, what, want string) {
	t.Helper()
	testutil.Eventually(t, what, func() error {
		r := k.Exec(t, "sh", "-c", s.connect(forbiddenPort))
		if got := strings.TrimSpace(r.Stdout); got != "connect-tcp: "+want {
			return fmt.Errorf("a shell got %q", got)
		}
		return nil
	})
}

func (a *agent) removePolicy(t *testing.T, name string) {
	t.Helper()
	if err := os.Remove(filepath.Join(a.Path("policies"), name)); err != nil {
		t.Fatal(err)
	}
}

// onlyMain is webPolicy without the rule about shells.
func (s *scene) onlyMain() string {
	text, _, _ := strings.Cut(s.webPolicy(), "  - name: shells")
	return text
}

func TestPolicyFilesAreFollowed(t *testing.T) {
	s := newScene(t)
	s.agent.Start(t)
	web := s.run(t, "web", "sleep 1000")
	s.wantShell(t, web, "ok")
	s.agent.Policy(t, "web.yaml", s.webPolicy())
	s.agent.awaitGoverned(t, "web")
	s.wantShell(t, web, "EPERM")

	s.agent.Policy(t, "web.yaml", strings.Replace(s.onlyMain(), "toCIDR:", "toCIDRs:", 1))
	s.agent.awaitPolicy(t, "the broken file is told", "web.yaml", func(p policyStatus) bool {
		return strings.Contains(p.Error, "web.yaml:10:") && strings.Contains(p.Error, "spec.rules[0].egress[0].toCIDRs") && strings.Contains(p.Error, "toCIDR")
	})
	s.agent.awaitPolicy(t, "its last good version is kept", "web.yaml", func(p policyStatus) bool {
		return p.Name == s.containerd.Namespace+"/web" && len(p.Workloads) == 1 && p.Error == ""
	})
	s.wantShell(t, web, "EPERM")

	s.agent.Kill(t) // and with it the last good version
	s.agent.Start(t)
	s.agent.awaitPolicy(t, "the broken file is told again", "web.yaml", func(p policyStatus) bool { return strings.Contains(p.Error, "web.yaml:10:") })
	testutil.Eventually(t, "the pinned policies stay", func() error {
		if !strings.Contains(s.agent.Log(t), "the policies cannot be put in force") {
			return errors.New("not in the log")
		}
		return nil
	})
	s.wantShell(t, web, "EPERM")

	s.agent.Policy(t, "web.yaml", s.onlyMain())
	s.awaitShell(t, web, "the mended file takes effect", "ok")

	s.agent.Policy(t, "web.yaml", s.webPolicy())
	s.awaitShell(t, web, "the file changed back takes effect", "EPERM")
	s.agent.Policy(t, "zz.yaml", s.onlyMain())
	s.agent.awaitPolicy(t, "the second file of the same policy is told", "zz.yaml", func(p policyStatus) bool {
		return strings.Contains(p.Error, "zz.yaml:1:1: metadata.name: ") && strings.Contains(p.Error, "is also in web.yaml")
	})
	s.wantShell(t, web, "EPERM")
	s.agent.removePolicy(t, "zz.yaml")
	s.agent.awaitStatus(t, "the file that went is forgotten", func(st status) error {
		if len(st.Policies) != 1 {
			return errors.New("it is there")
		}
		return nil
	})

	s.agent.removePolicy(t, "web.yaml")
	s.awaitShell(t, web, "a removed file takes its rules along", "ok")
	s.agent.awaitStatus(t, "and the gate", func(st status) error {
		if len(st.Policies) != 0 || len(st.Workloads) != 1 || st.Workloads[0].Governed || st.Workloads[0].GateInterface != "" {
			return errors.New("something is left")
		}
		return nil
	})
	s.wantShell(t, web, "ok")
}

func TestPolicyDirectoryGoesAndComes(t *testing.T) {
	s := newScene(t)
	s.agent.Policy(t, "web.yaml", s.webPolicy())
	s.agent.Start(t)
	web := s.run(t, "web", "sleep 1000")
	s.agent.awaitGoverned(t, "web")
	if err := os.RemoveAll(s.agent.Path("policies")); err != nil {
		t.Fatal(err)
	}
	testutil.Eventually(t, "the missing directory is told", func() error {
		if !strings.Contains(s.agent.Log(t), "policy directory cannot be watched; the policies in force stay") {
			return errors.New("not in the log")
		}
		return nil
	})
	s.agent.awaitGoverned(t, "web")
	s.wantShell(t, web, "EPERM")
	if err := os.Mkdir(s.agent.Path("policies"), 0o700); err != nil {
		t.Fatal(err)
	}
	s.agent.Policy(t, "web.yaml", s.onlyMain())
	s.awaitShell(t, web, "the directory made again is read", "ok")
	s.agent.Policy(t, "web.yaml", s.webPolicy())
	s.awaitShell(t, web, "and watched", "EPERM")
}

func TestPoliciesThatDoNotCompileLeaveTheFormer(t *testing.T) {
	s := newScene(t)
	s.agent.Policy(t, "web.yaml", s.webPolicy())
	s.agent.Start(t)
	web := s.run(t, "web", "sleep 1000")
	s.agent.awaitGoverned(t, "web")
	var many strings.Builder
	many.WriteString("  rules:\n")
	for i := range compile.MaxRules + 1 {
		fmt.Fprintf(&many, "  - {name: r%d, processes: [{origins: [Main]}], egress: [{toCIDR: [203.0.113.%d/32]}]}\n", i, i%256)
	}
	revision := s.agent.Status(t).Revision
	s.agent.Policy(t, "many.yaml", s.policyOf("many", many.String()))
	s.agent.awaitPolicy(t, "too many rules are told", "many.yaml", func(p policyStatus) bool {
		return strings.Contains(p.Error, "not in force: ") && strings.Contains(p.Error, fmt.Sprint(compile.MaxRules))
	})
	s.agent.awaitPolicy(t, "the former policy is not blamed", "web.yaml", func(p policyStatus) bool {
		return p.Error == "" && len(p.Workloads) == 1
	})
	s.wantShell(t, web, "EPERM")
	after := s.run(t, "after", "sleep 1000")
	s.agent.awaitGoverned(t, "after")
	s.wantShell(t, after, "EPERM")
	if now := s.agent.Status(t).Revision; now != revision+1 { // the new container
		t.Errorf("revision %d, want %d", now, revision+1)
	}
	s.agent.removePolicy(t, "many.yaml")
	s.agent.Policy(t, "web.yaml", s.onlyMain())
	s.awaitShell(t, web, "policies that compile again take effect", "ok")
}

func TestAuditReportsAndLetsPass(t *testing.T) {
	s := newScene(t)
	s.agent.Policy(t, "web.yaml", strings.Replace(s.webPolicy(), "  rules:", "  mode: Audit\n  rules:", 1))
	s.agent.Start(t)
	web := s.run(t, "web", "sleep 1000")
	s.agent.awaitGoverned(t, "web")
	s.wantShell(t, web, "ok")
	if len(s.forbidden.Contacts()) != 1 {
		t.Errorf("the server was reached by %v, want by the shell", s.forbidden.Contacts())
	}
	want := fmt.Sprintf("%s:%d/TCP", s.net.ServerAddr, forbiddenPort)
	testutil.Eventually(t, "what would have been denied is told", func() error {
		for _, e := range s.agent.Observe(t, "--verdict", "Audit") {
			if e.Peer == want && e.Would == "Deny" && e.Rule == s.containerd.Namespace+"/web/shells" && e.Severity == "critical" {
				return nil
			}
		}
		return errors.New("no such event")
	})
}
